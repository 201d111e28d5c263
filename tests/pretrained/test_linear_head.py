"""The linear head: regularized logistic regression of features, with the strength that is best on validation data."""

import itertools
import logging
import math
import time

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pytorch_intro.pretrained.linear_head import Features, Head, fit_heads

GRID = (1.0, 0.1, 0.01, 0.001)
CLASSES = 4


def make(count: int = 120, noise: float = 1.0, seed: int = 0, dim: int = 16) -> Features:
    """Return features around one center per class."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(CLASSES, dim, generator=torch.Generator().manual_seed(9))
    targets = torch.arange(count) % CLASSES
    return Features(centers[targets] + noise * torch.randn(count, dim, generator=random), targets)


def gradients(head: Head, train: Features, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the gradient of the regularized loss, computed in float64, for the features scaled as documented."""
    values = train.values.double()
    center = values.mean(dim=0)
    scale = 1 / (values - center).square().mean().sqrt()
    weight = (head.weight.double() / scale).requires_grad_()
    bias = (head.bias.double() + head.weight.double() @ center).requires_grad_()
    fit = cross_entropy((values - center) * scale @ weight.T + bias, train.targets, weight=weights)
    loss = fit + head.l2 / 2 * weight.square().sum()
    first, second = torch.autograd.grad(loss, (weight, bias))
    return first, second


@pytest.mark.parametrize(("noise", "dim"), [(0.1, 16), (1.0, 16), (5.0, 16), (5.0, 1000)])
def test_the_gradient_is_zero_at_each_solution(noise: float, dim: int) -> None:
    """For classes that can be separated, and for classes that cannot; to the square root of float32's precision."""
    train = make(noise=noise, dim=dim)
    grid = (*GRID, 0.0001)
    heads = fit_heads(train, None, CLASSES, grid, balanced=False)
    assert sorted(head.l2 for head in heads) == sorted(grid)
    for head in heads:
        assert max(part.abs().max().item() for part in gradients(head, train)) < 1e-3, head.l2


def test_stronger_regularization_gives_smaller_weights() -> None:
    heads = sorted(fit_heads(make(), None, CLASSES, GRID, balanced=False), key=lambda head: head.l2)
    norms = [head.weight.norm().item() for head in heads]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 2 * norms[-1]


def test_balanced_is_the_same_as_repeating_the_samples_of_rare_classes() -> None:
    """Class c has 8, 16, 24 and 48 samples; repeated 6, 3, 2 and 1 times they are 48 each."""
    values, targets = make(count=4 * 48, noise=2.0)
    rows = torch.cat([(targets == number).nonzero().flatten()[:count] for number, count in enumerate((8, 16, 24, 48))])
    few = Features(values[rows], targets[rows])
    repeats = torch.tensor([6, 3, 2, 1])[few.targets]
    repeated = Features(few.values.repeat_interleave(repeats, dim=0), few.targets.repeat_interleave(repeats))
    counts = few.targets.bincount()
    [balanced] = fit_heads(few, None, CLASSES, [0.01], balanced=True)
    [plain] = fit_heads(few, None, CLASSES, [0.01], balanced=False)
    weights = (len(few.targets) / (CLASSES * counts)).double()
    assert max(part.abs().max().item() for part in gradients(balanced, few, weights)) < 1e-3
    # The same minimum, but for center and scale of the features, which are those of the samples as they are.
    center, spread = few.values.mean(dim=0), (few.values - few.values.mean(dim=0)).square().mean()
    other, other_spread = repeated.values.mean(dim=0), (repeated.values - repeated.values.mean(dim=0)).square().mean()
    assert not torch.allclose(center, other)
    [equal] = fit_heads(repeated, None, CLASSES, [0.01 * (spread / other_spread).item()], balanced=False)
    assert torch.allclose(balanced.weight, equal.weight, atol=3e-3)
    assert torch.allclose(balanced.bias, equal.bias, atol=3e-3)
    assert not torch.allclose(balanced.bias, plain.bias, atol=0.05)


def test_the_best_head_has_the_highest_validation_accuracy_then_the_lowest_loss() -> None:
    train, val = make(noise=3.0), make(noise=3.0, seed=1)
    heads = fit_heads(train, val, CLASSES, (100.0, *GRID), balanced=False)
    assert len({head.accuracy for head in heads}) > 1
    assert [(-head.accuracy, head.loss) for head in heads] == sorted((-head.accuracy, head.loss) for head in heads)
    for head in heads:
        logits = val.values @ head.weight.T + head.bias
        assert head.accuracy == pytest.approx((logits.argmax(dim=1) == val.targets).float().mean().item())
        assert head.loss == pytest.approx(cross_entropy(logits, val.targets).item(), rel=1e-4)
    easy = fit_heads(make(noise=0.1), make(noise=0.1, seed=1), CLASSES, GRID, balanced=False)
    assert {head.accuracy for head in easy} == {1.0}
    assert easy[0].loss == min(head.loss for head in easy)


