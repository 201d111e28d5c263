"""The folder of a sweep: sweep.json, and one folder per job."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig
from pydantic import PositiveInt

from pytorch_intro.analysis.ranking import best_run
from pytorch_intro.common.errors import StopRun, UserError, first_lines
from pytorch_intro.common.files import archive, remove, write_atomically
from pytorch_intro.common.locks import LOCK, lock_folder
from pytorch_intro.config.flatten import diff
from pytorch_intro.config.validate import check_config
from pytorch_intro.runs.config_record import IGNORED_KEYS
from pytorch_intro.runs.folder import REPLACED, Result, RunFolder
from pytorch_intro.sweeps.plan import Job, Plan
from pytorch_intro.training.monitors import chosen_metrics, how_to_add, is_higher_better, val_metrics

Status = Literal["finished", "failed", "pruned", "unfinished"]

ERROR, PRUNED = "error.txt", "pruned.txt"  # in a job's folder; the first line is the reason
STUDY = "study.db"  # Optuna's study
WRITE_LOCK = ".sweep.lock"


class PrunedError(StopRun):
    """A trial of a search was pruned."""


class Record(NamedTuple):
    """Content of sweep.json."""

    objective: str  # metric that jobs are ranked by
    base: dict[str, Any]  # config that all jobs share, {"data.batch_size": 256, …}
    swept: list[str]  # keys whose values differ between jobs
    jobs: dict[str, dict[str, list[str]]]  # overrides of each job, by its folder: "swept" are its own, "given" shared
    best: str | None = None  # best job when this was written; None if no finished job has the objective
    maximize: bool | None = None  # whether more of the objective is better; None in a file of an older version

    @property
    def maximizes(self) -> bool:
        return bool(is_higher_better(self.objective, {}) if self.maximize is None else self.maximize)


class Outcome(NamedTuple):
    """State of a job: why it failed or was pruned, on one line, or its result if it is finished."""

    status: Status
    reason: str = ""
    result: Result | None = None


def objectives(config: DictConfig) -> tuple[str, ...]:
    """Return what jobs can be ranked by: figures of result.json that do not depend on the test images."""
    accuracy_first = sorted(val_metrics(config), key=lambda name: name != "val/accuracy")
    return (*accuracy_first, "train_seconds", "total_seconds", "images_per_second")


def check_settings(config: DictConfig) -> None:
    """Validate the node `sweep` of a config; raise a UserError for an unknown key or a wrong value."""
    if config.get("metrics"):
        check_config(config.metrics, "metrics", {})
    objective, known = config.sweep.get("objective"), objectives(config)
    if remedy := "" if objective in known else how_to_add(config, objective):
        raise UserError(f"sweep.objective={objective}: not logged; {remedy}choose from {', '.join(known)}")
    hint: Any = Literal.__getitem__(known)
    hints = {"sweep.objective": hint, "sweep.fail_fast": bool, "sweep.max_jobs": PositiveInt}
    check_config(config.sweep, "sweep", hints)
    if is_higher_better(objective, chosen_metrics(config)) is None:
        raise UserError(
            f"sweep.objective={objective}: its class does not say whether more is better; set higher_is_better there, "
            "or use another objective"
        )


class SweepFolder:
    """Paths and record of a sweep's folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record_file = self.path / "sweep.json"
        self.replaced = self.path / REPLACED

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, since another process with this sweep would resume its running jobs.

        At the end, an empty folder is removed: Hydra creates it before the settings are checked.
        """
        is_mine = False
        try:
            with lock_folder(self.path):
                is_mine = True
                yield
        finally:
            if is_mine and self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK, WRITE_LOCK}:
                remove(self.path)

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        """Keep the sweep's other processes from writing sweep.json or the summary at the same time."""
        from filelock import FileLock

        with FileLock(self.path / WRITE_LOCK):
            yield

    def record(self) -> Record | None:
        """Return the content of sweep.json, None for a new sweep; raise a UserError if it cannot be read."""
        if not self.record_file.exists():
            return None
        try:
            return Record(**json.loads(self.record_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.record_file}: cannot be read ({first_lines(error)}); delete it and rerun (keeps finished runs)"
            ) from error

    def begin(self, plan: Plan, objective: str, maximize: bool, base: dict[str, Any]) -> None:
        """Record a sweep, and add its jobs to those already recorded; `base` is the flat config that all share."""
        with self.write_lock():
            previous = self.record() or Record(objective, base, [], {})
            swept = sorted({*plan.swept, *previous.swept})
            self.write(Record(objective, base, swept, previous.jobs, maximize=maximize))
        self.add_jobs(plan.jobs, plan.base)

    def add_jobs(self, jobs: Sequence[Job], given: Sequence[str]) -> None:
        """Record more jobs, with the overrides that they share."""
        with self.write_lock():
            record = self.record()
            assert record is not None
            added = {job.name: {"swept": list(job.overrides), "given": list(given)} for job in jobs}
            self.write(record._replace(jobs=record.jobs | added))

    def write(self, record: Record) -> tuple[Record, dict[str, Outcome]]:
        """Write sweep.json with the job that is best now; return the record as written, and the outcomes of its jobs.

        The caller has the write lock.
        """
        outcomes = {job: self.outcome(job) for job in record.jobs}
        results = {job: outcome.result for job, outcome in outcomes.items() if outcome.result}
        record = record._replace(best=best_run(record.objective, record.maximizes, results))
        write_atomically(self.record_file, json.dumps(record._asdict(), indent=1) + "\n")
        return record, outcomes

    def check_base(self, previous: Record, base: dict[str, Any], swept: Sequence[str]) -> None:
        """Raise a UserError if the shared config differs, except for keys that are swept for the first time."""
        added = [key for key in swept if key not in previous.swept]
        if different := diff(previous.base, base, [*added, *IGNORED_KEYS]):
            raise UserError(
                f"{self.path}: contains a sweep with a different config ({'; '.join(different)}); use another "
                "name=NAME, or overwrite=true"
            )

    def outcome(self, job: str) -> Outcome:
        """Return the state of a job, from the files in its folder."""
        folder = self.path / job
        if (folder / "result.json").exists():  # whatever earlier attempts left
            try:
                return Outcome("finished", result=RunFolder(folder).result())
            except UserError as error:
                return Outcome("failed", str(error))
        if (folder / PRUNED).exists():
            return Outcome("pruned", first_line(folder / PRUNED))
        if (folder / ERROR).exists():
            return Outcome("failed", first_line(folder / ERROR))
        return Outcome("unfinished")

    def record_failure(self, job: str, reason: str, details: str = "") -> None:
        """Write error.txt into a job's folder: the reason on one line, and details such as a traceback below it."""
        folder = self.path / job
        with suppress(OSError):  # such as a full disk, which the sweep reports at its end
            folder.mkdir(exist_ok=True)
            write_atomically(folder / ERROR, f"{reason}\n{details}")

    def archive_previous(self) -> None:
        """Move the jobs and the study of the previous sweep to .replaced, before it is overwritten."""
        record = self.record()
        jobs = list(record.jobs) if record else []
        paths = [path for name in (*jobs, STUDY, self.record_file.name) if (path := self.path / name).exists()]
        has_results = any((self.path / name / "result.json").exists() for name in jobs)
        archive(paths, self.replaced, has_results)


def first_line(file: Path) -> str:
    return next(iter(file.read_text(encoding="utf-8", errors="replace").splitlines()), "")
