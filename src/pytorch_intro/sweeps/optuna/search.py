"""Search with Optuna: run trials until the study, study.db in the sweep's folder, has n_trials."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import NonNegativeInt, PositiveInt
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from pytorch_intro.common.errors import RunError, UserError, exception_chain, first_lines
from pytorch_intro.config.validate import check_value
from pytorch_intro.sweeps.folder import STUDY
from pytorch_intro.sweeps.optuna.search_space import Space, any_value, search_space, to_overrides
from pytorch_intro.sweeps.plan import Job, Plan, is_shared, override_values
from pytorch_intro.sweeps.runner import Runner

FOLDER = "folder"  # user attribute of a trial: name of its folder
PRUNING = "pytorch_intro.sweeps.optuna.pruning.Pruning"
LOCK_TIMEOUT = 60.0  # seconds to wait while another program has locked the study


def search(
    runner: Runner, arguments: Sequence[str], n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
) -> None:
    """Run trials until there are n_trials; retry failed ones and resume interrupted ones.

    The first trial has the values of the config where the space contains them, so that the search does not end worse.

    Args:
        arguments: Overrides, some of them search spaces.
        n_trials: Total number of trials, including those of earlier commands.
        n_jobs: Number of trials in parallel.
        pruner: "median", "asha" or None.
    """
    with explain_locked(runner.folder.path / STUDY):
        run_search(runner, arguments, n_trials, n_jobs, seed, pruner)


def run_search(
    runner: Runner, arguments: Sequence[str], n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
) -> None:
    """Run the trials; see search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    n_trials = check_value("hydra.sweeper.n_trials", n_trials, PositiveInt)
    n_jobs = check_value("hydra.sweeper.n_jobs", n_jobs, PositiveInt)
    seed = check_value("hydra.sweeper.seed", seed, NonNegativeInt | None)
    check_value("hydra.sweeper.pruner", pruner, Literal["median", "asha"] | None)
    overrides = runner.parse(arguments)
    space = search_space(overrides)
    if shared := [key for key in space if is_shared(key)]:
        raise UserError(f"{shared[0]}: cannot be searched, all trials share it; give one value")
    given = [value for override in overrides if not override.is_sweep_override() for value in override_values(override)]
    base = given
    if pruner:
        objective = runner.settings.objective  # a time is not known before the end of a run
        monitor = objective if objective.startswith("val/") else "val/accuracy"
        node = {"_target_": PRUNING, "pruner": pruner, "monitor": monitor, "run_dir": "${run_dir}"}
        base = given + [f"+callbacks.pruning.{key}={value}" for key, value in node.items()]
    config = runner.compose(base)
    any_values = to_overrides({key: any_value(distribution) for key, distribution in space.items()})
    runner.compose([*base, *any_values])  # fails for an unknown key, before the sweep is recorded
    runner.begin(Plan(given, sorted(space), []), config)
    study = open_study(runner, seed, make_pruner(pruner))
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # may have ended when its sweep had been killed
        report_trial(runner, study, trial.number, trial.user_attrs.get(FOLDER), {})
    if not study.trials:
        study.enqueue_trial(default_params(space, config, runner.config.hydra.runtime.choices))
    failed: dict[str, str] = {}
    interrupted = retry_earlier_trials(study)
    while trials := next_trials(study, space, interrupted, n_trials, n_jobs):
        failed |= run_trials(runner, study, trials, base, given)
        if failed and runner.settings.fail_fast:
            break
    runner.end(failed)


def open_study(runner: Runner, seed: int | None, pruner: BasePruner) -> Study:
    """Open the study in the sweep's folder, or create it."""
    file = runner.folder.path / STUDY
    direction: Literal["maximize", "minimize"] = "maximize" if runner.maximizes else "minimize"
    try:
        with explain_locked(file):
            study = create_study(
                storage=open_storage(file), study_name="sweep", direction=direction, pruner=pruner, load_if_exists=True
            )
    except (SQLAlchemyError, StorageInternalError) as error:
        line = f"{file}: cannot be read ({first_lines(error)}); move it away, or use overwrite=true"
        raise UserError(line) from error
    if study.direction.name.lower() != direction:
        raise UserError(f"{file}: holds a study with the opposite direction; use another name=NAME")
    # A resumed search must not sample the same values again.
    study.sampler = TPESampler(seed=None if seed is None else seed + len(study.trials), constant_liar=True)
    return study


def open_storage(file: Path) -> RDBStorage:
    """Return the studies of an SQLite file, which is opened only during each access."""
    options = {"poolclass": NullPool, "connect_args": {"timeout": LOCK_TIMEOUT}}
    return RDBStorage(f"sqlite:///{file.absolute()}", engine_kwargs=options)


