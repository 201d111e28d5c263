"""The folder of a sweep: a record of what is swept, and one folder a job."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pytorch_intro.atomic import write_atomically
from pytorch_intro.claim import LOCK, lock_folder
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.flat_config import diff
from pytorch_intro.recorded_config import UNCOMPARED
from pytorch_intro.run_folder import REPLACED, Result, RunFolder, remove
from pytorch_intro.sweeps.plan import Job, Plan

Status = Literal["finished", "failed", "pruned", "unfinished"]

ERROR, PRUNED = "error.txt", "pruned.txt"  # in a job's folder; their first line says why
STUDY = "study.db"  # of a search
WRITING = ".sweep.lock"


class Record(NamedTuple):
    """What sweep.json holds.

    Attributes:
        objective: The metric that jobs are ranked by.
        base: The config that the jobs have in common, {"data.batch_size": 256, …}.
        swept: Keys that the jobs are told apart by.
        jobs: By their folders' names, all that was given for each, key=value each; first what is swept, "swept", then
            what it has in common with others, "given".
    """

    objective: str
    base: dict[str, Any]
    swept: list[str]
    jobs: dict[str, dict[str, list[str]]]


class Outcome(NamedTuple):
    """How a job stands.

    Attributes:
        reason: Of a failure or of pruning, in one line.
        result: What it recorded, if it is finished.
    """

    status: Status
    reason: str
    result: Result | None


class SweepFolder:
    """Paths in a sweep's folder, and its record."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record_file = self.path / "sweep.json"
        self.replaced = self.path / REPLACED

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other sweeps out, which would take the jobs of this one for interrupted ones.

        The folder, which Hydra has named by making it, is removed if nothing has been put there.

        Raises:
            UserError: if another process runs a sweep here, or if nothing can be written.
        """
        is_mine = False
        try:
            with lock_folder(self.path):
                is_mine = True
                yield
        finally:
            if is_mine and self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK, WRITING}:
                remove(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the record or the summary meanwhile."""
        from filelock import FileLock

        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / WRITING):
            yield

    def record(self) -> Record | None:
        """What was recorded; None for a sweep that begins.

        Raises:
            UserError: if it cannot be read.
        """
        if not self.record_file.exists():
            return None
        try:
            return Record(**json.loads(self.record_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.record_file}: it cannot be read ({one_line(error)}); remove it, and the same command begins it "
                "anew; finished runs are kept"
            ) from error

    def begin(self, plan: Plan, objective: str, base: dict[str, Any]) -> None:
        """Record a sweep, its jobs beside those that are there.

        Args:
            base: The config that the jobs have in common, flat.

        Raises:
            UserError: if what they have in common differs from what was recorded.
        """
        with self.locked():
            before = self.record()
            if before:
                self.check_base(before, base, plan.swept)
            swept = sorted({*plan.swept, *(before.swept if before else ())})
            self.write(Record(objective, base, swept, before.jobs if before else {}))
        self.add_jobs(plan.jobs, plan.base)

    def add_jobs(self, jobs: Sequence[Job], given: Sequence[str]) -> None:
        """Record jobs beside those that are there, with what was given for all of them."""
        with self.locked():
            record = self.record()
            assert record is not None
            added = {job.name: {"swept": list(job.overrides), "given": list(given)} for job in jobs}
            self.write(record._replace(jobs=record.jobs | added))

    def write(self, record: Record) -> None:
        write_atomically(self.record_file, json.dumps(record._asdict(), indent=1) + "\n")

    def check_base(self, before: Record, base: dict[str, Any], swept: Sequence[str]) -> None:
        """Compare what the jobs have in common with what was recorded, but for keys that are swept from now on."""
        swept = [key for key in swept if key not in before.swept]
        if different := diff(before.base, base, [*swept, *UNCOMPARED]):
            raise UserError(
                f"{self.path} holds a sweep with another config ({'; '.join(different)}); give this one another "
                "name, or overwrite=true to start anew"
            )

    def outcome(self, job: str) -> Outcome:
        """How a job stands, by the files in its folder."""
        folder = self.path / job
        if (folder / "result.json").exists():  # whatever was tried before
            try:
                return Outcome("finished", "", RunFolder(folder).result())
            except UserError as error:
                return Outcome("failed", str(error), None)
        if (folder / PRUNED).exists():
            return Outcome("pruned", first_line(folder / PRUNED), None)
        if (folder / ERROR).exists():
            return Outcome("failed", first_line(folder / ERROR), None)
        return Outcome("unfinished", "", None)

    def record_failure(self, job: str, reason: str, details: str = "") -> None:
        """Write into a job's folder why it has no result.

        Args:
            reason: One line.
            details: What is below it, as a traceback.
        """
        folder = self.path / job
        with suppress(OSError):  # a full disk, for one, which is said elsewhere
            folder.mkdir(exist_ok=True)
            write_atomically(folder / ERROR, f"{reason}\n{details}")

    def put_aside(self) -> None:
        """Move the jobs of a sweep that is begun anew, and its study, out of the way.

        One that has no result is not worth that, if an earlier one is still kept.
        """
        record = self.record()
        jobs = list(record.jobs) if record else []
        there = [self.path / name for name in [*jobs, STUDY, self.record_file.name] if (self.path / name).exists()]
        if self.replaced.exists() and not any((self.path / name / "result.json").exists() for name in jobs):
            for path in there:
                remove(path)
            return
        remove(self.replaced)
        self.replaced.mkdir()
        for path in there:
            path.rename(self.replaced / path.name)


def first_line(file: Path) -> str:
    return next(iter(file.read_text(errors="replace").splitlines()), "")
