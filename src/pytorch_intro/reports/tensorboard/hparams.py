"""TensorBoard's HPARAMS page: the settings and the metrics of each run."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch.utils.tensorboard.summary import hparams

from pytorch_intro.common.text import to_displayable
from pytorch_intro.config.flatten import flatten, is_under
from pytorch_intro.reports.tensorboard.events import tensorboard_loggers
from pytorch_intro.runs.config_record import IGNORED_KEYS, load_config
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.checkpoint import BestLastCheckpoint

# Settings that do not change what is trained, and targets that are always the same.
EXCLUDED_KEYS = (*IGNORED_KEYS, "callbacks", "logger", "classifier._target_", "data._target_", "trainer._target_")
TARGET = "._target_"
RESULTS = ("test/accuracy", "test/loss")  # of the best weights


class HParams(Callback):
    """Writes the settings of a run at its end, and the results of its best weights.

    Lightning would write them at the start, with a column hp_metric of -1. The page opens with the settings that differ
    between the runs, and with the first five metrics by name: best/test/accuracy, best/test/loss and best/val/accuracy
    come before the last value of each curve.

    Args:
        run_dir: Run folder, whose config.yaml is read.
    """

    def __init__(self, run_dir: str) -> None:
        self.config_file = RunFolder(run_dir).config_file

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoint = trainer.checkpoint_callback
        for logger in tensorboard_loggers(trainer):
            # Without the first summary, which would name the metrics, the page finds them itself.
            for summary in hparams(plain_settings(load_config(self.config_file)), {})[1:]:
                logger.experiment.file_writer.add_summary(summary)
            measured = trainer.callback_metrics
            results = {name: measured[name].item() for name in RESULTS if name in measured}
            best: dict[str, float] = {}
            if isinstance(checkpoint, BestLastCheckpoint) and checkpoint.best_model_score is not None:
                best = checkpoint.best_metric()
                results[checkpoint.monitor] = checkpoint.best_model_score
            logger.log_metrics(best | {f"best/{name}": value for name, value in results.items()}, trainer.global_step)


def plain_settings(config: DictConfig) -> dict[str, Any]:
    """Return the plain values that may differ between runs; for a target the name of its class (model: CNN)."""
    settings: dict[str, Any] = {}
    for key, value in flatten(config).items():
        if is_under(key, EXCLUDED_KEYS) or key.endswith("._partial_"):
            continue
        if key.endswith(TARGET):
            settings[key.removesuffix(TARGET)] = str(value).rpartition(".")[2]
        elif isinstance(value, (bool, int, float, str)) and "${" not in str(value):
            settings[key] = to_displayable(value) if isinstance(value, str) else value
    return settings
