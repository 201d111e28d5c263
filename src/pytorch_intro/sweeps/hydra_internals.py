"""What Hydra does not document about its launchers (written for 1.3.8)."""

from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher


def failed_job(error: Exception) -> JobReturn:
    """Return what a launcher returns for a job that failed."""
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = error
    return job


def job_error(job: JobReturn) -> Any:
    """Return the exception of a failed job; the public `return_value` would print a line and raise it."""
    return job._return_value


def runs_jobs_in_turn(launcher: Launcher) -> bool:
    """Return whether the launcher runs jobs in this process, one after the other.

    Hydra imports its plugins a second time while it searches for them, so that isinstance() fails: compare names.
    """
    return type(launcher).__name__ == "BasicLauncher"
