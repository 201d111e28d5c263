"""The private parts of Lightning that this project uses still behave as lightning_internals.py expects."""

import inspect
import signal
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops import fit_loop, training_epoch_loop
from lightning.pytorch.trainer.connectors import signal_connector
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.training import lightning_internals
from pytorch_intro.training.trainer import silence_lightning


class Module(LightningModule):
    """A linear layer that records optimizer steps and the start of each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.events: list[str] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0]).sum()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        pass

    def on_validation_start(self) -> None:
        self.events.append("validation")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.events.append("step")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def position(trainer: Trainer) -> tuple[int, int]:
    """Return the epoch and the completed batches that the DataModule would save."""
    datamodule = DataModule(InMemoryImageDataset, root=None)
    datamodule.trainer = trainer
    state = datamodule.state_dict()
    return state["epoch"], state["completed_batches"]


class Recorder(Callback):
    """Records the position, and whether the step is resumable, after every batch."""

    def __init__(self) -> None:
        self.positions: list[tuple[int, int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Module)
        pl_module.events.append("resumable" if lightning_internals.is_resumable_step(trainer) else "-")
        self.positions.append(position(trainer))


def fit(
    *callbacks: Callback, batches: int = 6, ckpt_path: Path | None = None, **options: Any
) -> tuple[Module, Trainer]:
    silence_lightning()
    module = Module()
    off: Any = dict.fromkeys(["enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    options = {"logger": False, "num_sanity_val_steps": 0, "max_epochs": 2, **off, **options}
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), **options)
    lightning_internals.fix_resume(trainer)
    loader = DataLoader(TensorDataset(torch.ones(batches, 1)))
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path, weights_only=True)
    return module, trainer


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ({}, "step resumable step resumable step resumable step -"),
        ({"accumulate_grad_batches": 2}, "- step resumable - step -"),
        ({"max_steps": 2}, "step resumable step -"),
        ({"val_check_interval": 2}, "step resumable step - validation step resumable step -"),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, "step resumable step resumable step - validation"),
    ],
)
def test_a_step_is_resumable_unless_gradients_or_a_validation_are_pending(options: dict[str, Any], events: str) -> None:
    module, _ = fit(Recorder(), batches=4, **{"max_epochs": 1, **options})
    assert " ".join(module.events).startswith(events)


def test_the_saved_position_counts_complete_epochs_and_batches() -> None:
    recorder = Recorder()
    _, trainer = fit(recorder, batches=3)
    assert recorder.positions == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert position(trainer) == (2, 0)


class SaveAtEpochEnd(Callback):
    def __init__(self, file: Path) -> None:
        self.file = file
        self.epochs: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(trainer.current_epoch)
        if not self.file.exists():
            trainer.save_checkpoint(self.file)


def test_resume_at_an_epoch_end_with_max_steps_does_not_end_the_epoch_twice(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batches": 3, "max_steps": 9, "max_epochs": -1}
    whole = SaveAtEpochEnd(tmp_path / "first.ckpt")
    fit(whole, **options)
    resumed = SaveAtEpochEnd(tmp_path / "first.ckpt")
    _, trainer = fit(resumed, ckpt_path=tmp_path / "first.ckpt", **options)
    assert (whole.epochs, resumed.epochs) == ([0, 1, 2], [1, 2])
    assert (trainer.current_epoch, trainer.global_step) == (3, 9)


class EpochStarts(Callback):
    """Records the epochs whose start it has seen; saves a checkpoint after the second batch of the second epoch."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.epochs: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 5 and not self.file.exists():
            trainer.save_checkpoint(self.file)


class StatefulEpochStarts(EpochStarts):
    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


def test_resume_within_an_epoch_calls_the_start_hooks_of_callbacks_without_a_state(tmp_path: Path) -> None:
    fit(EpochStarts(tmp_path / "a.ckpt"), StatefulEpochStarts(tmp_path / "a.ckpt"), batches=3, max_epochs=3)
    resumed = EpochStarts(tmp_path / "a.ckpt"), StatefulEpochStarts(tmp_path / "a.ckpt")
    fit(*resumed, batches=3, max_epochs=3, ckpt_path=tmp_path / "a.ckpt")
    assert [callback.epochs for callback in resumed] == [[1, 2], [0, 1, 2]]


def test_a_run_that_has_nothing_left_to_train_has_the_right_epoch(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batches": 3, "max_steps": 3, "max_epochs": -1}
    fit(SaveAtEpochEnd(tmp_path / "first.ckpt"), **options)
    _, trainer = fit(ckpt_path=tmp_path / "first.ckpt", **options)
    assert (trainer.current_epoch, trainer.global_step) == (1, 3)


def test_lightning_decides_about_restarts_by_the_method_that_is_replaced() -> None:
    assert "_iteration_based_training()" in inspect.getsource(fit_loop._FitLoop.restarting.fset)


def test_lightning_broadcasts_sigterm_by_the_methods_that_are_replaced() -> None:
    assert "[self._sigterm_notifier_fn]" in inspect.getsource(signal_connector._SignalConnector)
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(training_epoch_loop._TrainingEpochLoop.advance)


def test_launched_ranks_end_when_rank_0_stops_early() -> None:
    """Also those that have not connected to it yet. Lightning's observer of them has none left that it could miss."""
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    launcher: Any = trainer.strategy.launcher
    ranks = launcher.procs
    with subprocess.Popen(["sleep", "100"]) as rank:
        ranks.append(rank)
        with pytest.raises(SystemExit), lightning_internals.kill_ranks_on_error(trainer):
            raise SystemExit(143)
        assert rank.wait(10) == -signal.SIGKILL
    assert ranks == []


def test_callbacks_can_be_read_and_changed() -> None:
    callback = Callback()
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False)
    assert callback in lightning_internals.callbacks(trainer)
    lightning_internals.callbacks(trainer).clear()
    assert trainer.callbacks == []  # type: ignore[attr-defined]


class SkipEmptyHooks(Recorder):
    """Overrides one hook of every batch in its class, and one in the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.on_before_backward = lambda trainer, module, loss: self.losses.append(loss.item())  # type: ignore[assignment, method-assign]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lightning_internals.skip_empty_hooks(trainer)


def test_only_empty_hooks_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch calls no empty hook of a callback, and all others, of which the training is the same."""
    called: list[str] = []
    for name in lightning_internals.BATCH_HOOKS:
        monkeypatch.setattr(Callback, name, lambda *_, name=name: called.append(name))
    before = Recorder()
    fit(before, batches=3, max_epochs=1)
    assert set(called) == set(lightning_internals.BATCH_HOOKS) - {"on_train_batch_end"}
    called.clear()
    after = SkipEmptyHooks()
    fit(after, Callback(), batches=3, max_epochs=1)
    assert called == []
    assert after.positions == before.positions
    assert len(after.losses) == 3


def test_a_cpu_is_used_without_a_warning_on_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="GPU available but not used"):
            Trainer(accelerator="cpu", logger=False)
        silence_lightning()
        Trainer(accelerator="cpu", logger=False)
