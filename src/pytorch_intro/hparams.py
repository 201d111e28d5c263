"""TensorBoard's HPARAMS page: the settings of each run beside what came of them."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from pytorch_intro.checkpoint import BestAndLast
from pytorch_intro.flat_config import flatten
from pytorch_intro.run_folder import RunFolder, load_config

# Settings that say where and how, not what is trained.
LEFT_OUT = ("name", "outputs", "run_dir", "overwrite", "resume", "allow", "sweep", "callbacks", "logger")


class HParams(Callback):
    """Writes a run's settings at its end, and the best validation as best/val/accuracy.

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
        settings = {key: value for key, value in flatten(load_config(self.config_file)).items() if is_shown(key, value)}
        _, start, end = hparams(settings, {})  # without the first: the page then finds out itself what there is
        checkpoint = trainer.checkpoint_callback
        for logger in loggers:
            for summary in (start, end):
                logger.experiment.file_writer.add_summary(summary)
            if isinstance(checkpoint, BestAndLast) and checkpoint.best_model_score is not None:
                logger.log_metrics({f"best/{checkpoint.monitor}": checkpoint.best_model_score}, trainer.global_step)


def is_shown(key: str, value: object) -> bool:
    """Whether a setting is a plain value that may tell one run from another."""
    is_reference = isinstance(value, str) and "${" in value
    return isinstance(value, (bool, int, float, str)) and not is_reference and key.partition(".")[0] not in LEFT_OUT
