"""Jobs by SLURM, through submitit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher
from omegaconf import OmegaConf

from pytorch_intro.errors import UserError, one_line
from pytorch_intro.sweeps.job import LostError

LAUNCHERS = {"slurm": SlurmLauncher, "local": LocalLauncher}
OF_EXECUTOR = ("submitit_folder", "max_num_timeout")


def launch_by_submitit(
    cluster: str, parameters: dict[str, Any], hydra: dict[str, Any], job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Submit jobs and wait for all of them; what befalls one does not befall the others.

    hydra-submitit-launcher itself would end with the first that is lost, while the others run on. Its launcher is what
    each job calls.

    Raises:
        UserError: if there is no such cluster.
    """
    if cluster not in LAUNCHERS:
        raise UserError(f"hydra.launcher.cluster={cluster}: choose from {', '.join(LAUNCHERS)}")
    launcher = LAUNCHERS[cluster](**parameters)
    launcher.setup(**hydra)
    settings = {name: value for name, value in launcher.params.items() if value is not None}
    common = set(OmegaConf.structured(BaseQueueConf).keys())
    try:
        timeouts = {"slurm_max_num_timeout": settings.get("max_num_timeout", 0)}
        executor = submitit.AutoExecutor(folder=settings["submitit_folder"], cluster=cluster, **timeouts)
        of_jobs = {name: value for name, value in settings.items() if name not in OF_EXECUTOR}
        own = {name if name in common else f"slurm_{name}": value for name, value in of_jobs.items()}
        executor.update_parameters(**own)
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        raise UserError(f"hydra/launcher=slurm: {one_line(error)}") from error
    Path(str(hydra["config"].hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + len(job_overrides))
    state = Singleton.get_state()
    jobs = executor.map_array(
        launcher,
        [list(overrides) for overrides in job_overrides],
        ["hydra.sweep.dir"] * len(numbers),
        numbers,
        [f"job_id_for_{number}" for number in numbers],
        [state] * len(numbers),
    )
    return [returned(job) for job in jobs]


def returned(job: submitit.Job[JobReturn]) -> JobReturn:
    """What a job returned, or that it never will; waits for it."""
    try:
        return job.result()
    except Exception as error:  # of any kind: a process that was lost, one that timed out
        lost = LostError(f"its job {job.job_id} was lost: {one_line(error)}")
        return JobReturn(status=JobStatus.FAILED, _return_value=lost)
