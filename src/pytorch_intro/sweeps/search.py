"""A search: trials that Optuna proposes, kept in study.db in the sweep's folder, until there are n_trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import NonNegativeInt, PositiveInt
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from pytorch_intro.check import check_value
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.sweeps.objective import is_maximized
from pytorch_intro.sweeps.plan import Job, Plan, is_common, values_of
from pytorch_intro.sweeps.runner import Runner
from pytorch_intro.sweeps.search_space import Space, as_overrides, search_space, some_value
from pytorch_intro.sweeps.sweep_folder import STUDY

FOLDER = "folder"  # the name of a trial's attribute that holds its folder's
PRUNING = "pytorch_intro.sweeps.pruning.Pruning"


def search(
    runner: Runner, arguments: Sequence[str], n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
) -> None:
    """Run trials until there are n_trials, and those again that failed or were interrupted before.

    The first has the values of the config, so that the search does not end worse than it began.
    """
    check_value("hydra.sweeper.n_trials", n_trials, PositiveInt)
    check_value("hydra.sweeper.n_jobs", n_jobs, PositiveInt)
    check_value("hydra.sweeper.seed", seed, NonNegativeInt | None)
    check_value("hydra.sweeper.pruner", pruner, Literal["median", "asha"] | None)
    overrides = runner.parse(arguments)
    space = search_space(overrides)
    if shared := [key for key in space if is_common(key)]:
        raise UserError(f"{shared[0]}: all trials have it in common; give one value")
    given = [value for override in overrides if not override.is_sweep_override() for value in values_of(override)]
    base = given
    if pruner:
        node = {"_target_": PRUNING, "pruner": pruner, "run_dir": "${run_dir}"}
        base = given + [f"+callbacks.pruning.{key}={value}" for key, value in node.items()]
    common = runner.compose(base)
    runner.compose([*base, *as_overrides({key: some_value(of_key) for key, of_key in space.items()})])
    runner.begin(Plan(given, sorted(space), []), common)
    study = open_study(runner, seed, made_pruner(pruner))
    tell_of_earlier(runner, study)
    if not study.trials:
        enqueue_default(study, space, common, runner)
    failed: dict[str, str] = {}
    again = to_run_again(study)
    while trials := next_trials(study, space, again, n_trials, n_jobs):
        failed |= run_trials(runner, study, trials, base, given)
        if failed and runner.settings.fail_fast:
            break
    runner.end(failed)


def open_study(runner: Runner, seed: int | None, pruner: BasePruner) -> Study:
    """The study in the sweep's folder, as it is or a new one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = runner.folder.path / STUDY
    direction: Literal["maximize", "minimize"] = "maximize" if is_maximized(runner.settings.objective) else "minimize"
    try:
        study = optuna.create_study(
            storage=storage_of(file), study_name="sweep", direction=direction, pruner=pruner, load_if_exists=True
        )
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(
            f"{file}: it cannot be read ({one_line(error)}); put it elsewhere, or overwrite=true"
        ) from error
    if study.direction.name.lower() != direction:
        raise UserError(f"sweep.objective={runner.settings.objective}: {file} holds a search for another one")
    # Draws are not to begin anew, with what is known already, when the search is carried on.
    study.sampler = TPESampler(seed=None if seed is None else seed + len(study.trials), constant_liar=True)
    return study


def storage_of(file: Path) -> RDBStorage:
    """The studies in a file, which is opened for each access and closed again."""
    return RDBStorage(f"sqlite:///{file.absolute()}", engine_kwargs={"poolclass": NullPool})


def made_pruner(name: str | None) -> BasePruner:
    """Gives up what is below the median of the others by then; or asha: what is not among their best quarter."""
    if name is None:
        return NopPruner()
    return MedianPruner(n_startup_trials=4, n_warmup_steps=1) if name == "median" else SuccessiveHalvingPruner()


