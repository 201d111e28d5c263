"""Jobs on Ray: on this machine, or on a cluster by its address."""

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

from pytorch_intro.errors import UserError, one_line
from pytorch_intro.exit_codes import install_signal_handlers
from pytorch_intro.sweeps.job import LostError

PATIENCE = 30.0  # seconds for a cluster to answer
ADDRESS = "hydra.launcher.ray.init.address"


def launch_on_ray(
    settings: DictConfig,
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> list[JobReturn]:
    """Run jobs at once, as many as there are cores and devices for; what befalls one does not befall the others.

    hydra-ray-launcher itself would end with the first whose process is lost.

    Raises:
        UserError: if the cluster does not answer.
    """
    setup_globals()
    start_ray(OmegaConf.to_container(settings.init, resolve=True))  # type: ignore[arg-type]
    jobs = []
    for number, overrides in enumerate(job_overrides, first):
        job_config = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job_config):
            job_config.hydra.job.id = f"job_id_for_{number}"
            job_config.hydra.job.num = number
        jobs.append(launch_job_on_ray(context, settings.remote, job_config, task, Singleton.get_state()))
    returns: dict[Any, JobReturn] = {}
    waiting = jobs
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        returns[done] = returned(done)
        if config.sweep.fail_fast and returns[done].status != JobStatus.COMPLETED:
            for job in waiting:
                ray.cancel(job, force=True)
            returns |= {job: JobReturn(status=JobStatus.UNKNOWN) for job in waiting}
            break
    return [returns[job] for job in jobs]


def start_ray(init: dict[str, Any]) -> None:
    """Connect to the cluster at init["address"], or start one of this machine."""
    if ray.is_initialized():
        return
    address = init.get("address")
    if address in (None, "local"):
        init = {"include_dashboard": False, "object_store_memory": 80 * 2**20} | init  # jobs hand over nothing large
    elif address != "auto":
        check_answers(str(address))
    variables: Any = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}  # where one's own classes may be
    defaults: dict[str, Any] = {"logging_level": logging.WARNING, "runtime_env": variables}
    try:
        ray.init(**defaults | init)
    except (ConnectionError, RuntimeError, ValueError, TypeError, TimeoutError) as error:
        raise UserError(f"{ADDRESS}={address}: Ray cannot be reached there ({one_line(error)})") from error
    install_signal_handlers()  # in the place of Ray's own handlers


def check_answers(address: str) -> None:
    """Knock at the cluster's address, for Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{ADDRESS}={address}: no cluster answers there ({error or 'in 30 s'}); give HOST:6379 as ray start --head "
            "said it, or leave it out for this machine alone"
        ) from error


def returned(job: Any) -> JobReturn:
    """What a job returned, or that it never will."""
    try:
        return ray.get(job)
    except RayError as error:
        lost = LostError(f"its process was lost: {one_line(error)}")
        return JobReturn(status=JobStatus.FAILED, _return_value=lost)
