"""A CSV logger for runs that are resumed."""

from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger

from pytorch_intro.training.lightning_internals import AppendingWriter


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSVLogger, except that it appends to an existing file, which truncate_logs has truncated."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = AppendingWriter(log_dir=self.log_dir)
        return self._experiment
