"""Evaluate a finished run on its test images, or on others of the same classes: python src/eval.py --help"""

import os
import signal

if __name__ == "__main__":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.commands.eval import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
