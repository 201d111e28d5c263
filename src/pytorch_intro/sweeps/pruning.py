"""Trials of a search that do worse than others did by then are given up."""

from pathlib import Path

import optuna
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from pytorch_intro.atomic import write_atomically
from pytorch_intro.errors import PrunedError
from pytorch_intro.sweeps.search import FOLDER, made_pruner, storage_of
from pytorch_intro.sweeps.sweep_folder import PRUNED, STUDY


class Pruning(Callback):
    """Tells the study beside the run's folder what each validation gave, and ends the run if the study has it so.

    A run whose folder is no trial's, such as one that is repeated by itself, is trained to its end.

    Args:
        run_dir: The run's folder.
        pruner: median or asha.
        monitor: The validation's metric, the higher the better.

    Raises:
        PrunedError: in place of the next epoch.
    """

    def __init__(self, run_dir: str, pruner: str, monitor: str = "val/accuracy") -> None:
        self.run_dir = Path(run_dir)
        self.pruner = pruner
        self.monitor = monitor
        self.trial: Trial | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        file = self.run_dir.parent / STUDY
        if not trainer.is_global_zero or not file.exists():
            return
        study = optuna.load_study(study_name="sweep", storage=storage_of(file), pruner=made_pruner(self.pruner))
        trials = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        mine = [trial for trial in trials if trial.user_attrs.get(FOLDER) == self.run_dir.name]
        self.trial = Trial(study, mine[-1]._trial_id) if mine else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        reason = trainer.strategy.broadcast(self.reason_to_stop(trainer))
        if reason:
            raise PrunedError(reason)

    def reason_to_stop(self, trainer: Trainer) -> str:
        """Why the run is to be given up; empty if it is not."""
        if self.trial is None:
            return ""
        study, epoch, score = self.trial.study, trainer.current_epoch, trainer.callback_metrics[self.monitor].item()
        if epoch not in study.trials[self.trial.number].intermediate_values:
            sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1  # of the objective, not of the monitor
            self.trial.report(sign * score, epoch)
        if not self.trial.should_prune():
            return ""
        reason = f"after epoch {epoch + 1} with {self.monitor} {score:.4f}, worse than other trials by then"
        write_atomically(self.run_dir / PRUNED, f"{reason}\n")
        return reason
