"""Run jobs with SLURM, through submitit.

The launchers of hydra-submitit-launcher (written for 1.2.0) are used as the function that each job calls. Their own
`launch` ends with the first job that is lost, while the others keep running.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.sweeps.hydra_internals import failed_job
from pytorch_intro.sweeps.job import JobLostError

LAUNCHERS = {"slurm": SlurmLauncher, "local": LocalLauncher}


def launch_with_submitit(
    cluster: str, parameters: dict[str, Any], hydra: dict[str, Any], job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Submit jobs and wait for all of them.

    Args:
        cluster: "slurm", or "local" for processes on this machine.
        parameters: Parameters of hydra-submitit-launcher's launcher.
        hydra: Arguments of Launcher.setup.
        first: Number of the first job.
    """
    if cluster not in LAUNCHERS:
        raise UserError(f"hydra.launcher.cluster={cluster}: unknown cluster; choose from {', '.join(LAUNCHERS)}")
    launcher = LAUNCHERS[cluster](**parameters)
    launcher.setup(**hydra)
    settings = {name: value for name, value in launcher.params.items() if value is not None}
    common = set(OmegaConf.structured(BaseQueueConf).keys())  # all executors take these, without a prefix
    try:
        folder, max_num_timeout = settings.pop("submitit_folder"), settings.pop("max_num_timeout", 0)
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=max_num_timeout)
        executor.update_parameters(
            **{name if name in common else f"slurm_{name}": value for name, value in settings.items()}
        )
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        raise UserError(
            f"hydra/launcher=slurm: {first_lines(error)}; check its settings, or use hydra.launcher.cluster=local"
        ) from error
    Path(str(hydra["config"].hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    state = Singleton.get_state()
    with executor.batch():  # a single job array
        jobs = [
            executor.submit(launcher, list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, first)
        ]
    return [job_return(job) for job in jobs]


def job_return(job: submitit.Job[JobReturn]) -> JobReturn:
    """Wait for a job and return what it returned, or a failure if it was lost."""
    try:
        return job.result()
    except Exception as error:  # submitit raises many types: lost processes, timeouts
        return failed_job(JobLostError(f"its job {job.job_id} was lost: {first_lines(error)}"))
