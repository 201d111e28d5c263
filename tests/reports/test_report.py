"""Figures in the run folder, and the metrics that they show."""

import tracemalloc
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


def is_plot(file: Path) -> bool:
    """Return whether an image is light, not blank, large enough to be read, and not cut off at the edges."""
    plot = np.asarray(Image.open(file).convert("L"))
    return min(plot.shape) >= 300 and has_margin(plot) and np.median(plot) > 128 and len(np.unique(plot)) > 50


def has_margin(plot: np.ndarray) -> bool:
    """Return whether the edges of an image (H, W) are blank, so that nothing is cut off."""
    edges = np.concatenate([plot[0], plot[-1], plot[:, 0], plot[:, -1]])
    return bool(edges.min() > 200)


@pytest.mark.pictures
def test_a_run_saves_three_plots_and_prints_the_confused_classes(command: Command, tmp_path: Path) -> None:
    """The model card shows the plots, and the terminal lists their files."""
    answer = command(*FEW, "name=first")
    assert answer.code == 0, answer.err
    run = tmp_path / "outputs" / "first"
    assert all(is_plot(run / name) for name in REPORT)
    assert ", ".join(REPORT) in answer.out
    (confused,) = [number for number, line in enumerate(answer.out.splitlines()) if line.startswith("  confused ")]
    assert all(" and " in line and " of 80" in line for line in answer.out.splitlines()[confused : confused + 3])
    assert all(f"({name})" in (run / "README.md").read_text() for name in REPORT)
    again = command(*FEW, "name=first")
    assert ", ".join(REPORT) in again.out


def test_the_curves_of_a_resumed_run_have_every_epoch(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those before the interruption, and the epoch of the best weights."""
    plotted = []

    def record(*arguments: Any) -> Image.Image:
        plotted.append(arguments)
        return Image.new("L", (1, 1))

    def interrupt(_: Classifier) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "plot_curves", record)
    arguments = [*FEW, "trainer.max_epochs=3", "name=first"]
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_test_epoch_end", interrupt)
        assert command(*arguments).code == 130
    assert command(*arguments).code == 0
    (first, title, best, steps), again = plotted
    assert again == (first, title, best, steps)
    assert len(steps) > len(first)
    assert (title, list(first)) == ("first", [1, 2, 3])
    assert best == max(first, key=lambda epoch: (first[epoch]["val/accuracy"], -first[epoch]["val/loss"]))
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= first[2].keys()


@pytest.mark.pictures
@pytest.mark.parametrize("classes", [["a", "b"], [f"a class with a long name {number}" for number in range(120)]])
def test_confusion_matrices_of_any_size_can_be_plotted(classes: Sequence[str]) -> None:
    matrix = torch.randint(0, 50, (len(classes), len(classes)))
    plot = plots.plot_confusion(matrix, classes, "some")
    assert plot.width > 200
    assert plot.getcolors(maxcolors=2) is None, "not blank"


@pytest.mark.pictures
def test_a_confusion_matrix_of_a_thousand_classes_takes_little_memory() -> None:
    """Such a run needs no more memory than one with ten classes; the picture has no names, and is small."""
    matrix, names = torch.randint(0, 5, (1000, 1000)), [f"class {number}" for number in range(1000)]
    tracemalloc.start()
    try:
        plot = plots.plot_confusion(matrix, names, "some")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert max(plot.size) <= 1200


@pytest.mark.pictures
@pytest.mark.parametrize(
    "name", ["optimizer.lr=0.001,seed=0," * 6, "a name of many words " * 8, "a_name_without_spaces_" * 8]
)
def test_long_run_names_are_not_cut_off_in_plots(name: str) -> None:
    history = {1: {"train/loss": 1.0, "val/loss": 0.9}}
    for plot in (plots.plot_confusion(torch.eye(2).long(), ["a", "b"], name), plots.plot_curves(history, name, 1)):
        assert has_margin(np.asarray(plot.convert("L")))


@pytest.mark.pictures
def test_an_image_grid_has_images_of_any_size_and_shortens_long_captions() -> None:
    """No caption overlaps the next one."""
    shapes = [(1, 1), (28, 28), (3000, 10), (10, 3000)]
    sheet = plots.plot_image_grid([Image.new("L", size) for size in shapes], ["W" * 90] * 4, "title")
    names = plots.plot_image_grid([Image.new("L", size) for size in shapes], ["W" * 12 + "…"] * 4, "title")
    assert sheet.size == names.size
    gaps = np.asarray(sheet)[-plots.TILE - plots.GAP :, : plots.GAP]
    assert (gaps == 255).all()
    assert plots.plot_image_grid([], [], "no errors in the test").width > 0


def test_denormalize_inverts_normalize() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    normalize = Normalize([0.2, 0.5, 0.7], [0.1, 0.3, 0.4])
    assert torch.equal(normalize.denormalize(normalize(images)), images)
