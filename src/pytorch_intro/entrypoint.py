"""From the command line to an exit code: 0 done, 1 failed, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM."""

import functools
import gc
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.errors import PrunedError, ended_by_closed_pipe, explain, leave
from pytorch_intro.faults import explain_failure, told_once
from pytorch_intro.finished_run import recorded_run
from pytorch_intro.flat_config import flatten
from pytorch_intro.paths import CONFIG_DIR, PROJECT, new_run_dir, new_sweep_dir
from pytorch_intro.run_folder import RunFolder, is_first_process

Task = Callable[[DictConfig], object]

SIGNALS = {signal.SIGTERM: 143}  # and their exit codes
if sys.platform != "win32":
    SIGNALS[signal.SIGUSR1] = 143  # SLURM's, before it ends a job
PATHS = ("images", "run")  # settings that hold nothing else
TRACEBACK = "HYDRA_FULL_ERROR"


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
        if not is_first_process():
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


def print_help(config_name: str) -> None:
    """Hydra's --help, without its search through all groups, which takes half a second.

    Choices that the text does not name, such as files of one's own in conf/, are added to their group's paragraph.
    """
    template = OmegaConf.load(CONFIG_DIR / f"{config_name}.yaml").hydra.help.template
    with ended_by_closed_pipe():
        print(re.sub(r"Choices .*?\n\n", with_other_choices, template, flags=re.DOTALL), flush=True)


def with_other_choices(text: re.Match[str]) -> str:
    """Each paragraph that begins with a group's name, and the choices of that group that it does not name."""

    def completed(paragraph: re.Match[str]) -> str:
        choices = sorted(path.stem for path in (CONFIG_DIR / paragraph[1]).glob("*.yaml"))
        others = [choice for choice in choices if not re.search(rf"\b{choice}\b", paragraph[0])]
        return "; ".join([paragraph[0], *others])

    return re.sub(r"^  ([a-z/]+)(?=\s).*(?:\n {5,}\S.*)*", completed, text[0], flags=re.MULTILINE)


def order_flags() -> None:
    """Let -m stand anywhere among the settings, and answer flags that Hydra does not have in one line."""
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    parser = get_args_parser()
    parser.error = lambda message: leave(f"{message}; --help shows what can be said")  # type: ignore[method-assign]
    parser.parse_args()


def quote_paths() -> None:
    """Let paths be of any characters, as the shell hands them over; Hydra's grammar has its own ideas of some."""
    if {"-m", "--multirun"} & set(sys.argv):  # where commas part one value from another
        return
    for number, argument in enumerate(sys.argv):
        key, _, value = argument.partition("=")
        if key in PATHS and value[:1] not in ("'", '"'):
            sys.argv[number] = f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """A text of any characters as a value in Hydra's grammar."""
    # A backslash is doubled before a quotation mark alone, also before the one at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (end[2] and "\\'"), text).replace("${", "\\${")
    return f"'{escaped}'"


def register_resolvers() -> None:
    """Teach the configs ${project:PATH}, ${new_run_dir:…}, ${new_sweep_dir:…} and ${recorded_run:…}.

    See paths.py and finished_run.py.
    """
    OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)
    OmegaConf.register_new_resolver("new_run_dir", new_run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("new_sweep_dir", new_sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("recorded_run", recorded_run, use_cache=True, replace=True)


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


def end_by_signals() -> None:
    """SIGTERM and SIGUSR1 end the program at once; in a training, Interruption lets it finish its step before."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        signal.signal(number, leave_by_signal)


def leave_by_signal(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(SIGNALS[signal.Signals(number)])


def is_job(config: DictConfig) -> bool:
    """Whether this is a job of a sweep of trainings."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and "sweep" in config


@contextmanager
def exit_codes_of_errors(config: DictConfig) -> Iterator[None]:
    """Turn errors that there is a sentence for into that and an exit code."""
    try:
        yield
    except PrunedError:  # of a training in processes of its own; the first has written it into the run's folder
        sys.exit(0)
    except Exception as error:
        explained = explain_failure(error, config)
        if explained is None:
            raise
        line, exit_code = explained
        if exit_code == 2:
            RunFolder(HydraConfig.get().runtime.output_dir).discard_unless_begun()
        leave(line, traceback=os.environ[TRACEBACK] != "0", exit_code=exit_code)


@contextmanager
def exit_codes_of_stops() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into their exit codes, before Hydra or Lightning make others of them."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        # Lightning answers Ctrl-C with exit code 1 and SIGTERM with a SystemExit of its own, whose code is 0.
        if isinstance(stop.__context__, KeyboardInterrupt):
            sys.exit(130)
        if type(stop).__name__ == "SIGTERMException":
            sys.exit(143)
        raise