def test_without_validation_data_the_default_strength_is_chosen() -> None:
    heads = fit_heads(make(), None, CLASSES, (1.0, 0.02, 0.0001), balanced=False)
    assert heads[0].l2 == 0.02
    assert math.isnan(heads[0].accuracy)
    assert math.isnan(heads[0].loss)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_class_without_samples_is_never_predicted(balanced: bool) -> None:
    train, val = make(), make(seed=1)
    rows = train.targets != 2
    for head in fit_heads(Features(train.values[rows], train.targets[rows]), val, CLASSES, GRID, balanced):
        assert head.weight.isfinite().all()
        assert head.bias.isfinite().all()
        assert ((val.values @ head.weight.T + head.bias).argmax(dim=1) != 2).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_constant_features_give_the_frequencies_of_the_classes(value: float) -> None:
    targets = torch.tensor([0, 0, 0, 1, 1, 2]).repeat(10)
    train = Features(torch.full((60, 8), value), targets)
    for head in fit_heads(train, train, 3, GRID, balanced=False):
        probabilities = (train.values @ head.weight.T + head.bias)[0].softmax(dim=0)
        assert torch.allclose(probabilities, torch.tensor([3, 2, 1]) / 6, atol=1e-3)


def test_features_of_very_different_scale_are_fitted_in_float32() -> None:
    """One feature is ten thousand times as large as the others, which tell the classes apart, and is far from 0."""
    values, targets = make(noise=0.1)
    large = 1e6 + 1e4 * torch.randn(len(values), 1, generator=torch.Generator().manual_seed(2))
    train = Features(torch.cat([values, large], dim=1), targets)
    for scale in (1.0, 1e-6):
        scaled = Features(train.values * scale, targets)
        heads = fit_heads(scaled, scaled, CLASSES, (0.01, 1e-9), balanced=False)
        assert all(head.weight.isfinite().all() and math.isfinite(head.loss) for head in heads)
        assert heads[0].accuracy == 1.0


def test_the_scale_and_the_offset_of_all_features_do_not_matter() -> None:
    train, val = make(noise=3.0), make(noise=3.0, seed=1)
    plain = fit_heads(train, val, CLASSES, GRID, balanced=False)
    moved, moved_val = (Features(50 * part.values + 7, part.targets) for part in (train, val))
    for one, other in zip(plain, fit_heads(moved, moved_val, CLASSES, GRID, balanced=False), strict=True):
        assert (one.l2, one.accuracy) == (other.l2, other.accuracy)
        assert one.loss == pytest.approx(other.loss, rel=1e-2)
        assert torch.allclose(one.weight, 50 * other.weight, atol=1e-2)


def test_a_long_fit_says_how_long_it_will_take_and_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each look at the clock is 10 s after the one before."""
    caplog.set_level(logging.INFO)
    train, val = make(), make(seed=1)
    fit_heads(train, val, CLASSES, GRID, balanced=False)
    assert caplog.messages == ["finetune: fitting the head to 120 x 16 features, 4 times, about 0 s"]
    caplog.clear()
    clock = itertools.count(step=10)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    heads = fit_heads(train, val, CLASSES, GRID, balanced=False)
    first, *others = caplog.messages
    assert first == f"finetune: fitting the head to 120 x 16 features, 4 times, about {10 * 60 * 4} s"
    strongest = next(head for head in heads if head.l2 == 1.0)
    metrics = f"val/accuracy {strongest.accuracy:.4f}, val/loss {strongest.loss:.4f}"
    assert others[0] == f"finetune: L2 regularization 1, 1 of 4: {metrics}, 10 s"
    assert len(others) == 4


def test_the_same_features_give_the_same_bits() -> None:
    """Whatever the state of the global random number generator."""
    first = fit_heads(make(), make(seed=1), CLASSES, GRID, balanced=True)
    torch.manual_seed(5)
    for one, other in zip(first, fit_heads(make(), make(seed=1), CLASSES, GRID, balanced=True), strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
        assert one[2:] == other[2:]
