"""The CSV logger keeps the rows of a run that is resumed; tests/core/test_resume.py has a whole run."""

import csv
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from pytorch_intro.reports.csv_logger import AppendingCSVLogger


def test_the_csv_logger_appends_to_an_existing_file(tmp_path: Path) -> None:
    def log(logger: CSVLogger, values: dict[str, Tensor | float], step: int) -> list[dict[str, str]]:
        logger.log_metrics(values, step)
        logger.save()
        with (tmp_path / "csv" / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    for step in range(2):
        rows = log(AppendingCSVLogger(tmp_path, name="csv", version=""), {"a": 1.0, f"b{step}": 2.0}, step)
        assert [row["step"] for row in rows] == [str(number) for number in range(step + 1)]
    assert set(rows[0]) == {"a", "b0", "b1", "step"}
