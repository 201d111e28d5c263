"""Figures in the run folder, and the metrics that they show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from pytorch_intro.analysis import plots
from pytorch_intro.data.normalize import Normalize
from pytorch_intro.runs.folder import REPORT
from pytorch_intro.training.classifier import Classifier

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

    monkeypatch.setattr(plots, "plot_curves", noted)
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
    matrix = torch.randint(0, 50, (len(classes), len(classes)))
    picture = plots.plot_confusion(matrix, classes, "some")
    assert picture.width > 200
    assert picture.getcolors(maxcolors=2) is None, "it is not blank"


@pytest.mark.pictures
def test_a_contact_sheet_shows_pictures_of_any_size_and_cuts_long_captions() -> None:
    """None grows into its neighbour."""
    shapes = [(1, 1), (28, 28), (3000, 10), (10, 3000)]
    sheet = plots.plot_image_grid([Image.new("L", size) for size in shapes], ["W" * 90] * 4, "title")
    names = plots.plot_image_grid([Image.new("L", size) for size in shapes], ["W" * 12 + "…"] * 4, "title")
    assert sheet.size == names.size
    gaps = np.asarray(sheet)[-plots.TILE - plots.GAP :, : plots.GAP]
    assert (gaps == 255).all()
    assert plots.plot_image_grid([], [], "no image of the test was mistaken").width > 0


def test_normalising_can_be_undone() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    normalize = Normalize([0.2, 0.5, 0.7], [0.1, 0.3, 0.4])
    assert torch.equal(normalize.denormalize(normalize(images)), images)
