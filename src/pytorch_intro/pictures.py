"""Pictures of what a run does: its curves, its confusion matrix, contact sheets of images."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pytorch_intro.atomic import atomic_write

MOST_NUMBERS = 30  # classes, beyond which the numbers would not be legible
MOST_NAMES = 100  # likewise
TILE, GAP = 130, 14  # pixels of a contact sheet: a picture's side, the space between two
# Okabe and Ito's, which the colour-blind tell apart; the lines differ in their dashes too.
COLOURS = {"train": ("#0072B2", "--"), "val": ("#D55E00", "-")}


def draw_curves(history: Mapping[int, Mapping[str, float]], title: str, chosen: int | None = None) -> Image.Image:
    """Loss and accuracy of training and validation over the epochs.

    Args:
        history: Of each epoch, counted from 1, its figures by name: train/loss and so on.
        chosen: The epoch whose weights were chosen.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize=11)
    for place, metric in enumerate(("loss", "accuracy"), 1):
        axes = figure.add_subplot(1, 2, place, xlabel="epoch", title=metric)
        for stage, (colour, dashes) in COLOURS.items():
            name = f"{stage}/{metric}"
            points = [(epoch, figures[name]) for epoch, figures in sorted(history.items()) if name in figures]
            if points:
                axes.plot(*zip(*points, strict=True), dashes, color=colour, marker="o", markersize=4, label=name)
        if chosen is not None:
            axes.axvline(chosen, color="gray", linewidth=1, linestyle=":", label=f"chosen: epoch {chosen}")
        as_chart(axes, metric)
    return as_image(figure)


def as_chart(axes: Axes, metric: str) -> None:
    """A light grid, whole epochs, shares as percentages, a legend."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def draw_confusion_matrix(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, dpi: int = 140
) -> Image.Image:
    """Images by true and predicted class, coloured by their share of the true class.

    Args:
        matrix: Rows are true classes, columns are predicted ones.
        dpi: Pixels an inch, of which ten classes take five.
    """
    counts = np.array(matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(20.0, 1.6 + 0.36 * len(classes))
    figure = Figure(figsize=(side, side), layout="constrained", dpi=dpi)
    figure.suptitle(title, parse_math=False, fontsize=9)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_NAMES:
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False)
        axes.set_yticks(places, classes, fontsize=8, parse_math=False)
    for row, column in np.ndindex(counts.shape) if len(classes) <= MOST_NUMBERS else ():
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = f"{counts[row, column]:,}"
            text = axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=7)
            text.set_in_layout(False)  # which would measure each of them
    return as_image(figure)


def draw_contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], title: str = "", columns: int = 8, letters: int = 11
) -> Image.Image:
    """Pictures of any size with a caption of up to two lines each, in rows.

    Args:
        columns: Pictures a row, at most.
        letters: Size of the captions, in pixels.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    caption_height = round(lines * 1.35 * letters) + 6
    above = 2 * letters + 12 if title else 0
    size = columns * (TILE + GAP) + GAP, above + rows * (caption_height + TILE + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 10), title, "black", font(letters + 3))
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * (TILE + GAP), above + row * (caption_height + TILE + GAP) + caption_height
        tile = fitted(picture)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        text = "\n".join(shortened(line, font(letters)) for line in caption.split("\n"))
        draw.multiline_text(
            (left + TILE / 2, top - 4), text, "black", font(letters), anchor="md", align="center", spacing=2
        )
    return sheet


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own, of so many pixels."""
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def shortened(line: str, font: ImageFont.FreeTypeFont) -> str:
    """As much of a line as has room above a picture."""
    room, short = TILE + GAP - 4, line
    while font.getlength(short) > room:
        short = f"{short[:-2]}…"
    return short


def fitted(picture: Image.Image) -> Image.Image:
    """A picture as large as a tile: a small one enlarged in whole squares, a large one averaged."""
    scale = TILE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def as_pictures(images: Tensor) -> list[Image.Image]:
    """Images (N, C, H, W) uint8 to be looked at; of other than one or three channels the first."""
    images = images.cpu() if images.shape[1] in (1, 3) else images[:, :1].cpu()
    return [Image.fromarray(image.squeeze(-1).numpy()) for image in images.permute(0, 2, 3, 1)]


def as_image(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
