"""Losses and class weights agree with their definitions, for labels and for the class probabilities of mixed images."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, Command, compose, sample_datamodule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot
from torchvision.ops import sigmoid_focal_loss

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.class_weights import (
    balanced_weights,
    describe_weights,
    effective_number_weights,
    named_weights,
    normalize_weights,
)
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.losses import BinaryCrossEntropy, CrossEntropy, Focal, build_loss

N, C = 12, 4
MakeLoss = Callable[..., nn.Module]
LOSSES: list[MakeLoss] = [
    lambda **values: CrossEntropy(0.1, **values),
    lambda **values: Focal(2.0, **values),
    lambda **values: BinaryCrossEntropy(0.1, **values),
]
EACH_LOSS = pytest.mark.parametrize("make", LOSSES, ids=["cross_entropy", "focal", "bce"])


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(N, C, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(N) % C


@pytest.fixture
def weights() -> Tensor:
    return torch.tensor([0.5, 1.0, 2.0, 0.5])


def test_cross_entropy_without_weights_has_the_bits_of_torch(logits: Tensor, labels: Tensor) -> None:
    mixed = (one_hot(labels, C) + one_hot(labels.flip(0), C)) / 2
    for targets in (labels, mixed):
        assert torch.equal(CrossEntropy(0.1)(logits, targets), cross_entropy(logits, targets, label_smoothing=0.1))


def test_class_weights_multiply_the_loss_of_an_image_and_the_sum_is_divided_by_n(
    logits: Tensor, labels: Tensor, weights: Tensor
) -> None:
    """torch divides by the weights of the batch, and weighs the classes that label smoothing spreads to as well."""
    expected = cross_entropy(logits, labels, weight=weights) * weights[labels].sum() / N
    torch.testing.assert_close(CrossEntropy(class_weights=weights)(logits, labels), expected)
    log_p = logits.log_softmax(dim=1)
    smoothed = [-0.9 * log_p[i, y] - 0.1 * log_p[i].mean() for i, y in enumerate(labels.tolist())]
    expected = torch.stack([weights[y] * loss for y, loss in zip(labels.tolist(), smoothed, strict=True)]).mean()
    torch.testing.assert_close(CrossEntropy(0.1, weights)(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_two_classes_is_that_of_torchvision_for_the_difference_of_logits(gamma: float) -> None:
    logits = 4 * torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(N) % 2
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(Focal(gamma)(logits, labels), expected)


def test_focal_loss_is_its_formula(logits: Tensor, labels: Tensor, weights: Tensor) -> None:
    p = logits.softmax(dim=1)[torch.arange(N), labels]
    losses = -((1 - p) ** 1.5) * p.log()
    torch.testing.assert_close(Focal(1.5)(logits, labels), losses.mean())
    torch.testing.assert_close(Focal(1.5, weights)(logits, labels), (weights[labels] * losses).mean())
    torch.testing.assert_close(Focal(0.0)(logits, labels), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_has_finite_gradients_for_certain_predictions(gamma: float) -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0], [30.0, 0.0]], requires_grad=True)
    Focal(gamma)(logits, torch.zeros(3, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_bce_is_the_sum_over_one_sigmoid_per_class(logits: Tensor, labels: Tensor) -> None:
    expected = binary_cross_entropy_with_logits(logits, one_hot(labels, C).float(), reduction="sum") / N
    torch.testing.assert_close(BinaryCrossEntropy()(logits, labels), expected)
    smoothed = one_hot(labels, C) * 0.9 + 0.1 / C
    s = logits.sigmoid()
    expected = -(smoothed * s.log() + (1 - smoothed) * (1 - s).log()).sum() / N
    torch.testing.assert_close(BinaryCrossEntropy(0.1)(logits, labels), expected)


@EACH_LOSS
@pytest.mark.parametrize("weighted", [False, True])
def test_certain_class_probabilities_have_the_loss_of_their_labels(
    make: MakeLoss, weighted: bool, logits: Tensor, labels: Tensor, weights: Tensor
) -> None:
    loss = make(class_weights=weights if weighted else None)
    torch.testing.assert_close(loss(logits, one_hot(labels, C).float()), loss(logits, labels))


@EACH_LOSS
def test_the_loss_of_a_mixed_image_is_linear_in_its_probabilities(
    make: MakeLoss, logits: Tensor, labels: Tensor, weights: Tensor
) -> None:
    """With class weights, the image has the mean weight of its classes."""
    one, other = one_hot(labels, C).float(), one_hot(labels.flip(0), C).float()
    mixed = 0.7 * one + 0.3 * other
    torch.testing.assert_close(make()(logits, mixed), 0.7 * make()(logits, one) + 0.3 * make()(logits, other))
    expected = [mixed[i] @ weights * make()(logits[i : i + 1], mixed[i : i + 1]) for i in range(N)]
    torch.testing.assert_close(make(class_weights=weights)(logits, mixed), torch.stack(expected).mean())


@EACH_LOSS
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(
    make: MakeLoss, logits: Tensor, labels: Tensor, weights: Tensor
) -> None:
    """So that ranks and accumulated gradients give the loss of the whole batch, although the parts differ in weight."""
    loss = make(class_weights=weights)
    labels = labels.sort().values
    parts = [loss(logits[part], labels[part]) for part in (slice(0, 6), slice(6, 12))]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, loss(logits, labels))


@EACH_LOSS
def test_balanced_weights_have_the_gradient_of_a_data_set_with_repeated_images(make: MakeLoss, logits: Tensor) -> None:
    labels = torch.tensor([0, 0, 0, 1])
    weights = normalize_weights("key", balanced_weights(labels.bincount()), labels.bincount()).float()
    rows = torch.tensor([0, 1, 2, 3, 3, 3])
    torch.testing.assert_close(make(class_weights=weights)(logits[:4], labels), make()(logits[rows], labels[rows]))


def test_balanced_weights_are_inverse_frequencies_with_a_mean_of_1_over_images() -> None:
    counts = torch.tensor([900, 90, 10])
    weights = normalize_weights("key", balanced_weights(counts), counts)
    assert weights.tolist() == pytest.approx([1000 / (3 * count) for count in counts.tolist()])  # as in scikit-learn
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.999999])
def test_effective_numbers_are_those_of_the_paper(beta: float) -> None:
    counts = torch.tensor([5000, 50, 1])
    weights = effective_number_weights(counts, beta).tolist()
    effective = [sum(beta**i for i in range(count)) for count in counts.tolist()]  # 1 + beta + beta^2 + …
    assert weights == pytest.approx([1 / number for number in effective])


def test_a_class_without_images_does_not_change_the_weights_of_the_others() -> None:
    for make in (balanced_weights, lambda counts: effective_number_weights(counts, 0.99)):
        counts = torch.tensor([30, 0, 10])
        weights = normalize_weights("key", make(counts), counts)
        others = normalize_weights("key", make(counts[[0, 2]]), counts[[0, 2]])
        assert weights[[0, 2]].tolist() == pytest.approx(others.tolist())
        assert weights.isfinite().all()


def test_weights_by_name_are_in_the_order_of_the_classes_and_need_not_be_normalized() -> None:
    weights = named_weights("key", {"b": 1e300, "a": 2e300}, ["a", "b"])
    counts = torch.tensor([10, 20])
    assert normalize_weights("key", weights, counts).tolist() == pytest.approx([1.5, 0.75])
    assert named_weights("key", {1: 3.0, 0: 6.0}, ["0", "1"]).tolist() == [1.0, 0.5]  # type: ignore[dict-item]


def test_all_weights_are_printed_or_the_range_for_many_classes() -> None:
    assert describe_weights(torch.tensor([0.5, 10]), ["Dress", "Shirt"]) == "Dress 0.5, Shirt 10"
    names = [f"class_{number}" for number in range(20)]
    assert describe_weights(torch.arange(20.0), names) == "from class_0 0 to class_19 19"


@pytest.fixture(scope="module")
def sample() -> DataModule:
    return sample_datamodule()


class WithoutMean(nn.Module):
    """A loss that returns one number per image."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets, reduction="none")


