"""Turn a function of a config into a command: argv → config → task → exit code."""

import atexit
import functools
import gc
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from pytorch_intro.cli.argv import print_help, quote_texts, sort_flags
from pytorch_intro.cli.exit_codes import errors_to_exit_codes, interrupts_to_exit_codes
from pytorch_intro.cli.explain import explain_composition
from pytorch_intro.cli.hydra_internals import run_app
from pytorch_intro.common.cpu import JOB_MONITOR
from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import INTERRUPTED, RunError, exit_with_error
from pytorch_intro.common.streams import protect_streams
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.resolvers import register_resolvers

Task = Callable[[DictConfig], object]


def entrypoint(
    config_name: str, resolvers: Mapping[str, Callable[..., Any]] | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Make a command of a function that takes the config composed from conf/<config_name>.yaml.

    `resolvers` are OmegaConf resolvers of this command, besides those of config/resolvers.py.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def command() -> None:
            protect_streams()
            if {"--help", "-h"} & set(sys.argv):
                print_help(config_name)
            else:
                register_resolvers(resolvers)
                run(task, config_name)

        return command

    return decorate


def run(task: Task, config_name: str) -> None:
    """Compose the config from sys.argv and run the task; exit with code 2 and one line if it cannot be composed."""
    gc.set_threshold(50_000, 5, 5)  # importing torch and Lightning creates 700,000 objects that all stay; saves 0.3 s
    atexit.register(gc.freeze)  # nor search them for cycles at exit; saves 1 s
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes too late
    with interrupts_to_exit_codes():
        try:
            sort_flags()
            quote_texts()
            run_app(wrap_task(task), config_name)
        except RunError as error:
            exit_with_error(str(error), 1)
        except Exception as error:  # of Hydra, a sweeper or a launcher; the task's own have become exit codes
            if INTERRUPTED.is_set():  # whatever error the interrupt became
                sys.exit(130)
            if line := explain_composition(error, config_name):
                exit_with_error(line)
            raise


def wrap_task(task: Task) -> Task:
    """Return the function that Hydra calls, maybe in another process: the task, whose errors become exit codes."""

    @functools.wraps(task)
    def job(config: DictConfig) -> object:
        JOB_MONITOR.restart()
        if not is_rank_zero():
            logging.getLogger().setLevel(logging.WARNING)
        with interrupts_to_exit_codes(), errors_to_exit_codes(config):
            resolve_environment(config)
            return task(config)

    return job
