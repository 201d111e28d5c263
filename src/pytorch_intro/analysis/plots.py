"""Plots of a run: curves, confusion matrix, samples with captions."""

import functools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pytorch_intro.analysis.fonts import default_font, fit_families, fit_font
from pytorch_intro.common.files import atomic_write
from pytorch_intro.common.text import to_displayable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pytorch_intro.data.datamodule import DataModule

# Matplotlib's figures are imported in the functions: that takes a third of a second, and a grid of images needs none.

SOFTWARE = "pytorch-intro"  # text in each PNG file, which distinguishes it from a user's
MAX_NUMBERED_CLASSES = 30  # with more, the numbers in the confusion matrix would not be legible
MAX_NAMED_CLASSES = 100  # likewise for the names
MAX_NAME = 40  # characters of a class name
TILE, GAP = 130, 14  # pixels of an image grid: side of an image, space between two
# Colors of Okabe and Ito, which are distinguishable with color blindness; the line styles differ too.
COLORS = {"train": ("#0072B2", "--"), "val": ("#D55E00", "-")}
CROSS_ENTROPY = ("#009E73", "-.")


def plot_curves(
    history: Mapping[int, Mapping[str, float]],
    title: str,
    best_epoch: int | None = None,
    step_losses: Sequence[tuple[float, float]] = (),
) -> Image.Image:
    """Plot loss and accuracy of training and validation over the epochs, and other metrics of the validation.

    Args:
        history: Metrics by name (train/loss, …) of each epoch, counted from 1; 0: before the first.
        best_epoch: Epoch whose weights were selected.
        step_losses: (epochs so far, train/loss_step), plotted behind the other curves.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    names = {name for metrics in history.values() for name in metrics if name.startswith("val/")}
    further = sorted(names - {"val/loss", "val/accuracy"})
    panels = 3 if further else 2
    figure = new_figure(figsize=(4.5 * panels, 3.8), layout="constrained")
    (title,), families = fit_families([to_displayable(title)])
    figure.suptitle(textwrap.fill(title, 90), parse_math=False, fontsize=11, fontfamily=families)
    for position, metric in enumerate(("loss", "accuracy", "other metrics")[:panels], 1):
        axes = figure.add_subplot(1, panels, position, xlabel="epoch", title=metric)
        curves = {f"{stage}/{metric}": style for stage, style in COLORS.items()}
        if metric == "loss":
            curves["train/cross_entropy"] = CROSS_ENTROPY
            if step_losses:
                axes.plot(
                    *zip(*step_losses, strict=True), color=COLORS["train"][0], alpha=0.35, label="train/loss_step"
                )
        if position == 3:
            curves = {name: (f"C{number % 10}", "-") for number, name in enumerate(further)}
        for name, (color, line_style) in curves.items():
            points = [(epoch, metrics[name]) for epoch, metrics in sorted(history.items()) if name in metrics]
            if points:
                axes.plot(*zip(*points, strict=True), line_style, color=color, marker="o", markersize=4, label=name)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="gray", linewidth=1, linestyle=":", label=f"best: epoch {best_epoch}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if metric == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return as_image(figure)


def plot_learning_rates(
    rates: Sequence[float], losses: Sequence[float], steepest: float, lowest: float, suggestion: float
) -> Image.Image:
    """Plot the smoothed loss of each step of a range test over its learning rate.

    Args:
        steepest: Learning rate at which the loss falls fastest.
        lowest: Learning rate of the lowest loss; the range between both is marked.
    """
    figure = new_figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="learning rate", ylabel="training loss", xscale="log")
    axes.plot(rates, losses, color=COLORS["train"][0])
    label = f"from the steepest to the lowest: {steepest:.2g} to {lowest:.2g}"
    axes.axvspan(steepest, lowest, color=CROSS_ENTROPY[0], alpha=0.15, label=label)
    style: dict[str, Any] = {"color": COLORS["val"][0], "linestyle": "--", "linewidth": 1}
    axes.axvline(suggestion, label=f"suggestion: {suggestion:.2g}", **style)
    low, high = min(losses), losses[0]
    axes.set_ylim(low - 0.1 * (high - low), high + 0.6 * (high - low))  # not as far as it diverges
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return as_image(figure)


def plot_confusion(matrix: Tensor, classes: Sequence[str], name: str, dpi: int = 140) -> Image.Image:
    """Plot a confusion matrix, colored by the share of the true class, with the accuracy as title.

    Args:
        matrix: (num_classes, num_classes) int64; rows are true classes.
        classes: Names of the classes.
        name: Name of the evaluated images, for the title.
        dpi: Pixels per inch; ten classes take five inches.
    """
    counts = matrix.cpu().numpy()
    correct, total = int(counts.trace()), int(counts.sum())
    shares = (counts / counts.sum(axis=1, keepdims=True).clip(min=1)).astype(np.float32)
    is_named = len(classes) <= MAX_NAMED_CLASSES
    labels = [to_displayable(label, MAX_NAME) for label in classes]
    (name, *labels), families = fit_families([to_displayable(name), *labels])
    longest = max(load_font(8).getlength(label) for label in labels) / 72  # inches
    # 3: the title has to fit above two classes; 8: without names, a larger picture shows no more, and takes 600 MB
    side = min(20.0, max(3.0, 0.9 + longest + 0.36 * len(labels))) if is_named else 8.0
    figure = new_figure(figsize=(side, side), layout="constrained", dpi=dpi)
    title = f"{textwrap.fill(name, round(11 * side))}\n{correct / max(total, 1):.2%} of {total:,} images correct"
    figure.suptitle(title, parse_math=False, fontsize=9, fontfamily=families)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation_stage="data")  # rgba would take 8 times the memory
    if is_named:
        ticks = range(len(labels))
        style: dict[str, Any] = {"fontsize": 8, "fontfamily": families, "parse_math": False}
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor", **style)
        axes.set_yticks(ticks, labels, **style)
    for row, column in np.ndindex(counts.shape) if len(labels) <= MAX_NUMBERED_CLASSES else ():
        if counts[row, column]:
            color = "white" if shares[row, column] > 0.5 else "black"
            number = f"{counts[row, column]:,}"
            text = axes.text(column, row, number, ha="center", va="center", color=color, fontsize=7)
            text.set_in_layout(False)  # else the layout measures every number
    return as_image(figure)


def plot_reliability(reliability: Mapping[str, Mapping[str, Tensor]], temperature: float) -> Image.Image:
    """Plot the accuracy of images by the probability of their predicted class, without and with the temperature.

    Args:
        reliability: Value of ClassMetrics.reliability.
        temperature: Temperature; if it is 1, there is one diagram.
    """
    from matplotlib.ticker import PercentFormatter

    titles = {"_uncalibrated": "without temperature", "": f"temperature {temperature:.3g}"}
    if temperature == 1:
        titles = {"": "probabilities"}
    figure = new_figure(figsize=(4 * len(titles), 4.6), layout="constrained")
    grid = figure.add_gridspec(2, len(titles), height_ratios=[4, 1])
    for column, (suffix, title) in enumerate(titles.items()):
        metrics = {name: values.cpu().double().numpy() for name, values in reliability[suffix].items()}
        counts, correct, confidences = (
            np.append(values[:-2], values[-2:].sum())  # a confidence of exactly 1 belongs to the last bin
            for values in (metrics[name] for name in ("num_samples", "num_correct", "confidence_sum"))
        )
        edges = np.linspace(0, 1, len(counts) + 1)
        used = counts > 0
        axes = figure.add_subplot(grid[0, column], xlim=(0, 1), ylim=(0, 1), title=f"{title}, ECE {metrics['ece']:.3f}")
        axes.bar(edges[:-1][used], correct[used] / counts[used], 1 / len(counts), align="edge", color="#56B4E9",
                 edgecolor="white", label="accuracy")  # fmt: skip
        means = confidences[used] / counts[used]
        axes.plot(means, means, "o", color="#D55E00", markersize=4, label="mean probability")
        axes.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
        axes.legend(frameon=False, loc="upper left")
        shares = figure.add_subplot(grid[1, column], xlim=(0, 1), xlabel="probability of the predicted class")
        shares.bar(edges[:-1], counts / max(counts.sum(), 1), 1 / len(counts), align="edge", color="gray",
                   edgecolor="white")  # fmt: skip
        shares.set_ylabel("images")
        for each in (axes, shares):
            each.spines[["top", "right"]].set_visible(False)
            each.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xticklabels([])
    return as_image(figure)


def plot_operating_point(scores: Tensor, is_positive: Tensor, threshold: float, name: str) -> Image.Image:
    """Plot the precision-recall and the ROC curve of one of two classes, with the point of a threshold.

    Args:
        scores: (N,) probability of the class.
        is_positive: (N,) bool, whether it is the true class.
        name: Name of the class.
    """
    from matplotlib.ticker import PercentFormatter

    order = scores.argsort(descending=True)
    ends = np.append(np.diff(scores[order].numpy()) != 0, True)  # the last of equal scores
    hits = is_positive[order].numpy()
    true, false = hits.cumsum()[ends], (~hits).cumsum()[ends]
    recall, precision, false_rate = true / max(hits.sum(), 1), true / (true + false), false / max((~hits).sum(), 1)
    chosen = int((scores[order].numpy()[ends] >= threshold).sum()) - 1  # -1: no image is predicted positive
    (name,), families = fit_families([to_displayable(name, MAX_NAME)])
    figure = new_figure(figsize=(8, 4), layout="constrained")
    figure.suptitle(f"{name}: threshold {threshold}", parse_math=False, fontsize=11, fontfamily=families)
    curves = {
        "precision and recall": ("recall", recall, "precision", precision),
        "ROC": ("false positive rate", np.append(0, false_rate), "true positive rate", np.append(0, recall)),
    }
    for position, (title, (x_name, x, y_name, y)) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(1, 2, position, title=title, xlim=(0, 1), ylim=(0, 1.02))
        axes.set(xlabel=x_name, ylabel=y_name)
        axes.plot(x, y, color="#0072B2")
        if chosen >= 0:
            row = chosen + len(x) - len(recall)
            axes.plot(x[row], y[row], "o", color="#D55E00", clip_on=False)
            text = f"{x_name} {x[row]:.1%}\n{y_name} {y[row]:.1%}"
            style: dict[str, Any] = {"ha": "center", "arrowprops": {"arrowstyle": "-", "color": "gray"}}
            axes.annotate(text, (x[row], y[row]), xytext=(0.5, 0.5), textcoords="axes fraction", **style)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
    return as_image(figure)


def plot_errors(errors: Mapping[str, Tensor], data: "DataModule", **options: int) -> Image.Image:
    """Plot the result of TopErrors.compute: images, predicted classes with their probabilities, and true classes."""
    columns = (errors[name].tolist() for name in ("predicted", "confidences", "targets"))
    names = [to_displayable(name, MAX_NAME) for name in data.classes]
    captions = [f"{names[wrong]} {share:.0%}\nis {names[right]}" for wrong, share, right in zip(*columns, strict=True)]
    count = "1 most confident error" if len(captions) == 1 else f"{len(captions)} most confident errors"
    title = f"the {count} of the test" if captions else "no errors in the test"
    return plot_image_grid(to_pil_images(data.normalize.denormalize(errors["images"])), captions, title, **options)


def plot_samples(images: Tensor, targets: Tensor, classes: Sequence[str], title: str, **options: int) -> Image.Image:
    """Plot images with their labels.

    Args:
        images: (N, C, H, W) uint8.
        targets: (N,) int64; or after mixup (N, num_classes) float, of which the two largest shares are shown.
        classes: Names of the classes.
        title: Title of the plot.
        options: Arguments of plot_image_grid.
    """
    names = [to_displayable(name, MAX_NAME) for name in classes]
    if targets.ndim == 1:
        captions = [names[target] for target in targets.tolist()]
    else:
        shares, numbers = targets.topk(min(2, len(names)))
        captions = [
            "\n".join(f"{names[number]} {share:.0%}" for share, number in zip(*both, strict=True) if share)
            for both in zip(shares.tolist(), numbers.tolist(), strict=True)
        ]
    return plot_image_grid(to_pil_images(images), captions, title, **options)


def plot_image_grid(
    images: Sequence[Image.Image], captions: Sequence[str], title: str = "", columns: int = 8, font_size: int = 11
) -> Image.Image:
    """Plot images of any size in a grid, each below its caption of up to two lines; font_size is in pixels."""
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    caption_height = round(lines * 1.35 * font_size) + 6
    title_font = load_font(font_size + 3)
    title_height = 2 * font_size + 12 if title else 0
    width = max(columns * (TILE + GAP) + GAP, round(title_font.getlength(title)) + 2 * GAP)
    grid = Image.new("RGB", (width, title_height + rows * (caption_height + TILE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(grid)
    draw.text((GAP, 10), title, "black", title_font)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        left = GAP + column * (TILE + GAP)
        top = title_height + row * (caption_height + TILE + GAP) + caption_height
        tile = resize_to_tile(image)
        grid.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        text_lines, font_file = fit_font(caption.split("\n"))
        font = load_font(font_size, font_file)
        text = "\n".join(shorten(line, font) for line in text_lines)
        draw.multiline_text((left + TILE / 2, top - 4), text, "black", font, anchor="md", align="center", spacing=2)
    return grid


@functools.cache
def load_font(size: int, file: str | None = None) -> ImageFont.FreeTypeFont:
    """Return a font, by default the one that Matplotlib ships, in a size in pixels."""
    return ImageFont.truetype(file or default_font().file, size)


def shorten(line: str, font: ImageFont.FreeTypeFont) -> str:
    """Return as much of a line as fits above an image."""
    short = line
    while font.getlength(short) > TILE + GAP - 4:
        short = f"{short[:-2]}…"
    return short


def resize_to_tile(image: Image.Image) -> Image.Image:
    """Return an image of the size of a tile: small ones enlarged by whole pixels, large ones averaged."""
    scale = TILE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def to_pil_images(images: Tensor) -> list[Image.Image]:
    """Convert images (N, C, H, W) uint8; unless they have one or three channels, only the first is shown."""
    images = images.cpu() if images.shape[1] in (1, 3) else images[:, :1].cpu()
    return [Image.fromarray(image.squeeze(-1).numpy()) for image in images.permute(0, 2, 3, 1)]


def new_figure(**options: Any) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(**options)


def as_image(figure: "Figure") -> Image.Image:
    """Render a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG file atomically, marked as one of this project."""
    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    with atomic_write(path) as file:
        image.save(file, format="PNG", pnginfo=mark)


def is_saved_plot(path: Path) -> bool:
    """Return whether a file was written by `save`."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == SOFTWARE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # not a PNG file, or a broken one
        return False