class Learned(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.scale * cross_entropy(logits, targets)


def smoothed(logits: Tensor, targets: Tensor, amount: float = 0.0) -> Tensor:
    """A loss that is a function."""
    return cross_entropy(logits, targets, label_smoothing=amount)


REFUSED: dict[str, tuple[dict[str, Any], bool, str]] = {
    "one number per image": ({"_target_": "test_losses.WithoutMean"}, False, r"one number.*return a mean"),
    "a parameter": ({"_target_": "test_losses.Learned"}, False, r"neither trained nor saved; .*persistent=False"),
    "a function without _partial_": (
        {"_target_": "test_losses.smoothed"},
        False,
        r"^loss: smoothed\(\) missing 2 .*; add _partial_: true to its file, or \+\+loss\._partial_=true$",
    ),
    "a function of other targets": (
        {"_target_": "torch.nn.functional.mse_loss", "_partial_": True},
        False,
        r"^loss: mse_loss does not accept labels",
    ),
    "other targets": ({"_target_": "torch.nn.MSELoss"}, False, r"does not accept labels.*another loss"),
    "no mixed images": (
        {"_target_": "torch.nn.MultiMarginLoss"},
        True,
        r"MultiMarginLoss does not accept class probabilities.*data\.mixup_alpha.*set both to 0",
    ),
    "no class weights": (
        {"_target_": "torch.nn.CrossEntropyLoss", "class_weights": "balanced"},
        False,
        r"CrossEntropyLoss has no parameter class_weights; add one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loss_that_does_not_fit_is_refused_with_the_reason(
    name: str, sample: DataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, has_mix, message = REFUSED[name]
    config = compose("data=sample")
    config.loss = node
    if has_mix:
        monkeypatch.setattr(sample, "mix", nn.Identity())
    with pytest.raises(UserError, match=message):
        build_loss(config.loss, sample)


def test_a_loss_of_torch_works_by_its_name(sample: DataModule, logits: Tensor) -> None:
    """Null class weights are not passed to a class that does not take them."""
    config = compose("data=sample", "loss._target_=torch.nn.CrossEntropyLoss")
    loss = build_loss(config.loss, sample)
    assert isinstance(loss, nn.CrossEntropyLoss)
    assert loss.label_smoothing == 0.1


def test_a_function_is_a_loss_with_partial(sample: DataModule, logits: Tensor, labels: Tensor) -> None:
    config = compose("data=sample")
    config.loss = {"_target_": "test_losses.smoothed", "_partial_": True, "amount": 0.2}
    loss = build_loss(config.loss, sample)
    assert loss(logits, labels).equal(smoothed(logits, labels, amount=0.2))
    assert type(loss) is functools.partial, "without the checks of Hydra in every step"


def test_class_weights_are_computed_from_the_training_split(sample: DataModule) -> None:
    """Classes of the sample are balanced."""
    config = compose("data=sample", "loss.class_weights=balanced")
    loss = build_loss(config.loss, sample)
    assert isinstance(loss, CrossEntropy)
    assert isinstance(loss.class_weights, Tensor)
    assert loss.class_weights.tolist() == pytest.approx([1.0] * 10)
    weights = {name: float(number + 1) for number, name in enumerate(sample.classes)}
    config.loss.class_weights = weights
    loss = build_loss(config.loss, sample)
    assert isinstance(loss, CrossEntropy)
    assert isinstance(loss.class_weights, Tensor)
    assert loss.class_weights.tolist() == pytest.approx([(number + 1) / 5.5 for number in range(10)])


def test_every_loss_trains_with_mixed_images_and_validates_with_plain_cross_entropy(
    command: Command, tmp_path: Path
) -> None:
    """With a learning rate of 0, all have the same val/loss and test/loss, and different train/loss."""
    few = [
        "data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "model=mlp",
        "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "optimizer=sgd", "optimizer.lr=0",
        "data.mixup_alpha=0.2", "data.cutmix_alpha=1.0", "loss.class_weights=effective_number", *NO_PICTURES,
    ]  # fmt: skip
    results = []
    for loss in ("cross_entropy", "focal", "bce"):
        answer = command(*few, f"loss={loss}", f"name={loss}")
        assert answer.code == 0, answer.err
        assert (
            "loss: class weights effective_number: T-shirt/top 1, "
            in (tmp_path / "outputs" / loss / "train.log").read_text()
        )
        results.append(json.loads((tmp_path / "outputs" / loss / "result.json").read_text()))
        checkpoint = torch.load(tmp_path / "outputs" / loss / "checkpoints" / "last.ckpt", weights_only=True)
        results[-1]["train/loss"] = checkpoint["metrics"]["train/loss"]
        assert all(key.startswith("network.") for key in checkpoint["state_dict"])
    assert len({result["val/loss"] for result in results}) == 1
    assert len({result["test/loss"] for result in results}) == 1
    assert len({result["train/loss"] for result in results}) == 3
