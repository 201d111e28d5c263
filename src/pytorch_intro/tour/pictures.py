"""Pictures that explain: made from the real objects, in colors that are distinguishable with color blindness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from torch import Tensor

from pytorch_intro.analysis.plots import as_image
from pytorch_intro.tour.practice import Record

# Colors of Okabe and Ito; the line styles differ too.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))
BOX = {"boxstyle": "round,pad=0.4", "facecolor": "white"}


def draw_names(variables: Mapping[str, Any]) -> Image.Image:
    """Draw arrays and tensors of a few numbers as names with arrows to their blocks of memory, by their addresses."""
    tensors = {name: torch.as_tensor(value) for name, value in variables.items()}
    blocks = {tensor.data_ptr(): tensor.tolist() for tensor in tensors.values()}
    figure, axes = blank(6.4, 0.5 + 0.7 * len(tensors))
    names = len(tensors)
    heights: dict[int, list[float]] = {address: [] for address in blocks}
    for row, tensor in enumerate(tensors.values()):
        heights[tensor.data_ptr()].append(names - row - 0.5)
    colors = dict(zip(blocks, (BLUE, ORANGE, GREEN), strict=False))
    for address, values in blocks.items():
        height = sum(heights[address]) / len(heights[address])
        for place, value in enumerate(values):
            axes.text(
                5.2 + 0.9 * place, height, f"{value:g}", ha="center", va="center", fontsize=13,
                bbox={"boxstyle": "square,pad=0.55", "facecolor": "white", "edgecolor": colors[address], "lw": 2},
            )  # fmt: skip
    for row, (name, tensor) in enumerate(tensors.items()):
        address = tensor.data_ptr()
        start, end = names - row - 0.5, sum(heights[address]) / len(heights[address])
        axes.text(0.2, start, name, ha="left", va="center", fontsize=13, family="monospace")
        arrow = {"arrowstyle": "-|>", "color": colors[address], "lw": 2}
        axes.annotate("", (4.6, end), (1.9, start), arrowprops=arrow)
    axes.text(0.2, names + 0.15, "name", fontsize=10, color="0.35")
    axes.text(4.8, names + 0.15, "block of memory", fontsize=10, color="0.35")
    axes.set(xlim=(0, 8), ylim=(0, names + 0.4))
    return as_image(figure)


def draw_batch(images: Tensor) -> Image.Image:
    """Draw images (N, 1, H, W) as a stack with its shape."""
    number, channels, rows, columns = images.shape
    figure, axes = blank(7.2, 3.4)
    step = 0.38
    for place in reversed(range(number)):
        left, bottom = step * place, step * 0.6 * place
        axes.imshow(
            images[place, 0].numpy(), cmap="gray", extent=(left, left + 3, bottom, bottom + 3), zorder=number - place
        )
        axes.plot(
            [left, left + 3, left + 3, left, left], [bottom, bottom, bottom + 3, bottom + 3, bottom],
            color="white", lw=1.5, zorder=number - place,
        )  # fmt: skip
    end = step * (number - 1)
    axes.text(1.5, -0.35, f"{columns} columns", ha="center", color=ORANGE, fontsize=11)
    axes.text(-0.2, 1.5, f"{rows} rows", ha="right", va="center", color=GREEN, fontsize=11)
    line = {"arrowstyle": "-|>", "color": BLUE, "lw": 2}
    axes.annotate("", (3.25 + end, 0.6 * end), (3.25, 0), arrowprops=line)
    axes.text(3.5 + end / 2, 0.25 * end, f"{number} pictures", color=BLUE, fontsize=11)
    parts = [
        (number, "picture", BLUE),
        (channels, "channel", "black"),
        (rows, "row", GREEN),
        (columns, "column", ORANGE),
    ]
    axes.text(4.1 + end, 2.8 + 0.6 * end, "shape", ha="left", fontsize=11, color="0.35")
    for line_number, (size, name, color) in enumerate(parts):
        axes.text(
            4.1 + end, 2.1 - 0.65 * line_number + 0.6 * end, f"{size:>3}  {name}{'s' * (size > 1)}", color=color,
            fontsize=13, family="monospace",
        )  # fmt: skip
    axes.set(xlim=(-1.6, 7.6 + end), ylim=(-0.6, 3.4 + 0.6 * end), aspect="equal")
    return as_image(figure)


def draw_layers(stages: Mapping[str, Tensor]) -> Image.Image:
    """Draw what the layers of a network make of one picture; stages are (1, 1, H, W)."""
    figure = Figure(figsize=(2.7 * len(stages), 3.2), layout="constrained")
    for place, (name, stage) in enumerate(stages.items(), 1):
        values = stage.detach()[0, 0].numpy()
        axes = figure.add_subplot(1, len(stages), place, title=name)
        limit = float(abs(values).max())
        is_signed = values.min() < 0
        shades = axes.imshow(values, cmap="PuOr" if is_signed else "gray", vmin=-limit * is_signed, vmax=limit)
        axes.set(xticks=[], yticks=[], xlabel=f"{values.shape[0]} x {values.shape[1]} pixels")
        bar = figure.colorbar(shades, ax=axes, location="bottom", shrink=0.8, ticks=MaxNLocator(3))
        bar.ax.tick_params(labelsize=8)
    return as_image(figure)


KINDS = {
    "NllLossBackward0": "take the\nright class",
    "LogSoftmaxBackward0": "logarithm\nof softmax",
    "AddmmBackward0": "multiply\nand add",
    "TBackward0": "swap rows\nand columns",
}


def draw_graph(loss: Tensor, names: Mapping[int, str]) -> Image.Image:
    """Draw the computation graph of a loss, from its grad_fn.

    Args:
        names: Name of each parameter by its id().
    """
    assert loss.grad_fn is not None
    depths: dict[Any, int] = {}
    edges: list[tuple[Any, Any]] = []
    queue: list[tuple[Any, int]] = [(loss.grad_fn, 1)]
    while queue:
        node, depth = queue.pop()
        depths[node] = max(depth, depths.get(node, 0))
        for before, _ in node.next_functions:
            if before is not None:
                edges.append((before, node))
                queue.append((before, depth + 1))
    deepest = max(depths.values())
    places: dict[Any, tuple[float, float]] = {}
    for depth in range(1, deepest + 1):
        column = [node for node in depths if depths[node] == depth]
        for row, node in enumerate(column):
            places[node] = (2 * (deepest - depth), (len(column) - 1) / 2 - row)
    end = (2 * deepest, 0.0)
    figure, axes = blank(9.6, 3)
    for node, (x, y) in places.items():
        parameter = getattr(node, "variable", None)
        is_parameter = parameter is not None
        text = names[id(parameter)] if is_parameter else KINDS.get(node.name(), node.name().removesuffix("Backward0"))
        style = {**BOX, "edgecolor": BLUE if is_parameter else "0.3", "lw": 2 if is_parameter else 1.2}
        axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=style, zorder=3)
    axes.text(
        *end, f"loss\n{loss.item():.2f}", ha="center", va="center", fontsize=10, zorder=3,
        bbox={**BOX, "edgecolor": ORANGE, "lw": 2},
    )  # fmt: skip
    arrow = {"arrowstyle": "-|>", "color": "0.4", "shrinkA": 38, "shrinkB": 38}
    for before, after in [*((places[a], places[b]) for a, b in edges), (places[loss.grad_fn], end)]:
        axes.annotate("", after, before, arrowprops=arrow)
    low = min(y for _, y in places.values()) - 0.75
    back = {"arrowstyle": "-|>", "color": ORANGE, "lw": 2, "linestyle": "--"}
    axes.annotate("", (0, low), (end[0], low), arrowprops=back)
    axes.text(end[0] / 2, low - 0.32, "backward(): the gradients", ha="center", color=ORANGE, fontsize=10)
    high = max(y for _, y in places.values()) + 0.75
    axes.annotate("", (end[0], high), (0, high), arrowprops={"arrowstyle": "-|>", "color": "0.4", "lw": 2})
    axes.text(end[0] / 2, high + 0.12, "the computation", ha="center", color="0.3", fontsize=10)
    axes.set(xlim=(-0.9, end[0] + 0.7), ylim=(low - 0.45, high + 0.4))
    return as_image(figure)


def draw_losses(
    curves: Mapping[str, Sequence[float]], title: str, xlabel: str, guess: float | None = None
) -> Image.Image:
    """Draw the course of losses; what is far above the first value is cut off.

    Args:
        guess: Loss of a guess, as a dotted line.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel="loss")
    for (name, losses), (color, line) in zip(curves.items(), STYLES, strict=False):
        axes.plot(losses, line, color=color, label=name)
    if guess is not None:
        axes.axhline(guess, color="0.4", linestyle=":", label=f"a guess: {guess}")
    axes.set_ylim(0, min(axes.get_ylim()[1], 2.5 * max(losses[0] for losses in curves.values())))
    tidy(axes)
    axes.legend(frameon=False)
    return as_image(figure)


