"""Prune trials of a search that do worse than others did at the same epoch."""

from pathlib import Path
from typing import Literal

import optuna
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from pytorch_intro.common.files import write_atomically
from pytorch_intro.sweeps.folder import PRUNED, STUDY, PrunedError
from pytorch_intro.sweeps.optuna.search import FOLDER, explain_locked, make_pruner, open_storage


class Pruning(Callback):
    """Report each validation to the study next to the run's folder; raise a PrunedError if the pruner decides so.

    A run without a trial, such as a repeated one, is trained to its end.

    Args:
        run_dir: Folder of the run.
        pruner: See make_pruner.
        monitor: Metric that trials are compared by.
        mode: Whether more or less of it is better.
    """

    def __init__(
        self, run_dir: str, pruner: str, monitor: str = "val/accuracy", mode: Literal["max", "min"] = "max"
    ) -> None:
        self.run_dir = Path(run_dir)
        self.study_file = self.run_dir.parent / STUDY
        self.pruner = pruner
        self.monitor = monitor
        self.mode = mode
        self.trial: Trial | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            with explain_locked(self.study_file):
                self.trial = running_trial(self.run_dir, self.pruner)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.global_step == 0:  # not before the first epoch
            return
        with explain_locked(self.study_file):
            reason = trainer.strategy.broadcast(self.reason_to_prune(trainer))  # all ranks stop together
        if reason:
            raise PrunedError(reason)

    def reason_to_prune(self, trainer: Trainer) -> str:
        """Report the last validation and return why the run is pruned, or ""."""
        if self.trial is None:
            return ""
        study, epoch, score = self.trial.study, trainer.current_epoch, trainer.callback_metrics[self.monitor].item()
        if epoch not in study.trials[self.trial.number].intermediate_values:
            maximizes = study.direction == StudyDirection.MAXIMIZE  # the objective may be another one, such as a time
            self.trial.report(score if maximizes == (self.mode == "max") else -score, epoch)
        if not self.trial.should_prune():
            return ""
        reason = f"{self.monitor} {score:.4f} after epoch {epoch + 1} is worse than other trials at that epoch"
        write_atomically(self.run_dir / PRUNED, f"{reason}\n")
        return reason


def running_trial(run_dir: Path, pruner: str) -> Trial | None:
    """Return the trial that runs in this folder, or None.

    The trial was created by the sweep, perhaps in another process. Optuna has no public way to continue it here: it
    takes `Trial(study, trial_id)`, and `_trial_id`, which Optuna's own storages and integrations use.
    """
    file = run_dir.parent / STUDY
    if not file.exists():
        return None
    study = optuna.load_study(study_name="sweep", storage=open_storage(file), pruner=make_pruner(pruner))
    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    trials = [trial for trial in running if trial.user_attrs.get(FOLDER) == run_dir.name]
    return Trial(study, trials[-1]._trial_id) if trials else None
