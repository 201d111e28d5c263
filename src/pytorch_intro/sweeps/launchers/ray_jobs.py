"""Run jobs with Ray, on this machine or on a cluster.

`launch_job_on_ray` is private to hydra-ray-launcher (written for 1.2.2), and used only here. Its public launcher ends
with the first job whose process is lost.
"""

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

import ray
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.exceptions import RayError

from pytorch_intro.cli.entrypoint import install_signal_handlers
from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.paths import PROJECT_VARIABLE
from pytorch_intro.sweeps.hydra_internals import failed_job
from pytorch_intro.sweeps.job import JobLostError

CONNECT_TIMEOUT = 30.0  # seconds
ADDRESS = "hydra.launcher.ray.init.address"


def launch_on_ray(
    settings: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
) -> list[JobReturn]:
    """Run jobs in parallel, as many as there are cores and devices for.

    Args:
        settings: `init`, the arguments of ray.init; `remote`, those of ray.remote for each job.
        first: Number of the first job.
        hydra_context, task_function, config: Arguments of Launcher.setup.
    """
    setup_globals()
    start_ray(OmegaConf.to_container(settings.init, resolve=True))  # type: ignore[arg-type]
    jobs = []
    for number, overrides in enumerate(job_overrides, first):
        job_config = hydra_context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job_config):
            job_config.hydra.job.id = f"job_id_for_{number}"
            job_config.hydra.job.num = number
        state = Singleton.get_state()
        jobs.append(launch_job_on_ray(hydra_context, settings.remote, job_config, task_function, state))
    returns: dict[Any, JobReturn] = {}
    running = jobs
    while running:
        (done,), running = ray.wait(running, num_returns=1)
        returns[done] = job_return(done)
        if config.sweep.fail_fast and returns[done].status != JobStatus.COMPLETED:
            for job in running:
                ray.cancel(job, force=True)
                returns[job] = JobReturn(status=JobStatus.UNKNOWN)
            break
    return [returns[job] for job in jobs]


def start_ray(init: dict[str, Any]) -> None:
    """Connect to the cluster at init["address"], or start Ray on this machine."""
    if ray.is_initialized():
        return
    address = init.get("address")
    if address in (None, "local"):
        init = {"include_dashboard": False, "object_store_memory": 80 * 2**20} | init  # jobs return small objects
    elif address != "auto":
        check_reachable(str(address))
    names = ("PYTHONPATH", PROJECT_VARIABLE)  # for the user's own modules, and the folders of the project
    variables: Any = {"env_vars": {name: os.environ[name] for name in names}}
    defaults: dict[str, Any] = {"logging_level": logging.WARNING, "runtime_env": variables}
    try:
        ray.init(**defaults | init)
    except (ConnectionError, RuntimeError, ValueError, TypeError, TimeoutError) as error:
        raise UserError(
            f"{ADDRESS}={address}: Ray failed to connect ({first_lines(error)}); check the address, or leave it out "
            "to use this machine"
        ) from error
    install_signal_handlers()  # replaces the signal handlers that Ray installs


def check_reachable(address: str) -> None:
    """Connect to the cluster's port, since Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{ADDRESS}={address}: no cluster answers there ({error or 'timeout'}); use the HOST:6379 that ray start "
            "--head printed, or leave it out to use this machine"
        ) from error


def job_return(job: Any) -> JobReturn:
    """Return what a finished job returned, or a failure if its process was lost."""
    try:
        return ray.get(job)
    except RayError as error:
        return failed_job(JobLostError(f"its process was lost: {first_lines(error)}"))