def draw_accuracies(curves: Mapping[str, Sequence[float]], title: str, xlabel: str) -> Image.Image:
    """Draw the course of accuracies, of one value per epoch."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel="accuracy")
    for (name, values), (color, line) in zip(curves.items(), STYLES, strict=False):
        axes.plot(range(1, len(values) + 1), values, line, color=color, label=name)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    tidy(axes)
    axes.legend(frameon=False, loc="lower right")
    return as_image(figure)


def draw_pairs(results: Mapping[str, Sequence[float]]) -> Image.Image:
    """Draw the results of two settings with the same seeds, a line for each seed, and their means."""
    (first, before), (second, after) = results.items()
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot(title="The same seeds, two settings", ylabel="validation accuracy")
    for pair in zip(before, after, strict=True):
        is_better = pair[1] > pair[0]
        axes.plot((0, 1), pair, "-" if is_better else "--", color=BLUE if is_better else ORANGE, marker="o", alpha=0.7)
    for place, values in enumerate((before, after)):
        side = 0.12 if place else -0.12
        axes.plot(place + side, np.mean(values), "s", color="black", markersize=8)
        axes.errorbar(place + side, np.mean(values), np.std(values, ddof=1), color="black", capsize=5)
    axes.plot([], [], "-", color=BLUE, label="better")
    axes.plot([], [], "--", color=ORANGE, label="not better")
    axes.plot([], [], "s", color="black", label="mean ± standard deviation")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlim=(-0.5, 1.5))
    tidy(axes)
    axes.set_xticks((0, 1), (first, second))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return as_image(figure)


def draw_mistakes(correct: Record, broken: Mapping[str, Record]) -> Image.Image:
    """Draw the symptom of each mistake next to a correct training."""
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    for place, (name, record) in enumerate(broken.items(), 1):
        is_loss = record.losses != correct.losses
        axes = figure.add_subplot(2, 3, place, xlabel="epoch", ylabel="loss" if is_loss else "test accuracy")
        axes.set_title(f"{place}. {name}", fontsize=10)
        epochs = range(1, len(correct.losses) + 1)
        axes.plot(epochs, correct.losses if is_loss else correct.accuracies, "-", color="0.6", lw=3, label="correct")
        values = record.losses if is_loss else record.accuracies
        axes.plot(epochs, values, "--", color=ORANGE, marker="o", markersize=4, label="with the mistake")
        if is_loss:
            axes.set_ylim(0, 4)
        else:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        cut = [epoch for epoch, value in zip(epochs, values, strict=True) if is_loss and not value <= 4]
        for epoch in cut:
            axes.annotate("", (epoch, 4), (epoch, 3.4), arrowprops={"arrowstyle": "-|>", "color": ORANGE})
        if cut:
            highest = f"up to {max(values):,.0f}" if max(values) < 1000 else "more than 1,000"
            axes.text(float(np.mean(cut)), 3.1, highest, color=ORANGE, ha="center", fontsize=9)
        tidy(axes)
        if place == 1:
            axes.legend(frameon=False, fontsize=8, loc="lower left")
    return as_image(figure)


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches, and axes without ticks and frame that fill it."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def tidy(axes: Axes) -> None:
    """Remove what nobody reads."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
