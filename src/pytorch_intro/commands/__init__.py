"""The commands, one per file: its docstring describes the command, and main(arguments) runs it.

`pytorch-intro NAME` and `python src/NAME.py` run the same main.
"""
