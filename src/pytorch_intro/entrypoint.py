"""From the command line to an exit code: 0 done, 1 failed, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM."""

import functools
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
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.errors import UserError, explain, leave, one_line
from pytorch_intro.faults import explain_fault
from pytorch_intro.finished_run import recorded_run
from pytorch_intro.flat_config import flatten
from pytorch_intro.paths import CONFIG_DIR, PROJECT, job_dir, new_run_dir, new_sweep_dir
from pytorch_intro.run_folder import RunFolder

Task = Callable[[DictConfig], object]

SIGNALS = {signal.SIGTERM: 143}  # and their exit codes
if sys.platform != "win32":
    SIGNALS[signal.SIGUSR1] = 143  # SLURM's, before it ends a job
PATHS = ("images", "run")  # settings that hold nothing else
TRACEBACK = "HYDRA_FULL_ERROR"
LIGHTNING_MISTAKE = "MisconfigurationException"


def entrypoint(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a command of a function that takes the config composed from conf/<config_name>.yaml.

    What the function returns goes to Hydra, as the objective of a sweep. The user's mistakes end in one line on
    stderr and exit code 2, without a traceback unless HYDRA_FULL_ERROR=1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def command() -> None:
            if {"--help", "-h"} & set(sys.argv):
                return print_help(config_name)
            order_flags()
            quote_paths()
            register_resolvers()
            asked_for = os.environ.get(TRACEBACK, "0")
            failures: list[Exception] = []  # of the task itself, which no remedy is known for

            @functools.wraps(task)
            def job(config: DictConfig) -> object:
                end_by_signals()
                try:
                    with environment(TRACEBACK, asked_for), exit_codes(config):
                        return task(config)
                except Exception as error:
                    failures.append(error)
                    raise

            # Hydra then raises its errors, instead of printing them in its own form and leaving with exit code 1.
            with environment(TRACEBACK, "1"):
                try:
                    hydra.main(config_path=str(CONFIG_DIR), config_name=config_name, version_base="1.3")(job)()
                except Exception as error:
                    line = None if error in failures else explain(error, lambda: known_keys(config_name))
                    if line is None:
                        raise
                    leave(line, traceback=asked_for != "0")

        return command

    return decorate


def print_help(config_name: str) -> None:
    """Hydra's --help, without its search through all groups, which takes half a second."""
    print(OmegaConf.load(CONFIG_DIR / "hydra" / "help" / f"{config_name}.yaml").template)


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
            # A backslash is doubled before a quotation mark alone, also before the one at the end.
            escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (end[2] and "\\'"), value).replace("${", "\\${")
            sys.argv[number] = f"{key}='{escaped}'"


def register_resolvers() -> None:
    """Teach the configs ${project:PATH}, ${job_dir:…}, ${new_run_dir:…}, ${new_sweep_dir:…} and ${recorded_run:…}.

    See paths.py and finished_run.py.
    """
    OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)
    OmegaConf.register_new_resolver("job_dir", job_dir, replace=True)
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


@contextmanager
def exit_codes(config: DictConfig) -> Iterator[None]:
    """Turn errors, Ctrl-C and SIGTERM into their exit codes, before Hydra or Lightning make others of them."""
    try:
        yield
    except Exception as error:
        # Lightning tells the user's mistakes by an exception of its own, which is not worth importing it for.
        if not isinstance(error, (UserError, OmegaConfBaseException)) and type(error).__name__ != LIGHTNING_MISTAKE:
            if fault := explain_fault(error, config):
                leave(fault, traceback=os.environ[TRACEBACK] != "0", exit_code=1)
            raise
        RunFolder(HydraConfig.get().runtime.output_dir).discard_unless_begun()
        leave(one_line(error), traceback=os.environ[TRACEBACK] != "0")
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        # Lightning answers Ctrl-C with exit code 1 and SIGTERM with a SystemExit of its own, whose code is 0.
        if isinstance(stop.__context__, KeyboardInterrupt):
            sys.exit(130)
        if type(stop).__name__ == "SIGTERMException":
            sys.exit(143)
        raise
