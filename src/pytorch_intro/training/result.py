"""The content of result.json."""

import math
import subprocess
from pathlib import Path

import lightning
import torch
from omegaconf import DictConfig

from pytorch_intro.common.version import __version__
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.runs.config_record import recorded_command
from pytorch_intro.runs.folder import METRICS, Result, further_metrics
from pytorch_intro.training.checkpoint import SelectedCheckpoint
from pytorch_intro.training.lightning_internals import callbacks


def result_of(config: DictConfig, trainer: lightning.Trainer, selected: SelectedCheckpoint, seconds: float) -> Result:
    """Return the result of a run after trainer.fit and trainer.test; it took `seconds` in total, in all its processes.

    It has every metric that was logged as val/… or test/…. Accuracies are fractions of 1; images_per_second is that of
    the last epoch; best_epoch is counted from 1; 0 are the weights before the first epoch.
    """
    metrics = selected.metrics | {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {
        "status": "finished",
        "name": run_name(config.run_dir, config.outputs),
        "seed": config.seed,
        **{name: nan_to_none(metrics.get(name)) for name in (*METRICS, *further_metrics(metrics))},
        "temperature": trainer.lightning_module.temperature,
        "epochs": trainer.current_epoch,
        "best_epoch": selected.epoch,
        "parameters": sum(parameter.numel() for parameter in trainer.lightning_module.parameters()),
        "train_seconds": round(metrics["train_seconds"], 3),
        "total_seconds": round(seconds, 3),
        "images_per_second": metrics.get("images_per_second"),
        "device": str(trainer.strategy.root_device),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "pytorch_intro": __version__,
        "git_commit": git_commit(),
        "command": recorded_command(Path(config.run_dir)),
    }


def run_name(folder: str | Path, outputs: str | Path) -> str:
    """Return the path of a run folder in the folder of all runs: first, or sweeps/rates/seed=0."""
    folder, outputs = Path(folder).resolve(), Path(outputs).resolve()
    return folder.relative_to(outputs).as_posix() if folder.is_relative_to(outputs) else folder.name


def run_result_hooks(trainer: lightning.Trainer, result: Result) -> dict[str, str]:
    """Call `on_result(trainer, result)` of each callback that has it, on rank 0, before result.json is written.

    The hook may write files, such as the model card. Rows that it returns, by name, are added to the printed table.
    """
    rows: dict[str, str] = {}
    for callback in callbacks(trainer) if trainer.is_global_zero else []:
        if hook := getattr(callback, "on_result", None):
            rows |= hook(trainer, result) or {}
    return rows


def nan_to_none(value: float | None) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def git_commit() -> str | None:
    """Return the git commit of the project, with -dirty appended if files differ; None outside a checkout."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
