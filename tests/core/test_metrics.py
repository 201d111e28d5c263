"""Loss and accuracy of an epoch do not depend on the batch size or the number of ranks."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from pytorch_intro.training.metrics import EpochMetrics


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100])
def test_loss_and_accuracy_are_means_over_images_not_over_batches(batch_size: int) -> None:
    """The last batch is smaller, so its weight is smaller."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(100, 10, generator=generator)
    targets = torch.randint(0, 10, (100,), generator=generator)
    metrics = EpochMetrics(has_cross_entropy=True)
    for some_logits, some_targets in zip(logits.split(batch_size), targets.split(batch_size), strict=True):
        loss = cross_entropy(some_logits, some_targets)
        metrics.update(2 * loss, some_logits, some_targets, loss)
    values = metrics.compute()
    torch.testing.assert_close(values["loss"], 2 * cross_entropy(logits, targets))
    torch.testing.assert_close(values["cross_entropy"], cross_entropy(logits, targets))
    assert values["accuracy"].item() == pytest.approx((logits.argmax(1) == targets).float().mean().item())


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_state_of_two_ranks_is_restored_on_any_number_of_ranks(world_size: int) -> None:
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    before, after = [EpochMetrics(), EpochMetrics()], [EpochMetrics() for _ in range(world_size)]
    for metrics, logits in zip(before, (right, wrong), strict=True):
        metrics.update(torch.tensor(3.0), logits, torch.tensor([0]))
    for rank, metrics in enumerate(after):
        metrics.restore([one.gather_state()[0] for one in before], rank, world_size)
    totals = [sum(getattr(metrics, name) for metrics in after) for name in ("loss_sum", "num_correct", "num_samples")]
    assert totals == [6.0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_losses_are_summed_in_float32_in_a_module_of_any_type(dtype: torch.dtype) -> None:
    """In bfloat16, 256 + 1 is 256. Lightning converts the whole module for trainer.precision=bf16-true."""
    metrics = EpochMetrics()
    torch.nn.ModuleList([metrics]).to(dtype)
    logits, targets = torch.zeros(64, 2), torch.zeros(64, dtype=torch.int64)
    for _ in range(2):
        for _ in range(100):
            metrics.update(torch.tensor(1.5, dtype=dtype), logits, targets)
        assert metrics.compute() == {"loss": 1.5, "accuracy": 1.0}
        metrics.reset()


def test_reset_metrics_start_a_new_epoch() -> None:
    metrics = EpochMetrics()
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    metrics.update(torch.tensor(3.0), wrong, torch.tensor([0]))
    metrics.reset()
    metrics.update(torch.tensor(1.0), right, torch.tensor([0]))
    assert metrics.compute() == {"loss": 1.0, "accuracy": 1.0}
