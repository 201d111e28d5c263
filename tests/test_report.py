"""The pictures in a run's folder, and what the test gathers for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from torchmetrics.functional.classification import multiclass_precision_recall_curve

from pytorch_intro import pictures
from pytorch_intro.classifier import Classifier
from pytorch_intro.mistakes import KEPT, ConfidentMistakes
from pytorch_intro.normalize import Normalize
from pytorch_intro.run_folder import REPORT
from pytorch_intro.scores import THRESHOLDS, ClassScores, confused_pairs, scores_of
from pytorch_intro.summaries import positives

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]


def is_drawn(file: Path) -> bool:
    """Whether a picture is light, not blank, and large enough to be read."""
    picture = np.asarray(Image.open(file).convert("L"))
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return min(picture.shape) >= 300 and rim.min() > 200 and np.median(picture) > 128 and len(np.unique(picture)) > 50


@pytest.mark.pictures
def test_a_run_leaves_a_report_and_tells_of_it(command: Command, tmp_path: Path) -> None:
    """Three pictures, also in the model card; on the terminal the classes that are mixed up, and where all lies."""
    answer = command(*FEW, "name=first")
    assert answer.code == 0, answer.err
    run = tmp_path / "outputs" / "first"
    assert all(is_drawn(run / name) for name in REPORT)
    assert ", ".join(REPORT) in answer.out
    (confused,) = [number for number, line in enumerate(answer.out.splitlines()) if line.startswith("  confused ")]
    assert all(" and " in line and " of 80" in line for line in answer.out.splitlines()[confused : confused + 3])
    assert all(f"({name})" in (run / "README.md").read_text() for name in REPORT)
    again = command(*FEW, "name=first")
    assert ", ".join(REPORT) in again.out


@pytest.mark.parametrize("left_out", [["callbacks=none"], ["callbacks.report=null", "callbacks.tensorboard=null"]])
def test_who_wants_no_pictures_gets_none(command: Command, tmp_path: Path, left_out: list[str]) -> None:
    assert command(*FEW, *left_out, "name=first").code == 0
    assert not list((tmp_path / "outputs" / "first").glob("*.png"))


def test_the_curves_of_a_run_that_was_carried_on_are_whole(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have each epoch, also those that were trained before, and tell whose weights were chosen."""
    drawn = []

    def noted(*arguments: Any) -> Image.Image:
        drawn.append(arguments)
        return Image.new("L", (1, 1))

    def interrupted(_: Classifier) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "draw_curves", noted)
    arguments = [*FEW, "trainer.max_epochs=3", "name=first"]
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_test_epoch_end", interrupted)
        assert command(*arguments).code == 130
    assert command(*arguments).code == 0
    (first, title, chosen), again = drawn
    assert again == (first, title, chosen)
    assert (title, list(first)) == ("first", [1, 2, 3])
    best = max(first, key=lambda epoch: first[epoch]["val/accuracy"])
    assert chosen == best
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= first[2].keys()


@pytest.mark.pictures
@pytest.mark.parametrize("classes", [["a", "b"], [f"a class with a long name {number}" for number in range(120)]])
def test_any_number_of_classes_can_be_drawn(classes: Sequence[str]) -> None:
    matrix = torch.randint(0, 50, (len(classes), len(classes))).tolist()
    picture = pictures.draw_confusion_matrix(matrix, classes, "some")
    assert picture.width > 200
    assert picture.getcolors(maxcolors=2) is None, "it is not blank"


@pytest.mark.pictures
def test_a_contact_sheet_shows_pictures_of_any_size_and_cuts_long_captions() -> None:
    """None grows into its neighbour."""
    shapes = [(1, 1), (28, 28), (3000, 10), (10, 3000)]
    sheet = pictures.draw_contact_sheet([Image.new("L", size) for size in shapes], ["W" * 90] * 4, "title")
    names = pictures.draw_contact_sheet([Image.new("L", size) for size in shapes], ["W" * 12 + "…"] * 4, "title")
    assert sheet.size == names.size
    gaps = np.asarray(sheet)[-pictures.TILE - pictures.GAP :, : pictures.GAP]
    assert (gaps == 255).all()
    assert pictures.draw_contact_sheet([], [], "no image of the test was mistaken").width > 0


def test_the_most_confident_mistakes_are_kept_whatever_the_batches() -> None:
    """Those that a sort of all of them gives, with their images; fewer where there are fewer."""
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(500, 10, generator=draw), torch.randint(0, 10, (500,), generator=draw)
    images = torch.arange(500.0).view(500, 1, 1, 1)
    kept = ConfidentMistakes()
    for rows in torch.arange(500).split(37):
        kept.update(images[rows], logits[rows], targets[rows])
    mistakes = kept.compute()
    confidences, predicted = logits.softmax(dim=1).max(dim=1)
    wrong = (predicted != targets).nonzero().flatten()
    expected = wrong[confidences[wrong].argsort(descending=True)][:KEPT]
    assert mistakes["images"].flatten().tolist() == expected.tolist()
    assert mistakes["predicted"].tolist() == predicted[expected].tolist()
    assert mistakes["targets"].tolist() == targets[expected].tolist()
    right = ConfidentMistakes()
    right.update(images[:5], logits[:5], logits[:5].argmax(dim=1))
    assert len(right.compute()["images"]) == 0


def test_precision_and_recall_are_torchmetrics_own() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, targets = 3 * torch.randn(900, 4, generator=draw), torch.randint(0, 4, (900,), generator=draw)
    scores = ClassScores(4)
    for rows in torch.arange(900).split(128):
        scores.update(logits[rows], targets[rows])
    thresholds = torch.arange(THRESHOLDS) / (THRESHOLDS - 1)
    precision, recall, _ = multiclass_precision_recall_curve(logits.softmax(dim=1), targets, 4, thresholds)
    for number, counts in enumerate(scores.compute()["histograms"]):
        false, true = positives(counts)
        assert torch.allclose(true / true[0], recall[number][:-1], atol=2e-3)
        some = true + false > 0
        assert torch.allclose((true / (true + false))[some], precision[number][:-1][some], atol=2e-2)


def test_the_pairs_that_are_mixed_up_most_often_come_first() -> None:
    matrix = torch.tensor([[5, 2, 0], [3, 4, 1], [0, 0, 6]])
    measured = {"matrix": matrix, "ece": torch.tensor(0.0)}
    assert confused_pairs(scores_of(measured, ["a", "b", "c"]), 3) == ["a and b: 5 of 15", "b and c: 1 of 14"]


def test_normalising_can_be_undone() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    normalize = Normalize([0.2, 0.5, 0.7], [0.1, 0.3, 0.4])
    assert torch.equal(normalize.denormalize(normalize(images)), images)
