"""What a run has logged, as rows in its folder: metrics.jsonl, from which a server gets what it lacks."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FILE = "metrics.jsonl"


class Row(NamedTuple):
    """Metrics that were logged together.

    Attributes:
        number: Number of the row, from 0. A row that a resumed run logs again has the same number as the first time.
        time: Seconds since 1970.
    """

    number: int
    step: int
    time: float
    metrics: dict[str, float]

    def repeats(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Return whether this row has these metrics; only times may have other values."""
        return self.step == step and self.metrics.keys() == metrics.keys()


class Journal:
    """The rows of a run. The file is one of its logs: a resumed run truncates it, see runs/logs.py.

    A server cannot be truncated. It may have rows after the checkpoint that a killed run resumes from, and may lack
    some before it, which were not sent yet. So the journal also knows the rows that were truncated.

    Args:
        folder: Folder of the file; the run may not have truncated it yet.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self.earlier = read_rows(self.file)  # all that may have been sent

    def open(self, is_new: bool) -> list[Row]:
        """Return the rows that the run keeps, after it has truncated the file.

        Args:
            is_new: Whether the rows of an earlier run do not count: overwrite=true has removed it.
        """
        if is_new:
            self.earlier = []
        kept = read_rows(self.file)
        self.repeated = self.earlier[len(kept) :]
        self.next_number = 1 + max((row.number for row in self.earlier), default=-1)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.lines = self.file.open("a", encoding="utf-8", buffering=1)  # a row is in the file before it is sent
        return kept

    def append(self, step: int, metrics: Mapping[str, float]) -> Row:
        """Write a row, and return it."""
        if self.repeated and self.repeated[0].repeats(step, metrics):
            number = self.repeated.pop(0).number
        else:  # beyond what was computed before, or settings were changed
            self.repeated.clear()
            number = self.next_number
            self.next_number += 1
        row = Row(number, step, time.time(), dict(metrics))
        self.lines.write(json.dumps(row._asdict()) + "\n")
        return row

    def close(self) -> None:
        self.lines.close()


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a file, except for a last one that a killed run has not written completely."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
