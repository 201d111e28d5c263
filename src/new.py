"""Create a project of your own, with files to change: python src/new.py DIR"""

import os
import signal

if __name__ == "__main__":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.commands.new import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
