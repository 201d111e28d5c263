"""Run a sweep: check all jobs before the first starts, launch them, and print the summary."""

import functools
import inspect
import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, env_override
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.cli.argv import quoted
from pytorch_intro.cli.explain import explain_composition
from pytorch_intro.common.errors import UserError, check_installed, exit_with_error, first_lines
from pytorch_intro.common.files import remove
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.flatten import flatten, is_under
from pytorch_intro.config.paths import PROJECT, PROJECT_VARIABLE
from pytorch_intro.data.ingest.data_root import checked_root
from pytorch_intro.runs.config_record import IGNORED_KEYS
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.sweeps.folder import ERROR, Record, SweepFolder, check_settings
from pytorch_intro.sweeps.hydra_internals import failed_job, job_error, runs_jobs_in_turn
from pytorch_intro.sweeps.job import JobLostError, run_job
from pytorch_intro.sweeps.plan import Job, Plan, plan_grid
from pytorch_intro.sweeps.summary import format_score, write_summary
from pytorch_intro.training.finder_checks import check_finders
from pytorch_intro.training.hardware import resolve_hardware
from pytorch_intro.training.monitors import check_monitors, chosen_metrics, is_higher_better

# Packages that Hydra's plugins in src/hydra_plugins need, by their `_target_`: arguments of check_installed.
PLUGIN_PACKAGES = {
    "hydra_plugins.sweepers.OptunaSweeper": ("hydra/sweeper=optuna", ("optuna",), "search"),
    "hydra_plugins.launchers.RayLauncher": ("hydra/launcher=ray", ("ray", "hydra_plugins.hydra_ray_launcher"), "scale"),
    "hydra_plugins.launchers.SlurmLauncher": (
        "hydra/launcher=slurm", ("submitit", "hydra_plugins.hydra_submitit_launcher"), "scale",
    ),
}  # fmt: skip


def check_alone() -> None:
    """Raise a UserError if torchrun or srun started this process as one of several."""
    if any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")):
        raise UserError("-m: a sweep starts the processes of its jobs itself; run it without torchrun or srun")


def check_plugin(target: str) -> None:
    """Check that the packages of a sweeper or launcher, given by its `_target_`, are installed."""
    if requirements := PLUGIN_PACKAGES.get(target):
        check_installed(*requirements)


def config_fingerprint(config: DictConfig) -> str:
    """Return a text that is equal for equal configs of a run."""
    return repr(sorted(item for item in flatten(config).items() if not is_under(item[0], IGNORED_KEYS)))


