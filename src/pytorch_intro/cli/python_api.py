"""Run a command from Python, for notebooks and scripts: errors are raised, and the process is left as it was."""

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import unwrap
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pytorch_intro.cli.argv import quote_texts
from pytorch_intro.cli.explain import explain_composition, explain_failure
from pytorch_intro.cli.hydra_internals import compose_config, run_task
from pytorch_intro.common.cpu import JOB_MONITOR
from pytorch_intro.common.errors import SIGNALS, RunError, UserError
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.paths import open_project
from pytorch_intro.config.resolvers import output_dir, register_resolvers
from pytorch_intro.runs.folder import RunFolder


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose conf/<config_name>.yaml with overrides as on the command line; a UserError if they are wrong."""
    with prepared(config_name, overrides) as texts:
        return compose_config(config_name, texts)


def call(command: Any, config_name: str, overrides: Sequence[str]) -> tuple[Any, Path]:
    """Run the task of a command, which @entrypoint made; return its result and the run folder.

    Raises:
        UserError: for a mistake in the overrides, the config or the data.
        RunError: for another failure that can be explained.
        KeyboardInterrupt: if Ctrl-C ended the run.
    """
    returned: dict[str, Any] = {}

    def job(config: DictConfig) -> None:
        returned["folder"] = Path(output_dir())
        JOB_MONITOR.restart()
        try:
            resolve_environment(config)
            returned["result"] = unwrap(command)(config)
        except BaseException as error:  # Hydra would print its own line
            returned["error"] = explained(error, config)

    with prepared(config_name, overrides) as texts, logging_restored(), signal_handlers_restored():
        run_task(job, config_name, texts)
    if error := returned.get("error"):
        if isinstance(error, UserError):
            RunFolder(returned["folder"]).remove_if_empty()
        raise error
    return returned["result"], returned["folder"]


def explained(error: BaseException, config: DictConfig) -> BaseException:
    """Return the error to raise: with a line that explains it, if there is one."""
    if isinstance(error, SystemExit):  # of GracefulShutdown or Lightning, after Ctrl-C or a signal
        return KeyboardInterrupt() if error.code in (1, 130) else error
    if isinstance(error, (UserError, RunError)) or not isinstance(error, Exception):
        return error
    line, exit_code = explain_failure(error, config) or ("", 0)
    if not line:
        return error
    better = UserError(line) if exit_code == 2 else RunError(line)
    better.__cause__ = error
    return better


@contextmanager
def prepared(config_name: str, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Give the overrides as Hydra reads them; explain errors of composing, and restore Hydra's global state."""
    if isinstance(overrides, str):
        raise UserError(f"{overrides!r}: not a list; use [{overrides!r}]")
    app, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    register_resolvers()
    try:
        open_project()
        yield quote_texts(overrides)
    except (UserError, RunError):
        raise
    except Exception as error:
        if line := explain_composition(error, config_name, overrides):
            raise UserError(line) from error
        raise
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = app, config


@contextmanager
def logging_restored() -> Iterator[None]:
    """Restore the root logger's handlers and level, and close the log file."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def signal_handlers_restored() -> Iterator[None]:
    """Restore the handlers of Ctrl-C and other signals, which training replaces while it runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as stack:
        for number in (signal.SIGINT, *SIGNALS):
            stack.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
        yield
