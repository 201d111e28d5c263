"""hydra/launcher=ray and slurm: run the jobs of a sweep in other processes; a lost job does not affect the others."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

with suppress(ImportError):
    import hydra_plugins.hydra_ray_launcher._config  # noqa: F401

    # hydra-ray-launcher registers a config of the same name as conf/hydra/launcher/ray.yaml. Hydra would use it as a
    # schema and print a warning.
    ConfigStore.instance().repo["hydra"]["launcher"].pop("ray.yaml", None)


class ParallelLauncher(Launcher):
    """Store the arguments of setup() until jobs are launched."""

    def setup(self, **hydra: Any) -> None:
        self.hydra = hydra


class RayLauncher(ParallelLauncher):
    """Run jobs with Ray, on this machine or on a cluster; see ray_jobs.py.

    Args:
        ray: `init`, the arguments of ray.init; `remote`, those of ray.remote for each job.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.settings = ray

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from pytorch_intro.sweeps.launchers.ray_jobs import launch_on_ray

        return launch_on_ray(self.settings, job_overrides, initial_job_idx, **self.hydra)


class SlurmLauncher(ParallelLauncher):
    """Run each job as a SLURM job; see slurm_jobs.py.

    Args:
        cluster: "slurm", or "local" for processes on this machine.
        parameters: Parameters of hydra-submitit-launcher's SlurmLauncher or LocalLauncher.
    """

    def __init__(self, cluster: str, **parameters: Any) -> None:
        self.cluster = cluster
        self.parameters = parameters

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from pytorch_intro.sweeps.launchers.slurm_jobs import launch_with_submitit

        return launch_with_submitit(self.cluster, self.parameters, self.hydra, job_overrides, initial_job_idx)
