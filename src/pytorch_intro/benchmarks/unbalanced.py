"""Unbalanced classes: T-shirts and a few shirts, trained with each loss and sampler."""

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.benchmarks.accuracy import mean_and_deviation
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, check_arguments, run_process
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.data.ingest.fashion_mnist import FashionMNIST, prepare

COMMON, RARE = "T-shirt/top", "Shirt"
Runs = dict[str, list[dict[str, Any]]]


class FewShirts(InMemoryImageDataset):
    """T-shirts and shirts of Fashion-MNIST, the two classes that are confused most.

    Args:
        root: Folder with Fashion-MNIST.
        train: Whether to return the training images, of which 5 % are shirts, or all 1,000 test images of each class.
        share: Share of shirts in the training images.
    """

    def __init__(self, root: str, train: bool = True, download: bool = True, share: float = 0.05) -> None:
        source = FashionMNIST(root, train, download=download)
        common, rare = ((source.targets == source.classes.index(name)).nonzero().flatten() for name in (COMMON, RARE))
        if train:
            rare = rare[: round(len(common) * share / (1 - share))]
        images = source.data[torch.cat([common, rare])].unsqueeze(1)
        super().__init__(
            images, torch.arange(2).repeat_interleave(torch.tensor([len(common), len(rare)])), [COMMON, RARE]
        )


def measure_unbalanced(
    context: BenchmarkContext, seeds: PositiveInt, variants: Mapping[str, Sequence[str]], arguments: Sequence[str] = ()
) -> Figures:
    """Train each variant with several seeds, alternately, and evaluate the weights of the last step; save a plot.

    Args:
        seeds: Number of runs of each, with seed=0, 1, …
        variants: Arguments of `python src/train.py` by name.
        arguments: Further arguments of all variants.

    Returns:
        Recall of both classes and their mean, the balanced accuracy, of each run on the test images.
    """
    check_arguments([*arguments, *variant] for variant in variants.values())
    root = PROJECT / "data"
    prepare(root)  # before the runs, so that all find it
    runs: Runs = {name: [] for name in variants}
    target = f"{FewShirts.__module__}.{FewShirts.__qualname__}"
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in tqdm([(seed, name) for seed in range(seeds) for name in runs], "runs", leave=False):
            run = Path(folder) / f"{[*runs].index(name)}-{seed}"
            data = [f"data.dataset._target_={target}", f"data.root={root}", *arguments, *variants[name]]
            run_process(context.command("train", *data, f"seed={seed}", f"outputs={folder}", f"name={run.name}"))
            run_process(context.command("eval", f"run={run}"))
            classes = json.loads((run / "eval.json").read_text())["classes"]
            recalls = {label: scores["recall"] for label, scores in classes.items()}
            runs[name].append({"recall": recalls, "balanced_accuracy": statistics.mean(recalls.values())})
    print_table(runs)
    picture = context.file.with_suffix(".png")
    plot(runs, picture)
    print(f"plot: {picture}")
    return {"runs": runs}


def print_table(runs: Runs) -> None:
    """Print a table: balanced accuracy and recalls on the test images, mean ± standard deviation over the seeds."""
    rows = []
    for name, done in runs.items():
        columns = [[run["balanced_accuracy"] for run in done]]
        columns += [[run["recall"][label] for run in done] for label in (COMMON, RARE)]
        rows.append((name, *(mean_and_deviation([100 * value for value in column]) for column in columns)))
    header = ("variant", "balanced accuracy", f"recall of {COMMON}", f"recall of {RARE}")
    print(markdown_table(header, rows))


def plot(runs: Runs, file: Path) -> None:
    """Plot the recall of both classes and the balanced accuracy of each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for row, done in enumerate(runs.values()):
        series = {label: [100 * run["recall"][label] for run in done] for label in (COMMON, RARE)}
        series["balanced accuracy"] = [100 * run["balanced_accuracy"] for run in done]
        for (label, values), color, marker in zip(series.items(), ("C0", "C1", "black"), "oo|", strict=True):
            size = 14 if marker == "|" else 5
            text = label if marker == "|" else f"recall of {label}"
            axes.plot(values, [row] * len(values), marker, color=color, markersize=size, label="" if row else text)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set(xlabel="test images, in %", xlim=(None, 100))
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper center", ncols=3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
