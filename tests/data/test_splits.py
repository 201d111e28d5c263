"""Splits are seeded and stratified, and neither lose nor repeat an image."""

from pathlib import Path

import pytest
import torch
from conftest import sample_datamodule, write_images

from pytorch_intro.data.dataset import ImageSubset, InMemoryImageDataset
from pytorch_intro.data.splits import stratified_fold, stratified_split, warn_about_empty_classes

TARGETS = torch.arange(1000) ** 2 % 7 % 4  # four classes of different sizes


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.5, 0.9, 0.001])
def test_split_has_its_share_of_every_class(fraction: float) -> None:
    chosen = stratified_split(TARGETS, fraction, seed=0)
    assert chosen.shape == (1000,)
    assert chosen.sum() == round(1000 * fraction)
    for number, count in enumerate(torch.bincount(TARGETS)):
        assert abs((TARGETS[chosen] == number).sum() - count * chosen.sum() / 1000) < 1


def test_a_rare_last_class_is_not_always_chosen_for_validation() -> None:
    """With most seeds, a rare last class stays in the training split, like any other."""
    targets = torch.tensor([0] * 100 + [1] * 100 + [2] * 2)
    chosen = [int((targets[stratified_split(targets, 0.1, seed)] == 2).sum()) for seed in range(40)]
    assert max(chosen) <= 1
    assert sum(chosen) < 20


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [[2] * 200, [1] * 50 + [40] * 5, [1, 2, 3, 500], [1, 1, 2]], ids=str)
def test_every_class_keeps_an_image_for_training(sizes: list[int], fraction: float) -> None:
    """After a test and a validation split, whatever the seed; the splits are no smaller than they should be."""
    targets = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for seed in range(10):
        left = targets
        for _ in range(2):
            chosen = stratified_split(left, fraction, seed)
            assert chosen.sum() == min(round(len(left) * fraction), len(left) - len(sizes))
            left = left[~chosen]
            assert set(left.tolist()) == set(range(len(sizes)))


def test_folds_are_disjoint_and_cover_all_images() -> None:
    """Fold sizes and class counts differ by at most one."""
    folds = torch.stack([stratified_fold(TARGETS, 7, number, seed=0) for number in range(7)])
    assert (folds.sum(dim=0) == 1).all()
    sizes = folds.sum(dim=1)
    assert sizes.max() - sizes.min() <= 1
    counts = torch.stack([torch.bincount(TARGETS[chosen], minlength=4) for chosen in folds])
    assert (counts.max(dim=0).values - counts.min(dim=0).values).max() <= 1


def test_seed_determines_the_split() -> None:
    assert torch.equal(stratified_split(TARGETS, 0.2, seed=1), stratified_split(TARGETS, 0.2, seed=1))
    assert not torch.equal(stratified_split(TARGETS, 0.2, seed=1), stratified_split(TARGETS, 0.2, seed=2))
    assert not torch.equal(stratified_fold(TARGETS, 5, 0, seed=1), stratified_fold(TARGETS, 5, 0, seed=2))


def test_few_validation_images_are_reported_with_their_precision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """About two standard errors of an accuracy of 50 %, so 1 / sqrt(n); not in a cross-validation."""
    caplog.set_level("INFO")
    write_images(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(40)))
    photos = ["data=folder", f"data.root={tmp_path}", "data.test_fraction=0"]
    sample_datamodule(*photos, "data.val_fraction=0.2")
    assert "data: 16 validation images measure an accuracy only to about ± 25%" in caplog.text
    assert "-m data.num_folds=5 data.fold=0,1,2,3,4" in caplog.text
    caplog.clear()
    sample_datamodule(*photos, "data.num_folds=5", "data.fold=1")
    sample_datamodule()
    assert "measure an accuracy" not in caplog.text


def test_classes_without_a_training_image_are_named(caplog: pytest.LogCaptureFixture) -> None:
    sample_datamodule()
    assert "no training image" not in caplog.text
    dataset = InMemoryImageDataset(torch.zeros(3, 1, 8, 8), torch.tensor([0, 5, 10]), [f"c{n}" for n in range(11)])
    warn_about_empty_classes(ImageSubset(dataset, torch.arange(3)))
    assert "data: 8 of 11 classes have no training image: c1, c2, c3, c4, c6, c7, c8, c9" in caplog.text
