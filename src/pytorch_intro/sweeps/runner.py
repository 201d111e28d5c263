"""The jobs of a sweep: checked before the first begins, launched, and summed up."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.check import check_value
from pytorch_intro.command_line import quoted
from pytorch_intro.errors import UserError, leave, one_line
from pytorch_intro.flat_config import belongs_to, flatten
from pytorch_intro.hardware import checked_hardware
from pytorch_intro.paths import PROJECT
from pytorch_intro.recorded_config import UNCOMPARED
from pytorch_intro.run_folder import RunFolder, remove
from pytorch_intro.sweeps.job import LostError
from pytorch_intro.sweeps.objective import Objective
from pytorch_intro.sweeps.plan import Job, Plan
from pytorch_intro.sweeps.summary import shown, write_summary
from pytorch_intro.sweeps.sweep_folder import ERROR, Record, SweepFolder


def check_alone() -> None:
    """Raise a UserError if this is one of several processes that torchrun or srun started."""
    if any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")):
        raise UserError("-m: a sweep starts the processes of its jobs itself; leave torchrun or srun out")


def comparable(config: DictConfig) -> str:
    """What tells a run's config from another one."""
    return repr(sorted(item for item in flatten(config).items() if not belongs_to(item[0], UNCOMPARED)))


class Runner:
    """What the sweepers share.

    Args:
        folder: The sweep's.
        context, config: Of Hydra, for the sweep as a whole.
        launcher: Runs jobs, one after the other in this process or at once in others.

    Attributes:
        settings: The config's node sweep.
        overwrite: Start anew, whatever is there.
    """

    def __init__(self, folder: SweepFolder, context: HydraContext, config: DictConfig, launcher: Launcher) -> None:
        self.folder = folder
        self.context = context
        self.config = config
        self.launcher = launcher
        self.settings = config.sweep
        self.overwrite: bool = config.overwrite
        self.launched = 0
        logging.getLogger("hydra").setLevel(logging.WARNING)  # each job says itself which it is
        check_value("sweep.objective", self.settings.objective, Objective)
        check_value("sweep.fail_fast", self.settings.fail_fast, bool)

    def parse(self, arguments: Sequence[str]) -> list[Override]:
        """Overrides as they were typed."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        parsed = parser.parse_overrides(list(arguments))
        return list({override.get_key_element(): override for override in parsed}.values())  # the last of each key

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a job with these overrides, without Hydra's own part."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.pop("hydra")
        return config

    def record(self) -> Record | None:
        """What the sweep recorded when it was run before, unless it is to start anew."""
        return None if self.overwrite else self.folder.record()

    def begin(self, plan: Plan, base: DictConfig) -> list[Job]:
        """Check all jobs, then record them.

        Args:
            base: The config that they have in common.

        Returns:
            Those that are not finished.

        Raises:
            UserError: for the first whose config is wrong or differs from what its folder was begun with, or if what
                they have in common differs from before.
        """
        flat = flatten(base)
        if before := self.record():
            self.folder.check_base(before, flat, plan.swept)
            plan = self.with_folders_of(before, plan)
        waiting = [job for job in plan.jobs if not self.is_finished(job, plan.base)]
        if self.overwrite and self.folder.path.exists():
            self.folder.put_aside()
        self.folder.begin(plan, self.settings.objective, flat)
        return waiting

    def with_folders_of(self, before: Record, plan: Plan) -> Plan:
        """Give jobs that were recorded by other names, as when a key was not swept yet, the folders that they have."""
        names = {job.name for job in plan.jobs}
        others = {}
        for name, given in before.jobs.items():
            if name not in names:
                with suppress(UserError):  # of an older version's settings
                    others[comparable(self.config_of(Job(name, given["swept"]), given["given"]))] = name
        if not others:
            return plan
        known = {job.name: others.get(comparable(self.config_of(job, plan.base)), job.name) for job in plan.jobs}
        return plan._replace(jobs=[Job(known[job.name], job.overrides) for job in plan.jobs])

    def config_of(self, job: Job, base: Sequence[str]) -> DictConfig:
        """The job's config.

        Raises:
            UserError: if Hydra refuses it.
        """
        try:
            return self.compose([*base, *job.overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{one_line(error)} (in the job {' '.join(job.overrides)}; it cannot be run)") from error

    def is_finished(self, job: Job, base: Sequence[str]) -> bool:
        """Whether a job, which is checked as it itself will do, has been run to its end; that is said."""
        config = self.config_of(job, base)
        config.run_dir = "a folder that the job will have"
        config.overwrite = self.overwrite
        logging.disable(logging.INFO)  # each job will say itself what hardware it takes
        try:
            if config.trainer.num_nodes != 1:
                raise UserError("trainer.num_nodes: a sweep starts its jobs on one machine each; leave it at 1")
            result = RunFolder(self.folder.path / job.name).recorded_result(config)
            if result is None:
                checked_hardware(config)
        except UserError as error:
            raise UserError(f"{error} (in the job {' '.join(job.overrides)}; no job was begun)") from error
        finally:
            logging.disable(logging.NOTSET)
        if result:
            objective = self.settings.objective
            print(f"{job.name}: finished before, {objective} {shown(result[objective])}")
        return result is not None

    def launch(self, jobs: Sequence[Job], base: Sequence[str]) -> dict[str, str]:
        """Run jobs; in this process one after the other, else all at once.

        Returns:
            Of those that failed, why.
        """
        failed: dict[str, str] = {}
        # By its name: Hydra loads the modules of its launchers a second time when it looks for plugins.
        size = 1 if type(self.launcher).__name__ == "BasicLauncher" else max(1, len(jobs))
        for first in range(0, len(jobs), size):
            failed |= self.launch_batch(jobs[first : first + size], base)
            if failed and self.settings.fail_fast:
                break
        return failed

    def launch_batch(self, jobs: Sequence[Job], base: Sequence[str]) -> dict[str, str]:
        # What is begun anew has been put aside: a job that is started twice carries on.
        common = [value for value in base if not value.startswith("overwrite=")]
        given = [[*common, *job.overrides, *self.places(job)] for job in jobs]
        first, self.launched = self.launched, self.launched + len(jobs)
        path = os.pathsep.join(filter(None, [str(PROJECT / "src"), os.environ.get("PYTHONPATH")]))
        try:
            with env_override({"PYTHONPATH": path}):  # for processes that a launcher starts
                returns = self.launcher.launch(given, initial_job_idx=first)
        except UserError:
            raise
        except Exception as error:  # of the launcher, which the jobs know nothing of
            lost = LostError(f"the launcher lost it: {type(error).__name__}: {one_line(error)}")
            returns = [JobReturn(status=JobStatus.FAILED, _return_value=lost)] * len(jobs)
        failed: dict[str, str] = {}
        for job, end in zip(jobs, returns, strict=True):
            status = self.folder.outcome(job.name).status
            if end.status != JobStatus.FAILED or status in ("finished", "pruned"):
                continue
            reason = failed[job.name] = str(end._return_value)
            if isinstance(end._return_value, LostError) and status == "unfinished":
                self.folder.record_failure(job.name, reason)
        return failed

    def places(self, job: Job) -> list[str]:
        """Hydra's settings of where a job writes: plain ones, for it may be in a process that knows no others."""
        return [f"hydra.sweep.dir={quoted(str(self.folder.path.absolute()))}", f"hydra.sweep.subdir='{job.name}'"]

    def end(self, failed: dict[str, str]) -> None:
        """Write the summary and print it; leave with exit code 1 if jobs have failed."""
        try:
            summary = write_summary(self.folder)
        except OSError as error:
            leave(
                f"{self.folder.path}: the summary cannot be written ({error}); make room, and say the same", exit_code=1
            )
        if summary is None:
            leave(f"{self.folder.path}: somebody has removed the sweep's folder; say the same again", exit_code=1)
        print(f"\n{summary.as_text()}", flush=True)
        if failed:
            told = [
                name if (self.folder.path / name / ERROR).exists() else f"{name} ({why})"
                for name, why in failed.items()
            ]
            what = "the sweep was stopped at the first failure" if self.settings.fail_fast else "the others were run"
            leave(
                f"{len(failed)} of {len(summary.rows)} jobs failed, {what}: {'; '.join(told)}; see {ERROR} in their "
                "folders; the same command tries again",
                exit_code=1,
            )
        if not summary.count("unfinished"):
            remove(self.folder.replaced)
