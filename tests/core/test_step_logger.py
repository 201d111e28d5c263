"""train/loss_step, lr and images_per_second every few steps: which points there are, and what they are the mean of."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, WholeRuns, compose
from explained import assert_explained
from lightning import LightningModule, Trainer
from test_resume import SMALL, assert_same_run, curves, killed_at
from torch import Tensor

from pytorch_intro.training.callbacks import step_logger
from pytorch_intro.training.callbacks.step_logger import DeferredRead, StepLogger, choose_interval, thin_out
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.losses import CrossEntropy, is_cross_entropy

LOSS = "train/loss_step"


@pytest.mark.parametrize(
    ("steps", "interval"), [(1, 1), (40, 1), (99, 1), (100, 2), (1266, 25), (2500, 50), (10**6, 50), (math.inf, 50)]
)
def test_short_runs_have_at_least_fifty_points_and_long_ones_a_point_every_fifty_steps(
    steps: float, interval: int
) -> None:
    assert choose_interval(steps) == interval


@pytest.mark.parametrize(
    ("interval", "steps"), [(1, [*range(1, 13)]), (5, [5, 10]), ("null", [*range(1, 13)]), (0, None), (100, None)]
)
def test_the_interval_is_taken_as_it_is_or_chosen_by_the_number_of_steps(
    command: Command, tmp_path: Path, interval: int | str, steps: list[int] | None
) -> None:
    assert command(*SMALL, f"trainer.log_every_n_steps={interval}", "name=first").code == 0
    points = curves(tmp_path / "outputs" / "first")
    for tag in (LOSS, "lr", "images_per_second"):
        assert (steps and [step for step, _ in points[tag]]) == steps if steps else tag not in points
    assert "epoch" not in points
    assert {"train/loss", "val/loss", "epoch_seconds"} <= points.keys()


@pytest.mark.parametrize("accumulated", [1, 2, 4])
def test_a_point_is_the_mean_loss_of_all_images_since_the_last_point(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulated: int
) -> None:
    """Over the end of an epoch, whose last batches may make a step of fewer batches."""
    losses: list[float] = []
    step = Classifier.training_step

    def record(self: Classifier, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        output = step(self, batch, batch_idx)
        losses.append(output["loss"].item())
        return output

    monkeypatch.setattr(Classifier, "training_step", record)
    arguments = [f"trainer.accumulate_grad_batches={accumulated}", "trainer.log_every_n_steps=2", "name=first"]
    assert command(*SMALL, *arguments).code == 0
    ends = [batch for start in (0, 6) for batch in (*range(start + accumulated, start + 6, accumulated), start + 6)]
    expected: list[Any] = []
    start = 0
    for number, end in enumerate(ends, 1):
        if number % 2 == 0:
            expected.append((number, pytest.approx(sum(losses[start:end]) / (end - start), rel=1e-5)))
            start = end
    assert curves(tmp_path / "outputs" / "first")[LOSS] == expected


def test_values_that_arrive_late_are_logged_once_also_after_kill_and_resume(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA, where a point is read at a later step; a checkpoint in between contains it."""
    whole = whole_runs(*SMALL, "trainer.log_every_n_steps=2")
    monkeypatch.setattr(DeferredRead, "is_ready", lambda _: False)
    for batch in (3, 5, 9):
        arguments = [*SMALL, "trainer.log_every_n_steps=2", f"name=killed-{batch}"]
        with killed_at(batch):
            command(*arguments)
        last = torch.load(tmp_path / "outputs" / f"killed-{batch}" / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["callbacks"]["StepLogger"]["unread"] is not None
        assert command(*arguments).code == 0
        assert_same_run(whole, tmp_path / "outputs" / f"killed-{batch}")


def test_the_curve_in_memory_is_exact_after_a_resume_and_bounded(whole_runs: WholeRuns) -> None:
    last = torch.load(whole_runs(*SMALL) / "checkpoints" / "last.ckpt", weights_only=True)
    history = last["callbacks"]["StepLogger"]["history"]
    assert [epochs for epochs, _ in history] == pytest.approx([number / 6 for number in range(1, 13)])
    points = [(float(number), float(number % 2)) for number in range(step_logger.MAX_HISTORY + 1)]
    thinned = thin_out(points)
    assert len(thinned) == step_logger.MAX_HISTORY // 2 + 1
    assert thinned[0] == (1.0, 0.5)
    assert thinned[-1] == points[-1]
    assert thin_out(thinned) == thinned


def test_the_norm_of_the_gradients_is_logged_before_clipping_if_configured(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def clip(self: LightningModule, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any) -> None:
        squares = [parameter.grad.square().sum() for parameter in self.parameters() if parameter.grad is not None]
        norms.append(torch.stack(squares).sum().sqrt().item())

    monkeypatch.setattr(Classifier, "configure_gradient_clipping", clip)
    arguments = ["callbacks.step_log.grad_norm=true", "trainer.log_every_n_steps=3", "name=first"]
    assert command(*SMALL, *arguments, "trainer.gradient_clip_val=0.1").code == 0
    points: list[Any] = curves(tmp_path / "outputs" / "first")["grad_norm"]
    assert points == [(step, pytest.approx(norms[step - 1], rel=1e-4)) for step in (3, 6, 9, 12)]


def test_the_norm_of_the_gradients_is_refused_with_fsdp() -> None:
    from lightning.pytorch.strategies import FSDPStrategy

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.__class__ = FSDPStrategy
    with pytest.raises(Exception, match=r"callbacks\.step_log\.grad_norm=true: .*; use false, or trainer=ddp"):
        StepLogger(grad_norm=True).setup(trainer, LightningModule(), "fit")


def test_a_wrong_interval_is_a_one_line_error(command: Command) -> None:
    answer = command(*SMALL, "trainer.log_every_n_steps=-1")
    assert answer.code == 2
    assert_explained(answer.err, [], ["trainer.log_every_n_steps=-1"], "greater than or equal to 0", ";")


@pytest.mark.parametrize(
    ("arguments", "is_logged"),
    [
        (["loss.label_smoothing=0.1"], True),
        (["loss.label_smoothing=0"], False),
        (["loss=focal"], True),
        (["loss._target_=torch.nn.CrossEntropyLoss", "loss.label_smoothing=0"], False),
    ],
    ids=lambda value: str(value),
)
def test_the_plain_cross_entropy_of_training_is_logged_if_the_loss_is_another_one(
    whole_runs: WholeRuns, arguments: list[str], is_logged: bool
) -> None:
    points = curves(whole_runs(*SMALL, "data.mixup_alpha=0", *arguments))
    assert ("train/cross_entropy" in points) == is_logged
    if is_logged:
        assert len(points["train/cross_entropy"]) == 2
        assert points["train/cross_entropy"] != points["train/loss"]


def test_class_weights_make_another_loss_of_cross_entropy() -> None:
    weights = torch.ones(2)
    assert not is_cross_entropy(CrossEntropy(class_weights=weights))
    assert not is_cross_entropy(torch.nn.CrossEntropyLoss(weights))
    assert is_cross_entropy(torch.nn.functional.cross_entropy)


def test_the_callback_follows_the_trainers_setting() -> None:
    assert compose("trainer.log_every_n_steps=7").callbacks.step_log.every_n_steps == 7
