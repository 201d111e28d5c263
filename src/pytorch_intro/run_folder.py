"""The folder of one run: its config, written first; its result, written last; what lies between."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pytorch_intro.atomic import write_atomically
from pytorch_intro.claim import HOLDER, LOCK, claimed
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.flat_config import differences, flatten
from pytorch_intro.paths import shown_path
from pytorch_intro.processes import is_first_process
from pytorch_intro.recorded_config import CONFIG, UNCOMPARED, Verify, load_config, trusted_config, with_command

log = logging.getLogger(__name__)

Result = dict[str, Any]

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
REPLACED = ".replaced"
REPORT = (CURVES, CONFUSION, MISTAKES) = ("curves.png", "confusion_matrix.png", "mistakes.png")
CONFUSION_OF_OTHERS = "confusion_matrix_of_others.png"
# By a run and by what is done with it, besides logs.
WRITTEN = (
    CONFIG, "result.json", "checkpoints", "tensorboard", "csv", "README.md", "eval.json", *REPORT,
    CONFUSION_OF_OTHERS, "predictions.csv", "predictions.png", "export", "error.txt", "pruned.txt",
)  # fmt: skip


class RunFolder:
    """Paths in a run's folder, and the rules by which it is begun, carried on and finished.

    A folder with a config.yaml holds a run, and one with a result.json is finished. Neither of the two is ever seen
    half-written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / CONFIG
        self.result_file = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.replaced = self.path / REPLACED
        self.is_mine = False  # whether this process began the run that is here

    @classmethod
    def of(cls, config: DictConfig) -> "RunFolder":
        """The folder of the run that is asked for.

        Raises:
            UserError: if run_dir, which other settings refer to, was set to another one.
        """
        folder = HydraConfig.get().runtime.output_dir
        if config.run_dir != folder:
            raise UserError(f"run_dir={config.run_dir}: it follows from other settings; choose outputs and name")
        return cls(folder)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes out, as claim.py has it; leave the folder as it was if nothing comes of the run."""
        if not is_first_process():
            yield
            return
        is_finished = self.result_file.exists()  # and can be told, if nothing else
        with claimed(self.path, "run", patience(), is_read_only=is_finished):
            try:
                yield
            except Exception:
                self.give_up_unless_saved()
                raise

    def recorded_config(self, config: DictConfig, verify: Verify | None = None) -> DictConfig:
        """The config that the run in this folder was started with, if that is to be carried on: resume=DIR.

        Raises:
            UserError: if it holds no run, if its config names what it may not, or if the command line has settings of
                its own.
        """
        if config.resume is None:
            return config
        given = HydraConfig.get().overrides.task
        own = ("resume=", "outputs=", "allow=")
        others = [setting for setting in given if not setting.lstrip("+").startswith(own)]
        if others:
            raise UserError(f"resume={config.resume}: that run has its own config; leave out {' '.join(others)}")
        kept = ("resume", "outputs", "allow", "sweep")
        now = {"overwrite": False, **{setting: config[setting] for setting in kept if setting in config}}
        return trusted_config(self.path, now, config.allow, verify=verify)

    def recorded_result(self, config: DictConfig) -> Result | None:
        """The result, if this config has been run here to its end.

        Raises:
            UserError: if the folder belongs to a run with another config.
        """
        if not self.config_file.exists() or config.overwrite:
            return None
        if not is_first_process():  # the first tells the difference to another config
            return self.result() if self.result_file.exists() else None
        if different := differences(flatten(load_config(self.config_file)), flatten(config), UNCOMPARED):
            raise UserError(
                f"{self.path} holds a run with another config ({'; '.join(different)}); "
                "give this one another name, or overwrite=true to start anew"
            )
        return self.result() if self.result_file.exists() else None

    def result(self) -> Result:
        """What the finished run recorded.

        Raises:
            UserError: if it cannot be read.
        """
        try:
            result = json.loads(self.result_file.read_text())
            if not result.keys() >= {"name", "val/accuracy", "test/accuracy", "epochs", "parameters"}:
                raise ValueError("it is no result of a run")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.result_file}: it cannot be read ({one_line(error)}); remove it, and the same command carries "
                "on from the last checkpoint"
            ) from error
        return result

    def begin(self, config: DictConfig) -> None:
        """Claim the folder by writing its config.yaml, unless the run there is carried on.

        With overwrite=true an earlier run is put aside, except for its log, which goes on. It is removed when the new
        one has a checkpoint.
        """
        if not is_first_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise UserError(f"{self.checkpoints}: it is no folder; remove it, or give this run another name")
        if config.overwrite and self.config_file.exists():
            self.put_aside()
        if not self.config_file.exists():
            write_atomically(self.config_file, with_command(config))
            self.is_mine = True

    def put_aside(self) -> None:
        """Move the run that is here out of the way; one without checkpoints is not worth that, if another one is.

        What else lies in the folder stays.
        """
        earlier = [path for path in self.path.iterdir() if path.name in WRITTEN]
        if self.replaced.exists() and not self.checkpoints.exists():
            for path in earlier:
                remove(path)
            return
        remove(self.replaced)
        self.replaced.mkdir()
        for path in sorted(earlier, key=lambda path: path == self.config_file):  # it is last, and so tells what is here
            path.rename(self.replaced / path.name)
        log.info("the earlier run is kept in %s until this one has a checkpoint", shown_path(self.replaced))

    def give_up_unless_saved(self) -> None:
        """Leave the folder to another config, or to the run that was put aside, if nothing has been saved."""
        if not self.is_mine or self.checkpoints.exists():
            return
        self.config_file.unlink()
        if self.replaced.exists():
            for path in self.replaced.iterdir():
                remove(self.path / path.name)
                path.rename(self.path / path.name)
            self.replaced.rmdir()

    def discard_unless_begun(self) -> None:
        """Remove what a mistake before the beginning left here: a log and the folder, if there is nothing else."""
        left = list(self.path.iterdir())
        if {path.name for path in left} <= {"train.log", LOCK, HOLDER}:
            with suppress(PermissionError):  # Windows keeps a log that is open
                for path in left:
                    path.unlink()
                self.path.rmdir()

    def finish(self, result: Result, card: str) -> None:
        """Write the model card, then the result: the run is finished and needs no checkpoint to fall back to."""
        if is_first_process():
            write_atomically(self.path / "README.md", card)
            (self.checkpoints / PREVIOUS).unlink(missing_ok=True)
            write_atomically(self.result_file, json.dumps(result, indent=2) + "\n")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def patience() -> float:
    """Seconds to wait for a folder that is another's: a process of a machine that was lost may live on for a while."""
    return 20.0 if HydraConfig.get().mode == RunMode.MULTIRUN else 0.0
