"""The folder of a run: config.yaml is written first, result.json last."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.common.files import archive, remove, write_atomically
from pytorch_intro.common.locks import LOCK, LOCK_OWNER, lock_folder
from pytorch_intro.config.flatten import diff, flatten, is_under
from pytorch_intro.config.paths import display_path
from pytorch_intro.config.resolvers import output_dir
from pytorch_intro.runs.config_record import (
    CHANGEABLE,
    CONFIG,
    EXTENDED,
    IGNORED_KEYS,
    Verify,
    change_settings,
    load_config,
    record_extension,
    to_yaml_with_command,
    trusted_config,
)
from pytorch_intro.runs.logs import LOG_DIRS

log = logging.getLogger(__name__)

Result = dict[str, Any]
METRICS = ("val/accuracy", "val/loss", "test/accuracy", "test/loss")  # in every result; null if not measured
CALIBRATION = ("test/ece", "test/nll", "test/ece_uncalibrated", "test/nll_uncalibrated")  # printed in one row

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
REPLACED = ".replaced"
AUTO_KEYS = (("trainer", "threads"), ("trainer", "max_epochs"), ("data", "batch_size"))  # auto is recorded as a number
REPORT = (CURVES, CONFUSION, RELIABILITY, MISTAKES) = (
    "curves.png", "confusion_matrix.png", "reliability.png", "mistakes.png",
)  # fmt: skip
CONFUSION_EXTERNAL, RELIABILITY_EXTERNAL = "confusion_matrix_external.png", "reliability_external.png"
OPERATING_POINT = "operating_point.png"
EXPLANATIONS, MISTAKES_EXPLAINED = "explanations.png", "mistakes_explained.png"
# Written by training, evaluation, prediction and export.
OUTPUT_FILES = (
    CONFIG, EXTENDED, "result.json", "checkpoints", *LOG_DIRS, "README.md", "eval.json", *REPORT,
    CONFUSION_EXTERNAL, RELIABILITY_EXTERNAL, OPERATING_POINT, EXPLANATIONS, MISTAKES_EXPLAINED, "predictions.csv",
    "predictions.png", "export",
)  # fmt: skip
RUN_FILES = (*OUTPUT_FILES, "error.txt", "pruned.txt")  # overwrite=true replaces them


def further_metrics(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics in a result that not every run has: those of metrics=[…] and of callbacks."""
    return [name for name in result if name.startswith(("val/", "test/")) and name not in METRICS]


