"""hydra/launcher=slurm: each job of a sweep is a SLURM job."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn

from hydra_plugins.parallel_launcher import ParallelLauncher


class SlurmLauncher(ParallelLauncher):
    """Run jobs with hydra-submitit-launcher so that a lost job does not affect the others; see slurm_jobs.py.

    Args:
        cluster: "slurm", or "local" for processes on this machine.
        parameters: Parameters of hydra-submitit-launcher's SlurmLauncher or LocalLauncher.
    """

    def __init__(self, cluster: str, **parameters: Any) -> None:
        self.cluster = cluster
        self.parameters = parameters

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from pytorch_intro.sweeps.launchers.slurm_jobs import launch_with_submitit

        hydra = {"hydra_context": self.hydra_context, "task_function": self.task_function, "config": self.config}
        return launch_with_submitit(self.cluster, self.parameters, hydra, job_overrides, initial_job_idx)
