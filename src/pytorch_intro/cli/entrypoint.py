"""Turn a function of a config into a command: argv → config → task → exit code.

Exit codes: 0 success, 1 failure, 2 user mistake, 130 Ctrl-C, 143 other signals.
"""

import atexit
import functools
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import print_exc
from types import FrameType
from typing import Any, Protocol

from omegaconf import DictConfig

from pytorch_intro.cli.argv import print_help, quote_texts
from pytorch_intro.cli.explain import explain_composition, explain_failure
from pytorch_intro.cli.hydra_internals import run_app
from pytorch_intro.common.cpu import JOB_MONITOR
from pytorch_intro.common.distributed import is_first_on_node, is_rank_zero
from pytorch_intro.common.errors import INTERRUPTED, SIGNALS, RunError, StopRun, exit_with_error
from pytorch_intro.common.locks import FolderLockedError
from pytorch_intro.common.streams import protect_streams
from pytorch_intro.common.version import __version__
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.paths import open_project
from pytorch_intro.config.resolvers import output_dir, register_resolvers
from pytorch_intro.runs.folder import RunFolder

Task = Callable[[DictConfig], object]


class Command(Protocol):
    """A command; its arguments are those of the command line by default."""

    def __call__(self, arguments: Sequence[str] | None = None) -> None: ...


def entrypoint(
    config_name: str, resolvers: Mapping[str, Callable[..., Any]] | None = None
) -> Callable[[Task], Command]:
    """Make a command of a function that takes the config composed from conf/<config_name>.yaml.

    `resolvers` are OmegaConf resolvers of this command, besides those of config/resolvers.py.
    """

    def decorate(task: Task) -> Command:
        @functools.wraps(task)
        def command(arguments: Sequence[str] | None = None) -> None:
            protect_streams()
            register_resolvers(resolvers)
            run(task, config_name, sys.argv[1:] if arguments is None else arguments)

        return command

    return decorate


def run(task: Task, config_name: str, arguments: Sequence[str]) -> None:
    """Compose the config and run the task, or print --help; exit with code 2 and one line if it cannot be composed."""
    gc.set_threshold(50_000, 5, 5)  # importing torch and Lightning creates 700,000 objects that all stay; saves 0.3 s
    atexit.register(gc.freeze)  # nor search them for cycles at exit; saves 1 s
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes too late
    with interrupts_to_exit_codes():
        try:
            if {"--help", "-h"} & set(arguments):
                print_help(config_name)
                return
            if "--version" in arguments:
                print(f"pytorch-intro {__version__}")
                return
            open_project()
            run_app(wrap_task(task), config_name, quote_texts(arguments))
        except RunError as error:
            exit_with_error(str(error), 1)
        except Exception as error:  # of Hydra, a sweeper or a launcher; the task's own have become exit codes
            if INTERRUPTED.is_set():  # whatever error the interrupt became
                sys.exit(130)
            if line := explain_composition(error, config_name, arguments):
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


@contextmanager
def errors_to_exit_codes(config: DictConfig) -> Iterator[None]:
    """Exit with one line for an error that can be explained, with its traceback for any other."""
    try:
        yield
    except StopRun:
        sys.exit(0)
    except Exception as error:
        explained = explain_failure(error, config)
        if explained is None:
            print_exc()
            sys.exit(1)
        line, exit_code = explained
        if exit_code == 2 and not is_first_on_node():  # all ranks find the same mistake
            sys.exit(exit_code)
        if exit_code == 2 and not isinstance(error, FolderLockedError):  # then another process uses the folder
            RunFolder(output_dir()).remove_if_empty()
        exit_with_error(line, exit_code)


@contextmanager
def interrupts_to_exit_codes() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP into exit codes."""
    install_signal_handlers()
    threading.excepthook = print_thread_error
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning exits with 1 on Ctrl-C
            sys.exit(130)
        raise


def install_signal_handlers() -> None:
    """Exit at once on SIGTERM, SIGUSR1 and SIGHUP; during training, GracefulShutdown first finishes the step."""
    if threading.current_thread() is threading.main_thread():
        INTERRUPTED.clear()
        signal.signal(signal.SIGINT, on_interrupt)
        for number in SIGNALS:
            signal.signal(number, lambda number, _: sys.exit(SIGNALS[signal.Signals(number)]))


def on_interrupt(number: int, frame: FrameType | None) -> None:
    INTERRUPTED.set()
    raise KeyboardInterrupt


def print_thread_error(failure: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, except of TensorBoard's writer: the main thread gets the same error."""
    if type(failure.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failure)
