"""Pictures of what a run does: the confusion matrix, a contact sheet of predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pytorch_intro.atomic import atomic_write

MOST_NUMBERS = 30  # classes, beyond which the numbers would not be legible
MOST_NAMES = 100  # likewise
COLUMNS = 8  # of a contact sheet


def draw_confusion_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Images by true and predicted class, coloured by their share of the true class.

    Args:
        matrix: Rows are true classes, columns are predicted ones.
    """
    counts = np.array(matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(20.0, 2.5 + 0.6 * len(classes))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_NAMES:
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(places, classes, parse_math=False)
    for row, column in np.ndindex(counts.shape) if len(classes) <= MOST_NUMBERS else ():
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    save(figure, path)


def draw_contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], path: Path) -> None:
    """Pictures of any size with a caption each, in rows of 8."""
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), layout="constrained")
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(picture)
        axes.set_title(caption, fontsize=8, parse_math=False)
        axes.set_axis_off()
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