class Runner:
    """Check, launch and summarize jobs, for every sweeper; the arguments are those of Sweeper.setup."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        check_alone()
        check_plugin(config.hydra.sweeper._target_)
        check_plugin(config.hydra.launcher._target_)
        check_settings(config)
        if config.resume is not None:
            raise UserError(
                f"resume={config.resume}: continues one run; leave out -m, or to continue a sweep rerun its command"
            )
        # The task without entrypoint.wrap_task: run_job needs its errors, not exit codes.
        job = functools.partial(run_job, inspect.unwrap(task))
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=config)
        self.context = context
        self.config = config
        self.folder = SweepFolder(config.hydra.sweep.dir)
        self.settings = config.sweep
        self.maximizes = bool(is_higher_better(self.settings.objective, chosen_metrics(config)))
        self.overwrite: bool = config.overwrite
        self.num_launched = 0
        logging.getLogger("hydra").setLevel(logging.WARNING)  # each job prints its name

    def run_grid(self, arguments: Sequence[str]) -> None:
        """Run all combinations of the values in these overrides that are not finished yet."""
        previous = self.record()
        plan = plan_grid(self.parse(arguments), previous.swept if previous else (), self.settings.max_jobs)
        unfinished = self.begin(plan, self.compose(plan.base))
        self.end(self.launch(unfinished, plan.base))

    def parse(self, arguments: Sequence[str]) -> list[Override]:
        """Parse overrides; the last one of each key wins."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        parsed = parser.parse_overrides(list(arguments))
        return list({override.get_key_element(): override for override in parsed}.values())

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a config with these overrides, without Hydra's own part."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.pop("hydra")
        resolve_environment(config)
        return config

    def record(self) -> Record | None:
        """Return the record of an earlier run of this sweep, unless it is overwritten."""
        return None if self.overwrite else self.folder.record()

    def begin(self, plan: Plan, base: DictConfig) -> list[Job]:
        """Check all jobs of a plan, record them, and return those that are not finished.

        Raises:
            UserError: If a config is invalid, or differs from the recorded one of the job or, for `base`, of the sweep.
        """
        flat = flatten(base)
        if previous := self.record():
            self.folder.check_base(previous, flat, plan.swept)
            plan = self.reuse_folders(previous, plan)
        unfinished = [job for job in plan.jobs if not self.is_finished(job, plan.base)]
        if self.overwrite:
            self.folder.archive_previous()
        self.folder.begin(plan, self.settings.objective, self.maximizes, flat)
        return unfinished

    def reuse_folders(self, previous: Record, plan: Plan) -> Plan:
        """Give jobs that already ran under another name, when a key was not swept yet, their existing folders."""
        names = {job.name for job in plan.jobs}
        existing = {}
        for name, overrides in previous.jobs.items():
            if name not in names:
                with suppress(UserError):  # settings of an older version
                    config = self.job_config(Job(name, overrides["swept"]), overrides["given"])
                    existing[config_fingerprint(config)] = name
        if not existing:
            return plan
        keys = [config_fingerprint(self.job_config(job, plan.base)) for job in plan.jobs]
        named = [job._replace(name=existing.get(key, job.name)) for job, key in zip(plan.jobs, keys, strict=True)]
        return plan._replace(jobs=named)

    def job_config(self, job: Job, base: Sequence[str]) -> DictConfig:
        """Compose the config of a job; raise a UserError if Hydra cannot."""
        try:
            return self.compose([*base, *job.overrides])
        except (HydraException, OmegaConfBaseException) as error:
            hydra = self.config.hydra
            line = explain_composition(error, hydra.job.config_name, hydra.overrides.task)
            raise UserError(f"{line} (in the job {' '.join(job.overrides)}; no job was started)") from error

    def is_finished(self, job: Job, base: Sequence[str]) -> bool:
        """Check a job's config as the job itself will; print and return whether the job is finished.

        Raises:
            UserError: If the config is invalid or differs from the one in the job's folder.
        """
        config = self.job_config(job, base)
        config.run_dir = "set by Hydra for each job"
        config.overwrite = self.overwrite
        logging.disable(logging.INFO)  # each job will log its hardware
        try:
            if (nodes := config.trainer.num_nodes) != 1:
                raise UserError(f"trainer.num_nodes={nodes}: each job runs on one machine; use trainer.num_nodes=1")
            check_finders(config, is_sweep=True)
            result = RunFolder(self.folder.path / job.name).recorded_result(config)
            if result is None:
                resolve_hardware(config)
                check_monitors(config)
                if runs_jobs_in_turn(self.launcher) and config.data.root is not None:  # else maybe on other machines
                    checked_root(config.data.root)
        except UserError as error:
            raise UserError(f"{error} (in the job {' '.join(job.overrides)}; no job was started)") from error
        finally:
            logging.disable(logging.NOTSET)
        if result:
            objective = self.settings.objective
            print(f"{job.name}: already finished, {objective} {format_score(result.get(objective))}")
        return result is not None

    def launch(self, jobs: Sequence[Job], base: Sequence[str]) -> dict[str, str]:
        """Run jobs, one by one or all in parallel, and return the reason of each failure by the job's name."""
        failed: dict[str, str] = {}
        size = 1 if runs_jobs_in_turn(self.launcher) else max(1, len(jobs))
        for first in range(0, len(jobs), size):
            failed |= self.launch_batch(jobs[first : first + size], base)
            if failed and self.settings.fail_fast:
                break
        return failed

    def launch_batch(self, jobs: Sequence[Job], base: Sequence[str]) -> dict[str, str]:
        # The previous sweep has been archived. Without overwrite=true, a job that is started twice resumes.
        shared = [value for value in base if not value.startswith("overwrite=")]
        # No resolvers: the job's process may not know them.
        folder = f"hydra.sweep.dir={quoted(str(self.folder.path.absolute()))}"
        overrides = [[*shared, *job.overrides, folder, f"hydra.sweep.subdir='{job.name}'"] for job in jobs]
        path = os.pathsep.join(filter(None, [str(PROJECT / "src"), os.environ.get("PYTHONPATH")]))
        try:
            # For processes that a launcher starts, maybe in another working directory.
            with env_override({"PYTHONPATH": path, PROJECT_VARIABLE: str(PROJECT)}):
                returns = self.launcher.launch(overrides, initial_job_idx=self.num_launched)
        except UserError:
            raise
        except Exception as error:  # the launcher itself failed, so no job could record why
            lost = JobLostError(f"the launcher failed: {type(error).__name__}: {first_lines(error)}")
            returns = [failed_job(lost)] * len(jobs)
        self.num_launched += len(jobs)
        failed: dict[str, str] = {}
        for job, returned in zip(jobs, returns, strict=True):
            status = self.folder.outcome(job.name).status
            if returned.status != JobStatus.FAILED or status in ("finished", "pruned"):
                continue
            failure = job_error(returned)
            failed[job.name] = str(failure)
            if isinstance(failure, JobLostError) and status == "unfinished":
                self.folder.record_failure(job.name, str(failure))
        return failed

    def end(self, failed: dict[str, str]) -> None:
        """Write and print the summary; exit with code 1 if jobs failed."""
        folder = self.folder.path
        try:
            summary = write_summary(self.folder)
        except OSError as error:
            exit_with_error(f"{folder}: cannot write the summary ({error}); free disk space, then rerun the command", 1)
        if summary is None:
            exit_with_error(f"{folder}: the folder was deleted while the sweep was running; rerun the command", 1)
        print(f"\n{summary.as_text()}", flush=True)
        if failed:
            jobs = [name if (folder / name / ERROR).exists() else f"{name} ({why})" for name, why in failed.items()]
            others = "the sweep stopped at the first failure" if self.settings.fail_fast else "the others were run"
            exit_with_error(
                f"{len(failed)} of {len(summary.rows)} jobs failed, {others}: {'; '.join(jobs)}; see {ERROR} in their "
                "folders, then rerun the command to retry",
                exit_code=1,
            )
        if not summary.counts["unfinished"]:
            remove(self.folder.replaced)
