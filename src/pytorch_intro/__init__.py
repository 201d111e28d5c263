"""PyTorch Intro: image classifiers with PyTorch Lightning and Hydra. Nothing heavy is imported here."""

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if os.path.basename(sys.argv[0]) == "pytorch-intro":  # noqa: PTH119  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.config.resolvers import register_resolvers

if TYPE_CHECKING:
    from pytorch_intro.inference.load import load_run as load_run

__version__ = "0.1.0"
__all__ = ["load_run"]

register_resolvers()  # so that hydra.compose works in a notebook


def __getattr__(name: str) -> Any:
    if name != "load_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytorch_intro.inference.load import load_run

    return load_run
