"""Export a finished run to ONNX, torch.export's .pt2 and other formats: python src/export.py --help"""

import os
import signal

if __name__ == "__main__":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.commands.export import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
