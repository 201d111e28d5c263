"""Averages of the weights: what is validated is what is saved and tested."""

import json
from pathlib import Path

import pytest
import torch
from conftest import Command, compose, sample_datamodule
from lightning import Trainer
from torch.nn.functional import cross_entropy

from pytorch_intro.training.callbacks.epoch_logger import EpochLogger
from pytorch_intro.training.weights import build_network

FEW = ["data=sample", "trainer=cpu", "model=mlp", "trainer.max_epochs=2", "trainer.limit_train_batches=3"]
FEW += ["trainer.precision=32-true", "data/augment=[]"]
CALLBACKS = "lightning.pytorch.callbacks"


def test_stochastic_weight_averaging_is_refused_before_training(command: Command, tmp_path: Path) -> None:
    """Lightning sets the averaged weights after the last validation and checkpoint."""
    swa = f"+callbacks.swa={{_target_: {CALLBACKS}.StochasticWeightAveraging, swa_lrs: 0.01}}"
    answer = command(*FEW, swa, "name=averaged")
    assert answer.code == 2
    problem = "StochasticWeightAveraging is not supported, its weights would be neither validated nor tested"
    assert answer.err == f"error: callbacks: {problem}; use {CALLBACKS}.EMAWeightAveraging\n"
    assert not (tmp_path / "outputs" / "averaged").exists()


EMA = ["callbacks=ema", "callbacks.ema.decay=0.9"]  # conf/callbacks/ema.yaml has the remedy in the error above
TESTING = pytest.mark.filterwarnings("ignore:.*WeightAveraging callback, but (loading|saving) a checkpoint outside")


@TESTING
def test_an_exponential_average_is_validated_saved_and_tested(command: Command, tmp_path: Path) -> None:
    answer = command(*FEW, *EMA, "name=averaged")
    assert answer.code == 0, answer.err
    run = tmp_path / "outputs" / "averaged"
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    averaged, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(averaged[name], trained[name]) for name in averaged if name.startswith("network"))
    result = json.loads((run / "result.json").read_text())
    assert result["val/accuracy"] == checkpoint["metrics"]["val/accuracy"]
    assert result["epochs"] == 2
    for state, is_the_result in ((averaged, True), (trained, False)):
        measured = metrics_of(state)
        for name, value in measured.items():
            assert (result[name] == pytest.approx(value, rel=1e-4)) == is_the_result, name


@TESTING
def test_an_average_that_is_mostly_the_initial_weights_is_reported(command: Command) -> None:
    few = [*FEW, "callbacks=ema", "trainer.max_epochs=1", "data.batch_size=640"]
    answer = command(*few)
    warning = "callbacks.ema.decay=0.99: after 2 steps, 98% of the average are the initial weights; use callbacks.ema"
    assert warning in answer.out + answer.err
    assert "initial weights" not in (answer := command(*few, "callbacks.ema.decay=0.1")).out + answer.err
    accumulated = ["trainer.limit_train_batches=20", "data.batch_size=16", "trainer.accumulate_grad_batches=10"]
    answer = command(*FEW, "callbacks=ema", *accumulated, "trainer.limit_val_batches=1", "name=accumulated")
    assert "callbacks.ema.decay=0.99: after 4 steps, 96% of the average" in answer.out + answer.err


def metrics_of(state: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the validation and test loss of a network with these weights."""
    datamodule = sample_datamodule("data/augment=[]")
    network = build_network(compose("model=mlp").model, datamodule.image_shape, len(datamodule.classes)).eval()
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in state.items()}, strict=False)
    losses = {}
    for stage, subset in (("val", datamodule.val_set), ("test", datamodule.test_set)):
        assert subset
        images, targets = subset.__getitems__(torch.arange(len(subset)))
        with torch.no_grad():
            logits = network(datamodule.preprocess(images, augment=False))
        losses[f"{stage}/loss"] = cross_entropy(logits, targets).item()
    return losses


@TESTING
def test_an_exponential_average_resumes_exactly(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: EpochLogger, trainer: Trainer, *__: object) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    assert command(*FEW, *EMA, "name=whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_start", interrupt)
        assert command(*FEW, *EMA, "name=resumed").code == 130
    assert command(*FEW, *EMA, "name=resumed").code == 0
    whole, resumed = (
        torch.load(tmp_path / "outputs" / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "resumed")
    )
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items()), key
