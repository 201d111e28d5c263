"""TensorBoard's HPARAMS page: the settings and the metrics of each run."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from torch.utils.tensorboard.summary import hparams

from pytorch_intro.config.flatten import flatten
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.checkpoint import BestLastCheckpoint

# Settings that do not change what is trained.
EXCLUDED_KEYS = ("name", "outputs", "run_dir", "overwrite", "resume", "allow", "sweep", "callbacks", "logger")
CONSTANT_KEYS = ("classifier._target_", "data._target_", "trainer._target_")
TARGET = "._target_"


class HParams(Callback):
    """Writes the settings of a run at its end, and the best validation score as val/best_accuracy.

    Lightning would write them at the start, with a column hp_metric of -1. The page shows the last value of each
    metric: test/accuracy of the best weights, and val/accuracy of the last epoch.

    Args:
        run_dir: Run folder, whose config.yaml is read.
    """

    def __init__(self, run_dir: str) -> None:
        self.config_file = RunFolder(Path(run_dir)).config_file

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers:
            return
        settings = shown_settings(load_config(self.config_file))
        _, start, end = hparams(settings, {})  # without the first: the page then finds the metrics itself
        checkpoint = trainer.checkpoint_callback
        for logger in loggers:
            for summary in (start, end):
                logger.experiment.file_writer.add_summary(summary)
            if isinstance(checkpoint, BestLastCheckpoint) and checkpoint.best_model_score is not None:
                stage, _, metric = checkpoint.monitor.rpartition("/")
                logger.log_metrics({f"{stage}/best_{metric}": checkpoint.best_model_score}, trainer.global_step)


def shown_settings(config: DictConfig) -> dict[str, Any]:
    """Return the plain values that may differ between runs; for a target the name of its class (model: CNN)."""
    shown = {key: value for key, value in flatten(config).items() if is_shown(key, value)}
    names = {key: str(value).rpartition(".")[2] for key, value in shown.items() if key.endswith(TARGET)}
    return {key.removesuffix(TARGET): names.get(key, value) for key, value in shown.items()}


def is_shown(key: str, value: object) -> bool:
    """Return whether a setting is a plain value that may differ between runs."""
    if key in CONSTANT_KEYS or key.endswith("._partial_") or key.partition(".")[0] in EXCLUDED_KEYS:
        return False
    return isinstance(value, (bool, int, float, str)) and "${" not in str(value)
