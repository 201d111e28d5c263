"""Serve a finished run: a web page and a REST API on this computer: python src/serve.py --help"""

import os
import signal

if __name__ == "__main__":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.commands.serve import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
