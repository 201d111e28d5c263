"""What a sweep has shown so far: summary.csv, summary.md and summary.png in its folder, and a table on the terminal."""

import csv
import io
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytorch_intro.atomic import write_atomically
from pytorch_intro.markdown import markdown_table
from pytorch_intro.paths import display_path
from pytorch_intro.sweeps.objective import is_maximized
from pytorch_intro.sweeps.sweep_folder import Outcome, Record, SweepFolder

REPEATS = ("seed", "data.fold", "data.split_seed")  # keys whose values repeat the same settings
FIGURES = (
    "val/accuracy", "val/loss", "test/accuracy", "test/loss", "epochs", "best_epoch", "train_seconds", "total_seconds",
    "images_per_second",
)  # fmt: skip
MOST_ROWS = 20  # on the terminal


@dataclass
class Row:
    """One job."""

    job: str
    values: dict[str, str]  # of what is swept
    outcome: Outcome
    score: float | None


@dataclass
class Group:
    """Jobs that differ in seed and fold alone."""

    values: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    @property
    def scores(self) -> list[float]:
        return [row.score for row in self.rows if row.score is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def std(self) -> float | None:
        """Of the sample; None for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def seconds(self) -> float:
        """Of all its finished runs, from start to end."""
        return sum(row.outcome.result["total_seconds"] for row in self.rows if row.outcome.result)


class Summary:
    """The jobs of a sweep, the best settings first.

    Args:
        record: What is swept.
        outcomes: How each job stands.
    """

    def __init__(self, folder: Path, record: Record, outcomes: dict[str, Outcome]) -> None:
        self.folder = folder
        self.record = record
        self.sign = 1 if is_maximized(record.objective) else -1
        self.rows = [self.row(job, given["swept"], outcomes[job]) for job, given in record.jobs.items()]
        self.keys = list(dict.fromkeys(key for row in self.rows for key in row.values))
        self.groups = sorted(self.grouped(), key=lambda group: self.worse(group.mean))

    def row(self, job: str, overrides: Sequence[str], outcome: Outcome) -> Row:
        values = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
        score = outcome.result.get(self.record.objective) if outcome.result else None
        return Row(job, values, outcome, score)

    def grouped(self) -> list[Group]:
        groups: dict[tuple[tuple[str, str], ...], Group] = {}
        for row in self.rows:
            values = {key: value for key, value in row.values.items() if key not in REPEATS}
            groups.setdefault(tuple(values.items()), Group(values)).rows.append(row)
        for group in groups.values():
            group.rows.sort(key=lambda row: self.worse(row.score))
        return list(groups.values())

    def worse(self, score: float | None) -> tuple[bool, float]:
        """A key that sorts the best first and what has no score last."""
        return score is None, -self.sign * (score or 0.0)

    def count(self, status: str) -> int:
        return sum(row.outcome.status == status for row in self.rows)

    @property
    def best(self) -> Row | None:
        """The job with the best score of all."""
        scored = [row for row in self.rows if row.score is not None]
        return min(scored, key=lambda row: self.worse(row.score), default=None)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if row.outcome.status == "failed"]

    @property
    def axes(self) -> list[str]:
        """Keys with more than one value, but for those that repeat the same settings."""
        return [key for key in self.keys if key not in REPEATS and len({row.values.get(key) for row in self.rows}) > 1]

    def command(self, row: Row) -> str:
        """Repeats a job by itself, in a folder of its own."""
        job = self.record.jobs[row.job]
        given = [value for value in job["given"] if value.partition("=")[0] not in ("name", "outputs", "overwrite")]
        return shlex.join(["python", "src/train.py", *given, *job["swept"]])

    def progress(self) -> str:
        """12 jobs: 10 finished, 1 failed, 1 unfinished"""
        counts = {status: self.count(status) for status in ("finished", "pruned", "failed", "unfinished")}
        return f"{len(self.rows)} jobs: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Names of columns, and a row for each group."""
        keys = [key for key in self.keys if key not in REPEATS]
        lines = []
        for rank, group in enumerate(self.groups, 1):
            values = [shortened(group.values.get(key, "")) for key in keys]
            place = "" if group.mean is None else str(rank)
            lines.append([place, *values, shown(group.mean, group.std), str(len(group.scores)), f"{group.seconds:.0f}"])
        return ["rank", *keys, self.record.objective, "n", "seconds"], lines

    def as_text(self) -> str:
        """The table for the terminal, and what to do next."""
        names, lines = self.table()
        text = aligned([names, *lines[:MOST_ROWS]])
        if len(lines) > MOST_ROWS:
            text += f"\n  … {len(lines) - MOST_ROWS} more in summary.csv"
        for row in self.failures:
            text += f"\n  failed: {row.job}: {row.outcome.reason}"
        if best := self.best:
            text += f"\n\nbest run: {display_path(self.folder / best.job)}, {self.record.objective} "
            text += f"{shown(best.score)}\n  {self.command(best)}"
        return f"{self.progress()}\n{text}\n\nsummary: {display_path(self.folder / 'summary.md')}"

    def as_markdown(self) -> str:
        names, lines = self.table()
        parts = [f"# {self.folder.name}", self.progress() + ".", markdown_table(names, lines)]
        if best := self.best:
            about = f"Best run: `{best.job}`, {self.record.objective} {shown(best.score)}. The command that repeats it:"
            parts.append(f"{about}\n\n```bash\n{self.command(best)}\n```")
        if self.failures:
            reasons = [[row.job, row.outcome.reason] for row in self.failures]
            parts.append("## Failures\n\n" + markdown_table(["job", "reason"], reasons))
        return "\n\n".join([*parts, "![objective by what was swept](summary.png)"]) + "\n"

    def as_csv(self) -> str:
        """A line a job, the best settings first; mean, std and n are of the jobs that differ in seed and fold alone."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "job", "status", *self.keys, *FIGURES, "mean", "std", "n", "reason"])
        for rank, group in enumerate(self.groups, 1):
            for row in group.rows:
                figures = [(row.outcome.result or {}).get(name) for name in FIGURES]
                values = [row.values.get(key) for key in self.keys]
                place = None if group.mean is None else rank
                of_group = [group.mean, group.std, len(group.scores)]
                line = [place, row.job, row.outcome.status, *values, *figures, *of_group, row.outcome.reason]
                writer.writerow("" if value is None else value for value in line)
        return text.getvalue()


def summary_of(sweep: SweepFolder) -> Summary | None:
    """How a sweep stands; None if nothing is recorded."""
    record = sweep.record()
    return record and Summary(sweep.path, record, {job: sweep.outcome(job) for job in record.jobs})


def write_summary(sweep: SweepFolder) -> Summary | None:
    """Write how a sweep stands into its folder, each file whole or not at all."""
    from pytorch_intro.sweeps.picture import draw_summary

    if not sweep.record_file.exists():
        return None
    with sweep.locked():
        if summary := summary_of(sweep):
            write_atomically(sweep.path / "summary.csv", summary.as_csv())
            write_atomically(sweep.path / "summary.md", summary.as_markdown())
            draw_summary(summary, sweep.path / "summary.png")
    return summary


def shown(mean: float | None, std: float | None = None) -> str:
    if mean is None:
        return "-"
    digits = 4 if abs(mean) < 10 else 1
    return f"{mean:,.{digits}f}" + ("" if std is None else f" ± {std:,.{digits}f}")


def shortened(value: str) -> str:
    """A number to four digits, as far as that is shorter; anything else as it is."""
    try:
        return min(value, f"{float(value):.4g}", key=len)
    except ValueError:
        return value


def aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
