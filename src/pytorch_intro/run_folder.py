"""The folder of one run: its config, written first; its result, written last; what lies between."""

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pytorch_intro.atomic import atomic_write
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.flat_config import flatten
from pytorch_intro.foreign_config import check_foreign

log = logging.getLogger(__name__)

Result = dict[str, Any]

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
LOCK, HOLDER, REPLACED = ".lock", ".holder", ".replaced"
REPORT = (CURVES, CONFUSION, MISTAKES) = ("curves.png", "confusion_matrix.png", "mistakes.png")
# By a run and by what is done with it, besides logs.
WRITTEN = (
    "config.yaml", "result.json", "checkpoints", "tensorboard", "csv", "README.md", "eval.json", *REPORT,
    "predictions.csv", "predictions.png", "export", "error.txt", "pruned.txt",
)  # fmt: skip
PARTS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "classifier")  # of its config
# Settings that say nothing about a run.
UNCOMPARED = ("overwrite", "resume", "outputs", "allow", "run_dir", "sweep", "name")


class OccupiedError(UserError):
    """Another process is at work in a folder."""


class RunFolder:
    """Paths in a run's folder, and the rules by which it is begun, carried on and finished.

    A folder with a config.yaml holds a run, and one with a result.json is finished. Neither of the two is ever seen
    half-written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
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
        """Keep other processes out; the system gives the folder free when this one ends, however it does.

        Raises:
            UserError: if another one is at work here, or if nothing can be written.
        """
        if not is_first_process():
            yield
            return
        from filelock import FileLock, Timeout  # 50 ms, which --help need not wait for

        holder, lock = self.path / HOLDER, FileLock(self.path / LOCK, timeout=patience())
        try:
            lock.acquire()
            write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}")
        except Timeout:
            who = holder.read_text() if holder.exists() else "another process"
            raise OccupiedError(
                f"{self.path}: {who} is training here; wait for it to end, or give this run another name"
            ) from None
        except OSError as error:
            if not self.result_file.exists():  # else it can be told all the same
                raise UserError(
                    f"{self.path}: nothing can be written there ({error.strerror}); choose another place by outputs=DIR"
                ) from error
        try:
            yield
        except Exception:
            self.give_up_unless_saved()
            raise
        finally:
            if lock.is_locked:
                holder.unlink(missing_ok=True)
                lock.release()

    def recorded_config(self, config: DictConfig) -> DictConfig:
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
        now = {"overwrite": False, **{setting: config[setting] for setting in kept}}
        return self.trusted_config(now, config.allow)

    def trusted_config(
        self, now: dict[str, Any], allow: Sequence[str], parts: Sequence[str] | None = None
    ) -> DictConfig:
        """The config that the run in this folder was started with, wherever the folder lies by now.

        Args:
            now: Settings that take the place of the recorded ones.
            allow: Packages, modules or objects of the user's own that it may name.
            parts: Names those of its parts that are to be used, if not all are; the others are left out.

        Raises:
            UserError: if there is no run here, or if its config names what it may not.
        """
        recorded = load_config(self.config_file)
        for part in PARTS:
            if not isinstance(recorded.get(part), DictConfig):
                raise UserError(f"{self.config_file}: {part} in it holds no settings; choose another folder")
        merged = cast(DictConfig, OmegaConf.merge(recorded, now, {"run_dir": str(self.path)}))
        unused = [name for name in merged if isinstance(merged.get(name), DictConfig) and name not in (parts or merged)]
        for name in unused:
            del merged[name]
        check_foreign(merged, self.path, allow, str(self.config_file))
        return merged

    def recorded_result(self, config: DictConfig) -> Result | None:
        """The result, if this config has been run here to its end.

        Raises:
            UserError: if the folder belongs to a run with another config.
        """
        if not self.config_file.exists() or config.overwrite:
            return None
        if not is_first_process():  # the first tells the difference to another config
            return self.result() if self.result_file.exists() else None
        if differences := _differences(load_config(self.config_file), config):
            raise UserError(
                f"{self.path} holds a run with another config ({'; '.join(differences)}); "
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
            write_atomically(self.config_file, OmegaConf.to_yaml(config))
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
        log.info("the earlier run is kept in %s until this one has a checkpoint", os.path.relpath(self.replaced))

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
            for path in left:
                path.unlink()
            self.path.rmdir()

    def finish(self, result: Result, card: str) -> None:
        """Write the model card, then the result: the run is finished and needs no checkpoint to fall back to."""
        if is_first_process():
            write_atomically(self.path / "README.md", card)
            (self.checkpoints / PREVIOUS).unlink(missing_ok=True)
            write_atomically(self.result_file, json.dumps(result, indent=2) + "\n")


def load_config(file: Path) -> DictConfig:
    """The config that a run was started with.

    Raises:
        UserError: if there is none, or none that can be read.
    """
    try:
        config = OmegaConf.load(file)
        OmegaConf.to_container(config)
    except FileNotFoundError:
        raise UserError(
            f"{file}: there is no such file, so {file.parent} holds no run; choose another folder"
        ) from None
    except (OSError, YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise UserError(f"{file}: it cannot be read ({one_line(error)}); choose another folder") from error
    if not isinstance(config, DictConfig) or "seed" not in config:
        raise UserError(f"{file}: it is no config of a run; choose another folder")
    return config


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def patience() -> float:
    """Seconds to wait for a folder that is another's: a process of a machine that was lost may live on for a while."""
    return 20.0 if HydraConfig.get().mode == RunMode.MULTIRUN else 0.0


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several on as many devices, which writes for all.

    By what Lightning, torchrun or SLURM have set.
    """
    ranks = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def _differences(recorded: Any, config: DictConfig) -> list[str]:
    """Dotted keys whose values differ, with both values; some say nothing about a run."""
    before, now = flatten(recorded), flatten(config)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    keys = [key for key in changed if key.partition(".")[0] not in UNCOMPARED]
    return [f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here" for key in keys]
