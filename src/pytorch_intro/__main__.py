"""The installed command: pytorch-intro COMMAND …, or python -m pytorch_intro COMMAND …"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from pytorch_intro.common.errors import exit_with_error
from pytorch_intro.common.streams import protect_streams
from pytorch_intro.common.version import __version__
from pytorch_intro.config.paths import PACKAGE

USAGE = """\
PyTorch Intro {version}: train, watch, sweep and use an image classifier.

  pytorch-intro COMMAND [KEY=VALUE …]

Commands:
{commands}

Each has its own --help. data/ and outputs/ are in the project: the working directory, or its nearest parent with a
conf/. To start:

  pytorch-intro train data=sample trainer.max_epochs=1
  pytorch-intro predict run=latest images=PATH
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the others as its own arguments."""
    if arguments is None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C until the command handles it
        protect_streams()
        arguments = sys.argv[1:]
    name, *others = arguments or ["--help"]
    commands = find_commands()
    if name in ("--help", "-h"):
        lines = (f"  {command:<{max(map(len, commands))}}  {text}" for command, text in commands.items())
        print(USAGE.format(version=__version__, commands="\n".join(lines)), end="")
    elif name in ("--version", "-V"):
        print(f"pytorch-intro {__version__}")
    elif name in commands:
        importlib.import_module(f"pytorch_intro.commands.{name}").main(others)
    else:
        nearest = get_close_matches(name, commands, n=1, cutoff=0.65)
        remedy = f"use {nearest[0]}" if nearest else f"choose from {', '.join(commands)}"
        exit_with_error(f"{name}: unknown command; {remedy}, see pytorch-intro --help")


def find_commands() -> dict[str, str]:
    """Return the first line of the docstring of each command, by name: one per file in commands/."""
    files = sorted((PACKAGE / "commands").glob("[!_]*.py"))
    return {file.stem: first_line(file.read_text(encoding="utf-8")) for file in files}


def first_line(source: str) -> str:
    """Return the first line of a module's docstring, without importing the module."""
    return source.removeprefix('"""').partition("\n")[0].removesuffix('"""').removesuffix(".")


if __name__ == "__main__":
    main()
