"""What the scripts share: the config is composed, the task done, and an exit code told."""

import functools
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.command_line import order_flags, print_help, quote_paths
from pytorch_intro.errors import explain, leave
from pytorch_intro.exit_codes import TRACEBACK, end_by_signals, exit_codes_of_errors, exit_codes_of_stops
from pytorch_intro.faults import told_once
from pytorch_intro.finished_run import resolve_run
from pytorch_intro.flat_config import flatten
from pytorch_intro.paths import CONFIG_DIR, PROJECT, new_run_dir, new_sweep_dir
from pytorch_intro.processes import is_rank_zero

Task = Callable[[DictConfig], object]


def entrypoint(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a command of a function that takes the config composed from conf/<config_name>.yaml.

    What the function returns goes to Hydra, as the objective of a sweep. The user's mistakes end in one line on
    stderr and exit code 2, without a traceback unless HYDRA_FULL_ERROR=1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def command() -> None:
            if {"--help", "-h"} & set(sys.argv):
                print_help(config_name)
            else:
                run(task, config_name)

        return command

    return decorate


def run(task: Task, config_name: str) -> None:
    """What a command does: compose the config that its arguments ask for, and do the task."""
    order_flags()
    quote_paths()
    register_resolvers()
    traceback = os.environ.get(TRACEBACK, "0")
    failures: list[Exception] = []
    job = as_job(task, traceback, failures)
    # Hydra then raises its errors, instead of printing them in its own form and leaving with exit code 1.
    with environment(TRACEBACK, "1"), exit_codes_of_stops(), composed_once(), seldom_collecting(), told_once():
        try:
            hydra.main(config_path=str(CONFIG_DIR), config_name=config_name, version_base="1.3")(job)()
        except Exception as error:
            line = None if error in failures else explain(error, lambda: known_keys(config_name))
            if line is None:
                raise
            leave(line, traceback=traceback != "0")


def as_job(task: Task, traceback: str, failures: list[Exception]) -> Task:
    """The task as Hydra is to call it, in this process or, in a sweep, in others that have composed nothing.

    Args:
        traceback: HYDRA_FULL_ERROR as the user has set it.
        failures: Gets errors of the task itself, which no remedy is known for.
    """

    @functools.wraps(task)
    def job(config: DictConfig) -> object:
        register_resolvers()
        end_by_signals()
        if not is_rank_zero():
            logging.getLogger().setLevel(logging.WARNING)
        try:
            with environment(TRACEBACK, traceback), exit_codes_of_stops():
                if is_job(config):
                    from pytorch_intro.sweeps.job import run_job

                    return run_job(task, config)
                with exit_codes_of_errors(config):
                    return task(config)
        except Exception as error:
            failures.append(error)
            raise

    return job


def register_resolvers() -> None:
    """Teach the configs ${project:PATH}, ${new_run_dir:…}, ${new_sweep_dir:…} and ${recorded_run:…}.

    See paths.py and finished_run.py.
    """
    OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)
    OmegaConf.register_new_resolver("new_run_dir", new_run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("new_sweep_dir", new_sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("recorded_run", resolve_run, use_cache=True, replace=True)


def known_keys(config_name: str) -> list[str]:
    """Dotted keys of the config as it composes without complaint: with the command line's group choices alone."""
    groups = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    choices = [argument for argument in sys.argv[1:] if argument.partition("=")[0] in groups]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            config = hydra.compose(config_name, choices)
        except Exception:  # a choice that is wrong or swept: the defaults know most keys
            config = hydra.compose(config_name)
    return [*flatten(config), *map(str, config)]


@contextmanager
def composed_once() -> Iterator[None]:
    """Keep Hydra from composing the config once more to look for hydra.mode, which none here sets: 0.1 s."""
    get_mode = Hydra.get_mode
    if not any(argument.lstrip("+").startswith("hydra.mode=") for argument in sys.argv):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = get_mode  # type: ignore[method-assign]


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Look for garbage seldom: importing torch and Lightning makes 700,000 objects, and all of them stay; 0.3 s."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 5, 5)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def environment(variable: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def is_job(config: DictConfig) -> bool:
    """Whether this is a job of a sweep of trainings."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and "sweep" in config
