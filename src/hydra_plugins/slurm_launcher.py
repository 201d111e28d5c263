"""hydra/launcher=slurm: each job one of SLURM's."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn

from hydra_plugins.parallel_launcher import ParallelLauncher


class SlurmLauncher(ParallelLauncher):
    """Hydra's own, but that each job's end is its own affair: see pytorch_intro.sweeps.slurm_jobs.

    Args:
        cluster: slurm, or local for processes on this machine.
        parameters: Of hydra-submitit-launcher's SlurmLauncher, or its LocalLauncher.
    """

    def __init__(self, cluster: str, **parameters: Any) -> None:
        self.cluster = cluster
        self.parameters = parameters

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from pytorch_intro.sweeps.slurm_jobs import launch_by_submitit

        hydra = {"hydra_context": self.hydra_context, "task_function": self.task_function, "config": self.config}
        return launch_by_submitit(self.cluster, self.parameters, hydra, job_overrides, initial_job_idx)
