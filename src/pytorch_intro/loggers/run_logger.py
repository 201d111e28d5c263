"""What the loggers of W&B and MLflow have in common: when they start, what they send, how they end."""

import atexit
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from pytorch_intro.common.errors import StopRun
from pytorch_intro.common.files import write_atomically
from pytorch_intro.config.flatten import flatten
from pytorch_intro.loggers.journal import Journal, Row
from pytorch_intro.runs.config_record import CONFIG, EXTENDED, load_config, load_extensions, recorded_command
from pytorch_intro.runs.folder import BEST, REPORT, Result, RunFolder
from pytorch_intro.training.checkpoint import BestLastCheckpoint
from pytorch_intro.training.result import git_commit, run_name

MODEL_CARD = "README.md"
FILES = (CONFIG, EXTENDED, MODEL_CARD, "train.log")  # sent at the end, with the pictures


class RunLogger(Callback):
    """Base of a logger that is also a callback of the training.

    Every row is written to the journal in the run folder first, then sent. So a resumed run continues the same run on
    the server: it sends what the server lacks, and does not send again what the server has.

    Args:
        folder: Subfolder of the run folder, for the journal and the identity of the run on the server.
        log_model: Whether to send best.ckpt.
    """

    def __init__(self, save_dir: str, folder: str, log_model: bool) -> None:
        self.run = RunFolder(save_dir)
        self.folder = self.run.path / folder
        self.identity_file = self.folder / "run.json"
        self.journal = Journal(self.folder)
        self.has_model = log_model
        self.is_open = False

    # What a server needs; called on rank 0.

    def send(self, row: Row) -> None:
        raise NotImplementedError

    def send_files(self, files: list[Path], pictures: list[Path], model: Path | None) -> None:
        raise NotImplementedError

    def end(self, status: str) -> None:
        """End the run on the server as FINISHED, FAILED or KILLED."""
        raise NotImplementedError

    # What is the same for all servers.

    def open(self, is_new: bool) -> list[Row]:
        """Start or continue the journal, and return the rows of a run that is continued."""
        rows = self.journal.open(is_new)
        self.is_open = True
        atexit.register(self.close, "KILLED")  # the process ends between training and test, for example
        return rows

    def load_identity(self) -> dict[str, str] | None:
        """Return what save_identity has saved; None for a new run."""
        try:
            return {str(key): str(value) for key, value in json.loads(self.identity_file.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return None

    def save_identity(self, **identity: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.identity_file, json.dumps(identity) + "\n")

    def settings(self) -> dict[str, Any]:
        """Return the config of the run, by dotted key; empty in a benchmark."""
        return flatten(load_config(self.run.config_file)) if self.run.config_file.exists() else {}

    def run_tags(self) -> dict[str, str]:
        """Return what describes the run besides its config: name, sweep, folder, command, git_commit, extensions."""
        if not self.run.config_file.exists():
            return {"name": self.run.path.name}
        name = run_name(self.run.path, load_config(self.run.config_file).outputs)
        first, *others = name.split("/")
        is_job = first == "sweeps" and len(others) > 1
        tags = {
            "name": "/".join(others[1:]) if is_job else name,
            "sweep": others[0] if is_job else None,
            "folder": str(self.run.path.resolve()),
            "command": recorded_command(self.run.path),
            "git_commit": git_commit(),
        }
        for extension in load_extensions(self.run.path):
            tags |= {f"extended.{key}": str(value) for key, value in extension.settings.items()}
        return {key: value for key, value in tags.items() if value is not None}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        _ = self.experiment  # type: ignore[attr-defined]  # starts the run
        if self.is_open:
            self.send(self.journal.append(step or 0, {name: float(value) for name, value in metrics.items()}))

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Send nothing: the config has all of them."""

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Keep the run open: the test follows training, and the result follows the test."""

    @property
    def save_dir(self) -> str:
        return str(self.run.path)

    @property
    def log_dir(self) -> str:
        return str(self.folder)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoint = trainer.checkpoint_callback
        if self.is_open and isinstance(checkpoint, BestLastCheckpoint) and (best := checkpoint.best_metric()):
            self.log_metrics(best, trainer.global_step)

    def on_result(self, trainer: Trainer, result: Result) -> None:
        if self.is_open:
            self.finish()

    def finish(self) -> None:
        """Send the files of a finished run, and end it."""
        best = self.run.checkpoints / BEST
        model = best if self.has_model and best.exists() else None
        self.send_files(self.run.files(FILES), self.run.files(REPORT), model)
        self.close("FINISHED")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        is_stopped = isinstance(exception, (KeyboardInterrupt, SystemExit, StopRun))
        self.close("KILLED" if is_stopped else "FAILED")

    def close(self, status: str) -> None:
        if self.is_open:
            self.is_open = False
            atexit.unregister(self.close)
            self.journal.close()
            self.end(status)


def plain_config(folder: RunFolder) -> dict[str, Any]:
    """Return the config of a run as nested dicts and lists; empty in a benchmark."""
    if not folder.config_file.exists():
        return {}
    config: Any = OmegaConf.to_container(load_config(folder.config_file), resolve=False)
    return config
