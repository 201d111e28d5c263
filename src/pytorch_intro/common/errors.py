"""Exceptions with a message for the user, and how a program prints one and exits."""

import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from traceback import print_exc
from typing import NoReturn

from pytorch_intro.common.text import to_displayable

MAX_LINE = 1000  # characters; a user's value can have any length
SIGNALS = {signal.SIGTERM: 143}  # signals that end a run, and their exit codes
if sys.platform != "win32":
    SIGNALS[signal.SIGUSR1] = 143  # sent by SLURM before it ends a job
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        SIGNALS[signal.SIGHUP] = 143  # the terminal was closed
INTERRUPTED = threading.Event()  # set by Ctrl-C
OUT_OF_MEMORY = r"out of memory|can't allocate memory|not enough memory"  # messages of torch, for a device or the CPU
TRACEBACK = "HYDRA_FULL_ERROR"  # environment variable of Hydra: 1 prints tracebacks


class UserError(Exception):
    """A mistake that the user can fix: one sentence with the key or file, and the remedy. Exit code 2."""


class RunError(Exception):
    """A failure that this project detected itself: one sentence with what to try. Exit code 1."""


class StopRun(Exception):  # noqa: N818 (not an error)
    """Base of exceptions that end a run early without an error."""


def exit_with_error(line: str, exit_code: int = 2) -> NoReturn:
    """Print one line on stderr and exit; with HYDRA_FULL_ERROR=1, after the traceback of the current exception."""
    if os.environ.get(TRACEBACK, "0") != "0":
        print_exc()
    print("error:", to_displayable(line, MAX_LINE), file=sys.stderr)
    sys.exit(exit_code)


def exception_chain(error: BaseException | None) -> list[BaseException]:
    """Return the error, followed by the errors that caused it or were being handled."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


def first_lines(error: BaseException) -> str:
    """Return an error message as one line, without lines of Hydra and OmegaConf about their own objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ignored = ("full_key:", "object_type=", "See https", "Config search path:", "provider=")
    return "; ".join(line for line in lines if not line.startswith(ignored)).replace(".; ", "; ").replace(":; ", ": ")


def check_installed(feature: str, packages: Sequence[str], extra: str) -> None:
    """Raise a UserError if a package that a feature needs, of pytorch-intro[<extra>], is not installed."""
    missing = [name.rpartition(".")[2] for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        file = f"requirements-{extra}.txt"
        is_clone = (Path(__file__).resolve().parents[3] / file).is_file()
        command = f"pip install -r {file}" if is_clone else f"pip install 'pytorch-intro[{extra}]'"
        raise UserError(f"{feature}: {', '.join(missing)} not installed; run {command}")
