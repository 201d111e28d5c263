"""Every precision trains, validates and tests."""

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import Command

from pytorch_intro.analysis.class_metrics import PerClassMetrics, TopErrors

STEP = [
    "data=sample", "trainer=cpu", "model=mlp", "optimizer=sgd", "optimizer.lr=1e-4", "trainer.max_epochs=1",
    "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
]  # fmt: skip


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "32-true", "64-true", "16-mixed", "bf16-mixed"])
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_a_run_in_any_precision_is_tested(command: Command, tmp_path: Path, precision: str) -> None:
    answer = command(*STEP, f"trainer.precision={precision}", "name=precise")
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "outputs" / "precise" / "result.json").read_text())
    assert 0 <= result["test/accuracy"] <= 1
    assert result["test/loss"] == pytest.approx(result["test/nll_uncalibrated"], rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("logits_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_class_metrics_do_not_depend_on_the_default_dtype(dtype: torch.dtype, logits_dtype: torch.dtype) -> None:
    """Precision plugins of Lightning change it."""
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0]]).to(logits_dtype)
    targets = torch.tensor([0, 1, 1])
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        per_class, top_errors = PerClassMetrics(2), TopErrors()
        per_class.update(logits, targets)
        top_errors.update(torch.zeros(3, 1, 1, 1), logits, targets)
        metrics, errors = per_class.compute(), top_errors.compute()
    finally:
        torch.set_default_dtype(default)
    assert metrics["confusion_matrix"].tolist() == [[1, 0], [1, 1]]
    assert metrics["ece"].dtype == errors["confidences"].dtype == torch.float32
    confidences = torch.tensor([3.0, 1.0, 2.0]).sigmoid()
    expected = (torch.tensor([1.0, 1.0, 0.0]) - confidences).abs().sum() / 3
    assert metrics["ece"].item() == pytest.approx(expected.item(), abs=0.02)


def test_a_precision_whose_package_is_missing_is_reported_on_one_line(command: Command) -> None:
    answer = command(*STEP, "trainer.precision=transformer-engine")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert re.match(r"error: trainer: .*transformer_engine.*; install the package, or use another value", answer.err)
