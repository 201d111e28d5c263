"""Look at a dataset before training: python src/data_report.py --help"""

import os
import signal

if __name__ == "__main__":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.commands.data_report import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
