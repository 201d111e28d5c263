"""TensorBoard's HPARAMS page: the settings of each run beside what came of them."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from torch.utils.tensorboard.summary import hparams

from pytorch_intro.checkpoint import BestAndLast
from pytorch_intro.flat_config import flatten
from pytorch_intro.recorded_config import load_config
from pytorch_intro.run_folder import RunFolder

# Settings that say where and how, not what is trained.
LEFT_OUT = ("name", "outputs", "run_dir", "overwrite", "resume", "allow", "sweep", "callbacks", "logger")
ALWAYS_SO = ("classifier._target_", "data._target_", "trainer._target_")
TARGET = "._target_"


class HParams(Callback):
    """Writes a run's settings at its end, and the best validation as val/best_accuracy.

    Lightning would write them at the beginning, with a column hp_metric of -1. The page takes the last value of each
    metric: test/accuracy, which is of the chosen weights, and val/accuracy of the last epoch.

    Args:
        run_dir: The run's folder, whose config.yaml is read.
    """

    def __init__(self, run_dir: str) -> None:
        self.config_file = RunFolder(Path(run_dir)).config_file

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers:
            return
        settings = shown_settings(load_config(self.config_file))
        _, start, end = hparams(settings, {})  # without the first: the page then finds out itself what there is
        checkpoint = trainer.checkpoint_callback
        for logger in loggers:
            for summary in (start, end):
                logger.experiment.file_writer.add_summary(summary)
            if isinstance(checkpoint, BestAndLast) and checkpoint.best_model_score is not None:
                stage, _, metric = checkpoint.monitor.rpartition("/")
                logger.log_metrics({f"{stage}/best_{metric}": checkpoint.best_model_score}, trainer.global_step)


def shown_settings(config: DictConfig) -> dict[str, Any]:
    """Plain values that may tell one run from another; of a choice the name: model: CNN."""
    shown = {key: value for key, value in flatten(config).items() if is_shown(key, value)}
    names = {key: str(value).rpartition(".")[2] for key, value in shown.items() if key.endswith(TARGET)}
    return {key.removesuffix(TARGET): names.get(key, value) for key, value in shown.items()}


def is_shown(key: str, value: object) -> bool:
    """Whether a setting is a plain value that may tell one run from another."""
    if key in ALWAYS_SO or key.endswith("._partial_") or key.partition(".")[0] in LEFT_OUT:
        return False
    return isinstance(value, (bool, int, float, str)) and "${" not in str(value)
