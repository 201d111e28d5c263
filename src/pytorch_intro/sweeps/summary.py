"""Results of a sweep so far: summary.csv, summary.md and summary.png in its folder, and a table on the terminal."""

import csv
import io
import shlex
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.analysis.ranking import sort_key
from pytorch_intro.common.files import write_atomically
from pytorch_intro.common.text import pluralize, text_table
from pytorch_intro.config.paths import command_line, display_path
from pytorch_intro.runs.folder import METRICS, further_metrics
from pytorch_intro.sweeps.folder import Outcome, Record, SweepFolder

REPLICATE_KEYS = ("seed", "data.fold", "data.split_seed")  # their values repeat a run with the same settings
FIGURES = ("epochs", "best_epoch", "train_seconds", "total_seconds", "images_per_second")  # of a run, besides metrics
MAX_ROWS = 20  # on the terminal


class Row(NamedTuple):
    """One job: its swept values, its outcome, and its objective if it is finished."""

    job: str
    values: dict[str, str]
    outcome: Outcome
    score: float | None


@dataclass
class Group:
    """Jobs that differ only in REPLICATE_KEYS, best first."""

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
        """Sample standard deviation; None for fewer than two scores."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def mean_of(self, metric: str) -> float | None:
        """Return the mean of another metric over the finished runs."""
        results = [row.outcome.result for row in self.rows if row.outcome.result]
        values = [result[metric] for result in results if result.get(metric) is not None]
        return statistics.fmean(values) if values else None

    @property
    def seconds(self) -> float:
        """Total duration of the finished runs."""
        return sum(row.outcome.result["total_seconds"] for row in self.rows if row.outcome.result)


class Summary:
    """The jobs of a sweep, grouped by settings, best first."""

    def __init__(self, folder: Path, record: Record, outcomes: dict[str, Outcome]) -> None:
        self.folder = folder
        self.record = record
        self.rows = []
        for job, overrides in record.jobs.items():
            values = dict(override.lstrip("+").partition("=")[::2] for override in overrides["swept"])
            result = outcomes[job].result
            self.rows.append(Row(job, values, outcomes[job], result.get(record.objective) if result else None))
        self.best = next((row for row in self.rows if row.job == record.best), None)
        self.counts: Counter[str] = Counter(row.outcome.status for row in self.rows)
        self.failures = [row for row in self.rows if row.outcome.status == "failed"]
        self.keys = list(dict.fromkeys(key for row in self.rows for key in row.values))
        self.setting_keys = [key for key in self.keys if key not in REPLICATE_KEYS]
        self.axes = [key for key in self.setting_keys if len({row.values.get(key) for row in self.rows}) > 1]
        groups: dict[tuple[tuple[str, str], ...], Group] = {}
        for row in sorted(self.rows, key=lambda row: sort_key(row.score, record.maximizes)):
            values = {key: value for key, value in row.values.items() if key not in REPLICATE_KEYS}
            groups.setdefault(tuple(values.items()), Group(values)).rows.append(row)
        self.groups = sorted(groups.values(), key=lambda group: sort_key(group.mean, record.maximizes))
        results = [row.outcome.result for row in self.rows if row.outcome.result]
        self.further = list(dict.fromkeys(name for result in results for name in further_metrics(result)))

    def command(self, row: Row) -> str:
        """Return the command that repeats a job outside the sweep."""
        job = self.record.jobs[row.job]
        given = [value for value in job["given"] if value.partition("=")[0] not in ("name", "outputs", "overwrite")]
        return shlex.join([*command_line("train"), *given, *job["swept"]])

    def progress(self) -> str:
        """Return, for example, "12 jobs: 10 finished, 1 failed, 1 unfinished"."""
        statuses = [status for status in ("finished", "pruned", "failed", "unfinished") if self.counts[status]]
        counts = ", ".join(f"{self.counts[status]} {status}" for status in statuses)
        return f"{pluralize(len(self.rows), 'job')}: {counts}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and one row per group."""
        rows = []
        validated = [name for name in self.further if name.startswith("val/") and name != self.record.objective]
        for number, group in enumerate(self.groups, 1):
            rank = "" if group.mean is None else str(number)
            values = [shorten_number(group.values.get(key, "")) for key in self.setting_keys]
            score = format_score(group.mean, group.std)
            others = [format_score(group.mean_of(name)) for name in validated]
            rows.append([rank, *values, score, *others, str(len(group.scores)), f"{group.seconds:.0f}"])
        return ["rank", *self.setting_keys, self.record.objective, *validated, "n", "seconds"], rows

    def best_settings(self) -> str | None:
        """Return the settings with the best mean over seeds or folds; only the mean if no other setting was swept."""
        if not self.groups or len(self.groups[0].scores) < 2:
            return None
        group = self.groups[0]
        score = f"{self.record.objective} {format_score(group.mean, group.std)}, n={len(group.scores)}"
        settings = ", ".join(f"{key}={group.values[key]}" for key in self.axes if key in group.values)
        return f"best settings: {settings}: {score}" if settings else f"all runs: {score}"

    def comparable_best(self) -> Row | None:
        """Return the best run; None if runs were validated on different images, of which some are merely easier."""
        return None if {"data.fold", "data.split_seed"} & set(self.keys) else self.best

    def as_text(self) -> str:
        """Return the table for the terminal, with failures and the command of the best run."""
        header, rows = self.table()
        text = text_table([header, *rows[:MAX_ROWS]])
        if len(rows) > MAX_ROWS:
            text += f"\n  … {len(rows) - MAX_ROWS} more in summary.csv"
        for row in self.failures:
            text += f"\n  failed: {row.job}: {row.outcome.reason}"
        if line := self.best_settings():
            text += f"\n\n{line}"
        if best := self.comparable_best():
            text += f"\n\nbest run: {display_path(self.folder / best.job)}, {self.record.objective} "
            text += f"{format_score(best.score)}\n  {self.command(best)}"
        return f"{self.progress()}\n{text}\n\nsummary: {display_path(self.folder / 'summary.md')}"

    def as_markdown(self) -> str:
        parts = [f"# {self.folder.name}", self.progress() + ".", markdown_table(*self.table())]
        if line := self.best_settings():
            parts.append(f"{line[0].upper()}{line[1:]}.")
        if best := self.comparable_best():
            score = f"{self.record.objective} {format_score(best.score)}"
            parts.append(f"Best run: `{best.job}`, {score}. Repeat it with:\n\n```bash\n{self.command(best)}\n```")
        if self.failures:
            reasons = [[row.job, row.outcome.reason] for row in self.failures]
            parts.append("## Failures\n\n" + markdown_table(["job", "reason"], reasons))
        return "\n\n".join([*parts, "![objective by swept keys](summary.png)"]) + "\n"

    def as_csv(self) -> str:
        """Return one line per job, best settings first; mean, std and n are those of its group."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = (*METRICS, *FIGURES, *self.further)
        writer.writerow(["rank", "job", "status", *self.keys, *names, "mean", "std", "n", "reason"])
        for number, group in enumerate(self.groups, 1):
            rank = None if group.mean is None else number
            for row in group.rows:
                values = [row.values.get(key) for key in self.keys]
                metrics = [(row.outcome.result or {}).get(name) for name in names]
                scores = [group.mean, group.std, len(group.scores)]
                writer.writerow([rank, row.job, row.outcome.status, *values, *metrics, *scores, row.outcome.reason])
        return text.getvalue()


def write_summary(sweep: SweepFolder) -> Summary | None:
    """Update the best job in sweep.json and write the summary files; return None if the sweep has no sweep.json."""
    from pytorch_intro.sweeps.plot import plot_summary

    if not sweep.record_file.exists():
        return None
    with sweep.write_lock():
        if (record := sweep.record()) is None:
            return None
        summary = Summary(sweep.path, *sweep.write(record))
        write_atomically(sweep.path / "summary.csv", summary.as_csv())
        write_atomically(sweep.path / "summary.md", summary.as_markdown())
        plot_summary(summary, sweep.path / "summary.png")
    return summary


def format_score(mean: float | None, std: float | None = None) -> str:
    if mean is None:
        return "-"
    digits = 4 if abs(mean) < 10 else 1
    return f"{mean:,.{digits}f}" + ("" if std is None else f" ± {std:,.{digits}f}")


def shorten_number(value: str) -> str:
    """Return a number with four digits if that is shorter; return any other text unchanged."""
    try:
        return min(value, f"{float(value):.4g}", key=len)
    except ValueError:
        return value