def shown_metrics(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the further metrics that tables list one by one."""
    return [name for name in further_metrics(result) if name not in CALIBRATION]


def format_metric(name: str, value: float) -> str:
    """Return the value of a metric as text: accuracies in percent."""
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4f}"


class RunFolder:
    """Paths in the folder of a run, and the rules for starting, resuming and finishing it.

    A folder with a config.yaml holds a run; with a result.json the run is finished. Both are written atomically.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / CONFIG
        self.result_file = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.replaced = self.path / REPLACED
        self.is_mine = False  # whether this process started the run in the folder
        self.changed_keys: list[str] = []  # dotted keys of the settings that this process changes

    @classmethod
    def of(cls, config: DictConfig) -> "RunFolder":
        """Return the folder of the run of a config, or raise a UserError if run_dir was overridden."""
        folder = output_dir()
        if config.run_dir != folder:
            raise UserError(f"run_dir={config.run_dir}: cannot be set directly; use outputs=DIR and name=NAME")
        return cls(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder; if the run fails before its first checkpoint, restore the folder."""
        if not is_rank_zero():
            yield
            return
        is_finished = self.result_file.exists()  # then its result can be printed without write permission
        # In a sweep, the process of a lost machine may live on for a while.
        timeout = 20.0 if HydraConfig.get().mode == RunMode.MULTIRUN else 0.0
        with lock_folder(self.path, timeout, is_read_only=is_finished):
            try:
                yield
            except Exception:
                self.rollback_if_unsaved()
                raise

    def recorded_config(self, config: DictConfig, verify: Verify | None = None) -> DictConfig:
        """Return the config, or with resume=DIR that of the run in this folder, with the settings that extend it."""
        if config.resume is None:
            return config
        accepted = ("resume=", "outputs=", "allow=")
        others = [s for s in HydraConfig.get().overrides.task if not s.lstrip("+").startswith(accepted)]
        keys = {text: text.partition("=")[0].lstrip("+") for text in others}
        if fixed := [text for text, key in keys.items() if "." not in key or not is_under(key, CHANGEABLE)]:
            raise UserError(
                f"resume={config.resume}: uses the config of that run; remove {' '.join(fixed)}. Only single settings "
                f"of {', '.join(CHANGEABLE)} can change, as in trainer.max_epochs=12"
            )
        current = {key: config[key] for key in ("resume", "outputs", "allow", "sweep") if key in config}
        recorded = trusted_config(self.path, {"overwrite": False, **current}, config.allow, verify=verify)
        before = flatten(recorded)
        given = {key: value for key, value in flatten(config).items() if is_under(key, list(keys.values()))}
        change_settings(recorded, given)
        self.changed_keys = list(given) if diff(before, flatten(recorded), ()) else []
        return recorded

    def changes(self, config: DictConfig) -> dict[str, Any]:
        """Return the settings that this process changes, by dotted key."""
        values = flatten(config)
        return {key: values[key] for key in self.changed_keys}

    def recorded_result(self, config: DictConfig) -> Result | None:
        """Return the result if the run is finished; None if it is new, unfinished or extended.

        The numbers that the run was started with replace trainer.threads=auto, since the bits depend on it,
        trainer.max_epochs=auto and data.batch_size=auto.
        """
        if config.overwrite or self.changed_keys:
            return None
        config.trainer.max_epochs = config.trainer.get("max_epochs")  # a number instead of an interpolation
        recorded = load_config(self.config_file) if self.config_file.exists() else None
        if recorded is not None:
            for part, key in AUTO_KEYS:
                if config[part].get(key) == "auto":
                    config[part][key] = recorded[part].get(key, "auto")
        if is_rank_zero():
            self.check_is_same_run(config, recorded)
        return self.result() if self.result_file.exists() else None

    def check_is_same_run(self, config: DictConfig, recorded: DictConfig | None) -> None:
        """Raise a UserError if the folder holds a run with another config, or files of a run without its config."""
        if recorded is None:
            if files := self.files(OUTPUT_FILES):
                raise UserError(
                    f"{self.path}: contains {', '.join(path.name for path in files)} but no {CONFIG}, so it is not a "
                    "run; use another name=NAME, or overwrite=true to replace them"
                )
            return
        before, now = flatten(recorded), flatten(config)
        if different := diff(before, now, IGNORED_KEYS):
            old, new = before.get("trainer.max_epochs"), now.get("trainer.max_epochs")
            longer = ""
            if len(different) == 1 and isinstance(old, int) and isinstance(new, int) and -1 < old < new:
                longer = f"resume={display_path(self.path)} trainer.max_epochs={new} to train it longer, "
            raise UserError(
                f"{self.path}: contains a run with a different config ({'; '.join(different)}); "
                f"use {longer}another name=NAME, or overwrite=true"
            )

    def result(self) -> Result:
        """Read result.json, or raise a UserError."""
        try:
            result = json.loads(self.result_file.read_text())
            if not result.keys() >= {"name", "val/accuracy", "test/accuracy", "epochs", "parameters"}:
                raise ValueError("keys are missing")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.result_file}: cannot be read ({first_lines(error)}); remove it, then rerun the command to "
                "resume from the last checkpoint"
            ) from error
        return result

    def begin(self, config: DictConfig) -> None:
        """Write config.yaml, unless the run in the folder is resumed; record the settings that extend it.

        With overwrite=true the previous run is archived, except for its log and files of the user, and removed after
        the first checkpoint of the new run.
        """
        if not is_rank_zero():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise UserError(f"{self.checkpoints}: not a folder; remove it, or use another name=NAME")
        if config.overwrite and (earlier := self.files(RUN_FILES)):
            earlier.sort(key=lambda path: path == self.config_file)  # last: without it the folder holds no run
            archive(earlier, self.replaced, has_results=any(self.checkpoints.glob("*.ckpt")))
            log.info("the previous run is kept in %s until the first checkpoint", display_path(self.replaced))
        if not self.config_file.exists():
            write_atomically(self.config_file, to_yaml_with_command(config))
            self.is_mine = True
        if changes := self.changes(config):
            self.result_file.unlink(missing_ok=True)  # first: the run is not finished any more
            record_extension(self.path, changes)
            log.info("extended: %s", ", ".join(f"{key}={value}" for key, value in changes.items()))

    def rollback_if_unsaved(self) -> None:
        """Remove the run and restore the archived one, if this process started the run and saved no checkpoint.

        Files that the run did not write stay, and so does its log.
        """
        if not self.is_mine or self.checkpoints.exists() or not self.config_file.exists():
            return
        self.config_file.unlink()
        for path in self.files(OUTPUT_FILES):
            with suppress(PermissionError):  # Windows does not remove an open log
                remove(path)
        if self.replaced.exists():
            for path in self.replaced.iterdir():
                remove(self.path / path.name)
                path.rename(self.path / path.name)
            self.replaced.rmdir()

    def files(self, names: Sequence[str]) -> list[Path]:
        """Return the files and folders with these names that the run folder contains."""
        return [path for name in names if (path := self.path / name).exists() or path.is_symlink()]

    def remove_if_empty(self) -> None:
        """Remove the folder if it holds nothing but a log, after a mistake in the settings."""
        files = list(self.path.iterdir()) if self.path.exists() else []
        if files and {path.name for path in files} <= {"train.log", LOCK, LOCK_OWNER}:
            with suppress(PermissionError):  # Windows does not remove an open log
                for path in files:
                    path.unlink()
                self.path.rmdir()

    def finish(self, result: Result) -> None:
        """Remove the fallback checkpoint and write the result, which marks the run finished."""
        if is_rank_zero():
            (self.checkpoints / PREVIOUS).unlink(missing_ok=True)
            write_atomically(self.result_file, json.dumps(result, indent=2) + "\n")
