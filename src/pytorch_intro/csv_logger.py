"""Curves as a CSV file, which a run that is carried on adds to."""

import csv
from pathlib import Path

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class AddingCSVLogger(CSVLogger):
    """Lightning's CSVLogger, but that it removes no file that is there; what of it stays, resumption.py has decided."""

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """What writes the file, made when it is first asked for."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = AddingWriter(log_dir=self.log_dir)
        return self._experiment


class AddingWriter(ExperimentWriter):
    """Goes on with the columns that the file has."""

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.exists():
            with file.open(newline="") as rows:
                self.metrics_keys = next(csv.reader(rows), [])
