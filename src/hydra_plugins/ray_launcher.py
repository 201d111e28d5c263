"""hydra/launcher=ray: jobs in parallel, on this machine or on a Ray cluster."""

from collections.abc import Sequence
from contextlib import suppress

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from hydra_plugins.parallel_launcher import ParallelLauncher

with suppress(ImportError):
    import hydra_plugins.hydra_ray_launcher._config  # noqa: F401

    # hydra-ray-launcher registers a config of the same name as conf/hydra/launcher/ray.yaml. Hydra would use it as a
    # schema and print a warning.
    ConfigStore.instance().repo["hydra"]["launcher"].pop("ray.yaml", None)


class RayLauncher(ParallelLauncher):
    """Run jobs with Ray so that a lost job does not affect the others; see ray_jobs.py.

    Args:
        ray: `init`, the arguments of ray.init; `remote`, those of ray.remote for each job.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.settings = ray

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from pytorch_intro.sweeps.launchers.ray_jobs import launch_on_ray

        context, task = self.hydra_context, self.task_function
        return launch_on_ray(self.settings, context, task, self.config, job_overrides, initial_job_idx)