def tell_of_earlier(runner: Runner, study: Study) -> None:
    """Settle trials whose run came to its end, but whose sweep was ended before it could note that."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        settle(runner, study, trial.number, trial.user_attrs.get(FOLDER), {})


def enqueue_default(study: Study, space: Space, config: DictConfig, runner: Runner) -> None:
    """Make the config's own values the first trial, where they lie within the space."""
    choices = runner.config.hydra.runtime.choices
    params = {key: default_of(key, distribution, config, choices) for key, distribution in space.items()}
    if None not in params.values():
        study.enqueue_trial(params)


def default_of(key: str, distribution: BaseDistribution, config: DictConfig, choices: DictConfig) -> Any:
    """A key's value in the config, as the distribution has it; None if it is not in there."""
    value = choices.get(key) if key in choices else OmegaConf.select(config, key.lstrip("+"))
    if isinstance(distribution, CategoricalDistribution):
        text = "null" if value is None else str(value).replace("'", "").replace(", ", ",")
        return next((choice for choice in distribution.choices if choice == text), None)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if distribution._contains(distribution.to_internal_repr(value)) else None


def to_run_again(study: Study) -> list[FrozenTrial]:
    """Trials that were interrupted; and those that failed, once more with the same values and in the same folder."""
    of_folder: dict[str, list[FrozenTrial]] = {}
    for trial in study.trials:
        if FOLDER in trial.user_attrs:
            of_folder.setdefault(trial.user_attrs[FOLDER], []).append(trial)
    latest = [trials[-1] for trials in of_folder.values()]
    for trial in latest:
        if trial.state == TrialState.FAIL:
            study.enqueue_trial(trial.params, user_attrs={FOLDER: trial.user_attrs[FOLDER]})
    return [trial for trial in latest if trial.state == TrialState.RUNNING]


def next_trials(study: Study, space: Space, again: list[FrozenTrial], n_trials: int, n_jobs: int) -> list[FrozenTrial]:
    """Up to n_jobs: interrupted ones, then those that wait in the study, then new ones until there are n_trials."""
    trials: list[FrozenTrial] = []
    while len(trials) < n_jobs:
        if again:
            trials.append(again.pop(0))
            continue
        waiting = study.get_trials(states=[TrialState.WAITING])
        folders = {trial.user_attrs[FOLDER] for trial in study.trials if FOLDER in trial.user_attrs}
        has_retry = any(FOLDER in trial.user_attrs for trial in waiting)
        if len(folders) >= n_trials and not has_retry:
            break
        try:
            trial = study.ask(space)
        except ValueError as error:
            raise UserError(
                f"hydra.sweeper.params: {one_line(error)}; a search with other choices is another one: give it another "
                "name, or overwrite=true"
            ) from error
        if FOLDER not in trial.user_attrs:
            trial.set_user_attr(FOLDER, f"trial-{len(folders):04d}")
        trials.append(study.trials[trial.number])
    return trials


def run_trials(
    runner: Runner, study: Study, trials: Sequence[FrozenTrial], base: Sequence[str], given: Sequence[str]
) -> dict[str, str]:
    """Run trials and tell the study what came of them; of those that failed, why."""
    jobs = [Job(trial.user_attrs[FOLDER], as_overrides(trial.params)) for trial in trials]
    failed = {}
    to_run = []
    for job in jobs:
        try:
            runner.folder.add_jobs([job], given)
            to_run += [] if runner.is_finished(job, base) else [job]
        except UserError as error:  # values that do not go together, of which the space holds some
            runner.folder.record_failure(job.name, str(error))
            failed[job.name] = str(error)
    failed |= runner.launch(to_run, base)
    for trial, job in zip(trials, jobs, strict=True):
        settle(runner, study, trial.number, job.name, failed)
    return failed


def settle(runner: Runner, study: Study, number: int, folder: str | None, failed: dict[str, str]) -> None:
    """Tell the study what came of a trial, by its folder; leave it open if nothing did."""
    outcome = runner.folder.outcome(folder) if folder else None
    if outcome and outcome.result and outcome.result[runner.settings.objective] is not None:
        study.tell(number, outcome.result[runner.settings.objective])
    elif outcome and outcome.status == "pruned":
        study.tell(number, state=TrialState.PRUNED)
    elif folder is None or folder in failed or (outcome and outcome.status in ("failed", "finished")):
        study.tell(number, state=TrialState.FAIL)
