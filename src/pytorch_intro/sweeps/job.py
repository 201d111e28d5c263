"""One job of a sweep: what goes wrong is told and recorded in its folder, and the next job can begin."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pytorch_intro.claim import FolderLockedError
from pytorch_intro.command_line import quoted
from pytorch_intro.errors import PrunedError, one_line
from pytorch_intro.faults import explain_failure
from pytorch_intro.paths import PROJECT
from pytorch_intro.run_folder import RunFolder, remove
from pytorch_intro.sweeps.folder import ERROR, PRUNED, SweepFolder, first_line

STOPPED = (130, 143)  # exit codes of what was ended from outside


class JobError(Exception):
    """Why a job has no result, in one line; it survives the way from another process."""


class JobLostError(JobError):
    """Why a job has no result, where its process could not say so itself."""


def run_job(task: Callable[[DictConfig], object], config: DictConfig) -> object:
    """Run a job, in this process, or in others if it trains on several devices.

    Raises:
        JobError: whatever went wrong.
        SystemExit: if it was ended by Ctrl-C or a signal.
    """
    from pytorch_intro.hardware import number_of_processes
    from pytorch_intro.sweeps.summary import write_summary

    run = RunFolder(HydraConfig.get().runtime.output_dir)
    sweep = SweepFolder(run.path.parent)
    print(f"\n{run.path.name}", flush=True)
    try:
        for left in (ERROR, PRUNED):
            remove(run.path / left)
        several = number_of_processes(config.trainer) > 1
        return run_in_own_processes(run, config.sweep.objective) if several else task(config)
    except PrunedError as error:
        print(f"pruned: {error}", flush=True)
        return None
    except Exception as error:
        reason = recorded_reason(error, config, run)
    finally:
        with suppress(OSError):  # a full disk, for one: the sweep tells it at its end
            write_summary(sweep)
    raise JobError(reason)  # here, where it does not lead to the other error and to all that was at work then


def recorded_reason(error: Exception, config: DictConfig, run: RunFolder) -> str:
    """Say why a job ends here, and write it into its folder, with the traceback where nothing more is known."""
    explained = explain_failure(error, config)
    line = " ".join((explained[0] if explained else f"{type(error).__name__}: {one_line(error)}").split())
    print(f"error: {line}", file=sys.stderr, flush=True)
    if isinstance(error, FolderLockedError):  # the folder is another's
        return line
    details = "" if explained or isinstance(error, JobError) else "\n" + "".join(traceback.format_exception(error))
    SweepFolder(run.path.parent).record_failure(run.path.name, line, details)
    return line


def run_in_own_processes(run: RunFolder, objective: str) -> float | None:
    """Train on several devices: each has its process, and all of them repeat the command that the first was started by.

    Returns:
        The objective.
    """
    with run.lock():
        pass  # else it is another's, and nothing is to be written there
    given = HydraConfig.get().overrides.task
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *given, f"hydra.run.dir={quoted(str(run.path))}"]
    said = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=clean(os.environ)) as own:
        assert own.stderr is not None
        try:
            for line in own.stderr:
                print(line, end="", file=sys.stderr)
                said = line.removeprefix("error: ").strip() if line.startswith("error: ") else said
            code = own.wait()
        except BaseException as stop:
            if not isinstance(stop, KeyboardInterrupt):  # which the terminal has told to it too
                own.terminate()
            own.communicate()  # while it finishes its step and saves
            raise
    if code in STOPPED:
        sys.exit(code)
    if (run.path / PRUNED).exists():
        raise PrunedError(first_line(run.path / PRUNED))
    if code:
        raise JobError(said or f"it ended with exit code {code}")
    return run.result()[objective]


def clean(environment: "os._Environ[str]") -> dict[str, str]:
    """An environment that says nothing of ranks: a launcher's processes are not those of the training."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID")
    return {name: value for name, value in environment.items() if name not in ranks}
