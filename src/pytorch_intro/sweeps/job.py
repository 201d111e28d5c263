"""Run one job of a sweep: its errors are printed and recorded in its folder, and the next job can start."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pytorch_intro.cli.argv import quoted
from pytorch_intro.cli.entrypoint import interrupts_to_exit_codes
from pytorch_intro.cli.explain import explain_failure
from pytorch_intro.common.errors import first_lines
from pytorch_intro.common.files import remove
from pytorch_intro.common.locks import FolderLockedError
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.paths import process_arguments
from pytorch_intro.config.resolvers import output_dir
from pytorch_intro.runs.folder import Result, RunFolder
from pytorch_intro.sweeps.folder import ERROR, PRUNED, PrunedError, SweepFolder, first_line

INTERRUPTED = (130, 143)  # exit codes of Ctrl-C and signals
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID")


class JobError(Exception):
    """Why a job has no result, in one line; it can be pickled."""


class JobLostError(JobError):
    """Why a job has no result when its process could not report it."""


def run_job(task: Callable[[DictConfig], Result], config: DictConfig) -> float | None:
    """Run a job in this process, or in others if it trains on several devices; return its objective.

    Raises:
        JobError: for any error of the task.
        SystemExit: after Ctrl-C or a signal.
    """
    from pytorch_intro.sweeps.summary import write_summary
    from pytorch_intro.training.hardware import count_devices

    run = RunFolder(output_dir())
    sweep = SweepFolder(run.path.parent)
    print(f"\n{run.path.name}", flush=True)
    with interrupts_to_exit_codes():
        try:
            for old in (ERROR, PRUNED):
                remove(run.path / old)
            resolve_environment(config)
            is_distributed = count_devices(config.trainer.accelerator, config.trainer.devices) > 1
            result = run_in_processes(run) if is_distributed else task(config)
            return result.get(config.sweep.objective)
        except PrunedError as error:
            print(f"pruned: {error}", flush=True)
            return None
        except Exception as error:
            reason = record_error(error, config, run)
        finally:
            with suppress(OSError):  # such as a full disk, which the sweep reports at its end
                write_summary(sweep)
    raise JobError(reason)  # outside the except block: the error and its frames may not be picklable


def record_error(error: Exception, config: DictConfig, run: RunFolder) -> str:
    """Print why a job failed and write it to error.txt, with the traceback of an unknown error; return the line."""
    explained = explain_failure(error, config)
    line = " ".join((explained[0] if explained else f"{type(error).__name__}: {first_lines(error)}").split())
    print(f"error: {line}", file=sys.stderr, flush=True)
    if isinstance(error, FolderLockedError):  # another process uses the folder
        return line
    details = "" if explained or isinstance(error, JobError) else "\n" + "".join(traceback.format_exception(error))
    SweepFolder(run.path.parent).record_failure(run.path.name, line, details)
    return line


def run_in_processes(run: RunFolder) -> Result:
    """Train on several devices in a new process of the training command; Lightning starts the others."""
    with run.lock():
        pass  # raises if another process uses the folder
    overrides = HydraConfig.get().overrides.task
    command = [*process_arguments("train"), *overrides, f"hydra.run.dir={quoted(str(run.path))}"]
    error = ""
    # The processes of a launcher are not those of the training.
    environment = {name: value for name, value in os.environ.items() if name not in RANKS}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                print(line, end="", file=sys.stderr)
                error = line.removeprefix("error: ").strip() if line.startswith("error: ") else error
            code = process.wait()
        except BaseException as stop:
            if not isinstance(stop, KeyboardInterrupt):  # the terminal sends Ctrl-C to the process, too
                process.terminate()
            process.communicate()  # wait while it finishes the step and saves
            raise
    if code in INTERRUPTED:
        sys.exit(code)
    if (run.path / PRUNED).exists():
        raise PrunedError(first_line(run.path / PRUNED))
    if code:
        raise JobError(error or f"exit code {code}")
    return run.result()
