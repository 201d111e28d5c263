"""PyTorch Intro: image classifiers with PyTorch Lightning and Hydra. Nothing heavy is imported here."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if Path(sys.argv[0]).stem == "pytorch-intro":  # Ctrl-C during the imports below
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.common.version import __version__

try:
    from pytorch_intro.config.resolvers import register_resolvers
except ModuleNotFoundError as error:  # likely another Python than that of .venv
    if Path(sys.argv[0]).resolve() not in Path(__file__).resolve().parents[1].glob("*.py"):  # such as src/train.py
        raise
    print(
        f"error: {error.name} is not installed in {sys.executable}; activate the environment, as in "
        "source .venv/bin/activate, or install the requirements with pip install -r requirements.txt",
        file=sys.stderr,
    )
    sys.exit(2)

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pytorch_intro.inference.load import load_run as load_run

__all__ = ["TrainedRun", "__version__", "compose", "load_run", "train"]

register_resolvers()  # so that hydra.compose works in a notebook


class TrainedRun(NamedTuple):
    """A finished training: the content of its result.json, and its folder."""

    result: dict[str, Any]
    folder: Path


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Train as `pytorch-intro train …` does, with overrides such as "data=sample" and "trainer.max_epochs=1".

    Example:
        ```python
        result, folder = train(["data=sample", "model=mlp", "name=first"])
        print(result["test/accuracy"])
        ```

    Raises:
        UserError: for a mistake in the overrides, the config or the data; the message has the remedy.
    """
    from pytorch_intro.cli.python_api import call
    from pytorch_intro.commands.train import main

    return TrainedRun(*call(main, "train", overrides))


def compose(overrides: Sequence[str] = (), command: str = "train") -> "DictConfig":
    """Compose the config of a command, as `pytorch-intro train … --cfg job` prints it.

    Example:
        ```python
        datamodule = hydra.utils.instantiate(compose(["data=sample"]).data)
        ```

    Raises:
        UserError: for an unknown setting or choice.
    """
    from pytorch_intro.cli.python_api import compose

    return compose(command, overrides)


def __getattr__(name: str) -> Any:
    if name != "load_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytorch_intro.config.paths import open_project
    from pytorch_intro.inference.load import load_run

    open_project()  # for networks in the project's src/
    return load_run
