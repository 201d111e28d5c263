"""Calibration error and negative log-likelihood, and their diagram."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from pytorch_intro.analysis import plots
from pytorch_intro.analysis.class_metrics import ClassMetrics, PerClassMetrics, TopErrors
from pytorch_intro.analysis.reliability import Reliability, describe_calibration


def random_predictions(count: int = 900, num_classes: int = 4, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(count, num_classes, generator=generator)
    return logits, torch.randint(0, num_classes, (count,), generator=generator)


def computed(logits: Tensor, targets: Tensor, batch_size: int = 128) -> dict[str, Tensor]:
    metric = Reliability()
    for rows in torch.arange(len(targets)).split(batch_size):
        metric.update(logits[rows], targets[rows])
    return metric.compute()


@pytest.mark.parametrize("scale", [1.0, 40.0])  # 40: many probabilities are exactly 1
def test_calibration_error_and_log_likelihood_equal_their_definitions(scale: float) -> None:
    logits, targets = random_predictions(scale=scale)
    metrics = computed(logits, targets)
    probabilities = logits.double().softmax(dim=1)
    expected = MulticlassCalibrationError(4, n_bins=15)(logits.softmax(dim=1), targets)
    torch.testing.assert_close(metrics["ece"], expected, atol=1e-6, rtol=0)
    nll = -probabilities[range(900), targets].log().mean()
    torch.testing.assert_close(metrics["nll"].double(), nll, atol=0, rtol=1e-5)
    assert metrics["num_samples"].sum() == 900
    assert metrics["num_correct"].sum() == (probabilities.argmax(dim=1) == targets).sum()


def test_the_calibration_error_of_millions_of_images_is_exact() -> None:
    """Four million predictions of 80 %, of which 80 % are right: sums of single float32 numbers would be off."""
    metric, size = Reliability(), 40_000
    logits = torch.tensor([0.8, 0.2]).log().expand(size, 2)
    targets = (torch.arange(size) % 5 == 0).long()
    for _ in range(100):
        metric.update(logits, targets)
    assert metric.compute()["ece"] < 1e-5


def test_the_test_is_measured_with_and_without_the_temperature() -> None:
    """The most confident errors have the probabilities that predict gives, too."""
    logits, targets = random_predictions(200)
    trainer: Any = SimpleNamespace(testing=True)
    logged: dict[str, Tensor] = {}
    module: Any = SimpleNamespace(temperature=2.5, log_dict=lambda values, **_: logged.update(values))
    metrics = ClassMetrics()
    metrics.per_class = PerClassMetrics(4)
    metrics.on_test_batch_end(
        trainer, module, {"logits": logits, "targets": targets}, (torch.zeros(200, 1, 1, 1), targets), 0
    )
    metrics.on_test_epoch_end(trainer, module)
    for suffix, temperature in (("", 2.5), ("_uncalibrated", 1.0)):
        expected = computed(logits / temperature, targets, 200)
        for name in ("ece", "nll"):
            torch.testing.assert_close(logged[f"test/{name}{suffix}"], expected[name])
    assert metrics.test
    torch.testing.assert_close(metrics.test["ece"], logged["test/ece"])
    errors = TopErrors()
    errors.update(torch.zeros(200, 1, 1, 1), logits / 2.5, targets)
    assert metrics.errors
    assert torch.equal(metrics.errors["confidences"], errors.compute()["confidences"])


@pytest.mark.pictures
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("count", [0, 1, 900])
def test_a_reliability_diagram_of_any_number_of_images_can_be_plotted(
    tmp_path: Path, temperature: float, count: int
) -> None:
    """One diagram if the temperature changes nothing, else two."""
    logits, targets = random_predictions(count, scale=40.0)
    both = {"": computed(logits / temperature, targets), "_uncalibrated": computed(logits, targets)}
    plots.save(plots.plot_reliability(both, temperature), tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as picture:
        assert (picture.width > 1.5 * picture.height) == (temperature != 1)
        assert len({*picture.tobytes()}) > 3


def test_the_calibration_is_described_in_one_line() -> None:
    metrics = {"temperature": 0.61234, "test/ece": 0.01, "test/nll": 0.2}
    metrics |= {"test/ece_uncalibrated": 0.09, "test/nll_uncalibrated": 0.3}
    line = "temperature 0.612, ECE 0.0100 (0.0900 without), NLL 0.2000 (0.3000 without)"
    assert describe_calibration(metrics) == line
    assert describe_calibration(metrics | {"temperature": 1.0}) == "ECE 0.0100, NLL 0.2000"
    assert describe_calibration({"temperature": 1.0, "test/ece": None}) == ""
