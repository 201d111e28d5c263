"""How a program ends: 0 done, 1 failed, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM and SIGUSR1."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pytorch_intro.claim import FolderLockedError
from pytorch_intro.errors import PrunedError, leave
from pytorch_intro.faults import explain_failure
from pytorch_intro.run_folder import RunFolder

SIGNALS = {signal.SIGTERM: 143}  # and their exit codes
if sys.platform != "win32":
    SIGNALS[signal.SIGUSR1] = 143  # SLURM's, before it ends a job
TRACEBACK = "HYDRA_FULL_ERROR"


def end_by_signals() -> None:
    """SIGTERM and SIGUSR1 end the program at once; in a training, GracefulShutdown lets it finish its step before."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        signal.signal(number, leave_by_signal)


def leave_by_signal(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(SIGNALS[signal.Signals(number)])


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
        if exit_code == 2 and not isinstance(error, FolderLockedError):  # the folder is another's
            RunFolder(HydraConfig.get().runtime.output_dir).remove_if_empty()
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
