"""summary.png: the objective plotted against the swept keys."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pytorch_intro.analysis import plots

if TYPE_CHECKING:
    from pytorch_intro.sweeps.summary import Group, Summary

MAX_CELLS = 400  # in a heat map
MAX_PANELS = 12
MAX_TICKS = 8  # one for each value, on a logarithmic axis
MIN_DISTANCE = 0.12  # between two labels, as a share of a logarithmic axis
MAX_LABELS = 40  # on an axis; more take too long to draw


def plot_summary(summary: "Summary", path: Path) -> None:
    """Plot a curve over one key, a heat map over two keys, or one panel per key, with standard deviations."""
    groups, keys = [group for group in summary.groups if group.mean is not None], summary.axes
    num_cells = math.prod(len({group.values.get(key) for group in groups}) for key in keys)
    if len(keys) == 2 and 0 < num_cells <= min(MAX_CELLS, 2 * len(groups)):  # at least half of the cells are filled
        figure = plot_heat_map(groups, keys, summary.record.objective)
    else:
        figure = plot_panels(groups, keys[:MAX_PANELS], summary.record.objective)
    figure.suptitle(summary.folder.name, parse_math=False)
    plots.save(plots.as_image(figure), path)


def plot_heat_map(groups: Sequence["Group"], keys: Sequence[str], objective: str) -> Figure:
    rows, columns = (sort_values({group.values.get(key, "") for group in groups}) for key in keys)
    means = np.full((len(rows), len(columns)), np.nan)
    for group in groups:
        row, column = (group.values.get(key, "") for key in keys)
        means[rows.index(row), columns.index(column)] = group.mean
    figure = Figure(figsize=(2.5 + 0.9 * len(columns), 2 + 0.6 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(keys[1], parse_math=False)
    axes.set_ylabel(keys[0], parse_math=False)
    image = axes.imshow(means, cmap="cividis", aspect="auto")
    figure.colorbar(image, label=objective)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for y, x in np.argwhere(~np.isnan(means)):
        color = "black" if means[y, x] > middle else "white"
        axes.text(x, y, f"{means[y, x]:.4g}", ha="center", va="center", color=color, fontsize=8)
    return figure


def plot_panels(groups: Sequence["Group"], keys: Sequence[str], objective: str) -> Figure:
    """Plot one panel per key, or one panel with a point per run if there are no keys."""
    columns = min(3, max(1, len(keys)))
    rows = max(1, math.ceil(len(keys) / columns))
    figure = Figure(figsize=(max(5.0, 4 * columns), 3.5 * rows), layout="constrained")
    for number in range(max(1, len(keys))):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.grid(alpha=0.3)
        if number % columns == 0:
            axes.set_ylabel(objective)
        if keys:
            axes.set_xlabel(keys[number], parse_math=False)
            plot_key(axes, groups, keys[number], connect=len(keys) == 1)
        else:
            scores = [score for group in groups for score in group.scores]
            axes.set_xlabel("run")
            axes.plot(range(1, len(scores) + 1), scores, "o", color="tab:blue")
    return figure


def plot_key(axes: Axes, groups: Sequence["Group"], key: str, connect: bool) -> None:
    """Plot the mean of each group against its value of a key."""
    names = sort_values({group.values.get(key, "") for group in groups})
    numbers = [number for name in names if (number := to_number(name)) is not None]
    are_numbers = len(numbers) == len(names)
    positions = dict(zip(names, numbers if are_numbers else range(len(names)), strict=True))
    if len(numbers) > 2 and are_numbers and 0 < 10 * numbers[0] <= numbers[-1]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())  # its labels overlap
        if len(numbers) <= MAX_TICKS:
            axes.set_xticks(numbers, labels_apart(names), rotation=20, ha="right", parse_math=False)
    if not are_numbers and len(names) <= MAX_LABELS:
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right", parse_math=False)
    points = sorted((positions[group.values.get(key, "")], group.mean or 0.0, group.std or 0.0) for group in groups)
    x, means, stds = zip(*points, strict=True) if points else ((), (), ())
    style = "o-" if connect and are_numbers else "o"
    axes.errorbar(x, means, stds, fmt=style, color="tab:blue", capsize=3)


def labels_apart(names: Sequence[str]) -> list[str]:
    """Return the labels of sorted numbers on a logarithmic axis: the number, or "" if it is too close to the last."""
    places = [math.log(float(name)) for name in names]
    labels, last = [], -math.inf
    for name, place in zip(names, places, strict=True):
        is_apart = place - last >= MIN_DISTANCE * (places[-1] - places[0])
        labels.append(name if is_apart else "")
        last = place if is_apart else last
    return labels


def sort_values(values: set[str]) -> list[str]:
    """Sort numbers by value, then other values by name."""
    return sorted(values, key=lambda value: (to_number(value) is None, to_number(value) or 0.0, value))


def to_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
