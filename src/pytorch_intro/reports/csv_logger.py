"""A CSV logger for runs that are resumed."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSVLogger, except that it appends to an existing file, which truncate_logs has truncated."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = AppendingWriter(log_dir=self.log_dir)
        return self._experiment


class AppendingWriter(ExperimentWriter):
    """Appends to an existing file, which Lightning's writer would delete.

    It does so in a private method, _check_log_dir_exists (fabric/loggers/csv_logs.py); checked with Lightning 2.6.6.
    metrics_keys are the columns of the file; the writer rewrites the file when a new one appears.
    """

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.exists():
            with file.open(newline="") as rows:
                self.metrics_keys = next(csv.reader(rows), [])