@contextmanager
def explain_locked(file: Path) -> Iterator[None]:
    """Raise a RunError if the file of a study stays locked by another program."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        if not any("database is locked" in str(cause) for cause in exception_chain(error)):
            raise
        raise RunError(
            f"{file}: locked by another program for {LOCK_TIMEOUT:.0f} s; close it, for example a database browser, "
            "then rerun the command to continue the search"
        ) from error


def make_pruner(name: str | None) -> BasePruner:
    """Return a pruner: "median" stops trials below the median, "asha" those outside the best quarter."""
    if name is None:
        return NopPruner()
    return MedianPruner(n_startup_trials=4, n_warmup_steps=1) if name == "median" else SuccessiveHalvingPruner()


def default_params(space: Space, config: DictConfig, choices: DictConfig) -> dict[str, Any]:
    """Return the config's own values of the searched keys; print and leave out those that the space does not contain.

    Optuna samples the keys that are left out.
    """
    params = {}
    for key, distribution in space.items():
        value = choices[key] if key in choices else OmegaConf.select(config, key.lstrip("+"))
        if isinstance(distribution, CategoricalDistribution):  # its choices are text
            value = "null" if value is None else str(value).replace("'", "").replace(", ", ",")
        try:
            create_trial(params={key: value}, distributions={key: distribution}, value=0.0)  # validates the value
            params[key] = value
        except ValueError:
            print(f"{key}={value} is not in the search space; the first trial has another value")
    return params


def retry_earlier_trials(study: Study) -> list[FrozenTrial]:
    """Enqueue failed trials again, with the same values and folder, and return the interrupted trials."""
    latest = {trial.user_attrs[FOLDER]: trial for trial in study.trials if FOLDER in trial.user_attrs}
    for trial in latest.values():
        if trial.state == TrialState.FAIL:
            study.enqueue_trial(trial.params, user_attrs={FOLDER: trial.user_attrs[FOLDER]})
    return [trial for trial in latest.values() if trial.state == TrialState.RUNNING]


def next_trials(
    study: Study, space: Space, interrupted: list[FrozenTrial], n_trials: int, n_jobs: int
) -> list[FrozenTrial]:
    """Return up to n_jobs trials: interrupted ones, then enqueued ones, then new ones until there are n_trials."""
    trials = interrupted[:n_jobs]
    del interrupted[:n_jobs]
    while len(trials) < n_jobs:
        waiting = study.get_trials(states=[TrialState.WAITING])
        folders = {trial.user_attrs[FOLDER] for trial in study.trials if FOLDER in trial.user_attrs}
        has_retry = any(FOLDER in trial.user_attrs for trial in waiting)
        if len(folders) >= n_trials and not has_retry:
            break
        try:
            trial = study.ask(space)
        except ValueError as error:
            line = f"the search space has changed ({first_lines(error)}); use another name=NAME, or overwrite=true"
            raise UserError(f"hydra.sweeper.params: {line}") from error
        if FOLDER not in trial.user_attrs:
            trial.set_user_attr(FOLDER, f"trial-{len(folders):04d}")
        trials.append(study.trials[trial.number])
    return trials


def run_trials(
    runner: Runner, study: Study, trials: Sequence[FrozenTrial], base: Sequence[str], given: Sequence[str]
) -> dict[str, str]:
    """Run trials, report them to the study, and return the reason of each failure."""
    jobs = [Job(trial.user_attrs[FOLDER], to_overrides(trial.params)) for trial in trials]
    failed, to_run = {}, []
    for job in jobs:
        try:
            runner.folder.add_jobs([job], given)
            to_run += [] if runner.is_finished(job, base) else [job]
        except UserError as error:  # a combination of values that is invalid
            runner.folder.record_failure(job.name, str(error))
            failed[job.name] = str(error)
    failed |= runner.launch(to_run, base)
    for trial, job in zip(trials, jobs, strict=True):
        report_trial(runner, study, trial.number, job.name, failed)
    return failed


def report_trial(runner: Runner, study: Study, number: int, folder: str | None, failed: dict[str, str]) -> None:
    """Report a trial's outcome, taken from its folder, to the study; leave an unfinished trial running."""
    outcome = runner.folder.outcome(folder) if folder else None
    score = outcome.result.get(runner.settings.objective) if outcome and outcome.result else None
    if score is not None:
        study.tell(number, score)
    elif outcome and outcome.status == "pruned":
        study.tell(number, state=TrialState.PRUNED)
    elif folder is None or folder in failed or (outcome and outcome.status in ("failed", "finished")):
        study.tell(number, state=TrialState.FAIL)
