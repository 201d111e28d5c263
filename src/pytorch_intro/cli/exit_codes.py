"""Exit codes: 0 success, 1 failure, 2 user mistake, 130 Ctrl-C, 143 other signals."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import print_exc
from types import FrameType

from omegaconf import DictConfig

from pytorch_intro.cli.explain import explain_failure
from pytorch_intro.common.distributed import is_first_on_node
from pytorch_intro.common.errors import INTERRUPTED, SIGNALS, StopRun, exit_with_error
from pytorch_intro.common.locks import FolderLockedError
from pytorch_intro.config.resolvers import output_dir
from pytorch_intro.runs.folder import RunFolder


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
    """Turn Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP into exit codes, also where Lightning has replaced them by others."""
    install_signal_handlers()
    threading.excepthook = print_thread_error
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        # Lightning exits with 1 on Ctrl-C, and on SIGTERM with a subclass of SystemExit, whose code is 0.
        if isinstance(stop.__context__, KeyboardInterrupt):
            sys.exit(130)
        if type(stop).__name__ == "SIGTERMException":  # by its name: importing Lightning takes seconds
            sys.exit(143)
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
