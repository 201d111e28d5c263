"""Draws are seeded, leave every class its share, and neither lose nor repeat an image."""

import pytest
import torch

from pytorch_intro.data.splits import stratified_fold, stratified_split

TARGETS = torch.arange(1000) ** 2 % 7 % 4  # four classes of different sizes


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.5, 0.9, 0.001])
def test_a_draw_takes_its_share_of_every_class(fraction: float) -> None:
    left, drawn = stratified_split(TARGETS, fraction, seed=0)
    assert len(drawn) == round(1000 * fraction)
    assert sorted(left.tolist() + drawn.tolist()) == list(range(1000))
    for number, count in enumerate(torch.bincount(TARGETS)):
        assert abs((TARGETS[drawn] == number).sum() - count * len(drawn) / 1000) < 1


def test_no_class_is_always_drawn_for_being_the_last() -> None:
    """A rare last class is left to train on with most seeds, as any other."""
    targets = torch.tensor([0] * 100 + [1] * 100 + [2] * 2)
    drawn = [int((targets[stratified_split(targets, 0.1, seed)[1]] == 2).sum()) for seed in range(40)]
    assert max(drawn) <= 1
    assert sum(drawn) < 20


def test_folds_share_no_image_and_leave_none_out() -> None:
    """Each image validates once; sizes, and those of each class, differ by one at most."""
    folds = [stratified_fold(TARGETS, 7, number, seed=0) for number in range(7)]
    assert sorted(torch.cat([drawn for _, drawn in folds]).tolist()) == list(range(1000))
    for left, drawn in folds:
        assert sorted(left.tolist() + drawn.tolist()) == list(range(1000))
    sizes = [len(drawn) for _, drawn in folds]
    assert max(sizes) - min(sizes) <= 1
    counts = torch.stack([torch.bincount(TARGETS[drawn], minlength=4) for _, drawn in folds])
    assert (counts.max(dim=0).values - counts.min(dim=0).values).max() <= 1


def test_the_seed_decides() -> None:
    assert torch.equal(stratified_split(TARGETS, 0.2, seed=1)[1], stratified_split(TARGETS, 0.2, seed=1)[1])
    assert not torch.equal(stratified_split(TARGETS, 0.2, seed=1)[1], stratified_split(TARGETS, 0.2, seed=2)[1])
    assert not torch.equal(stratified_fold(TARGETS, 5, 0, seed=1)[1], stratified_fold(TARGETS, 5, 0, seed=2)[1])
