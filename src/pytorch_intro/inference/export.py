"""Compare exported models with PyTorch, and describe them in labels.json."""

import itertools
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.text import text_table
from pytorch_intro.inference.eval_data import ImagesToCompare
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.formats import FORMATS, OPSET, Function
from pytorch_intro.inference.load import Predictor

PYTORCH, LABELS = "PyTorch", "labels.json"
FILES = {LABELS, *(file for kind in FORMATS.values() for file in kind.files)}  # of an export
TOLERANCE = 1e-4  # largest difference between probabilities
BATCH_SIZES = (1, 7, 256)  # sizes that are compared in turn
LARGE_IMAGE = 96 * 96  # pixels from which a batch of 256 takes too much memory and time
LARGE_IMAGE_BATCH = 16  # instead of 256
ROUNDS = 5  # maximum number of repetitions of the speed measurement
MAX_SECONDS = 10  # after which no further round starts


@dataclass
class Comparison:
    """How a format compares with PyTorch on the same images.

    Attributes:
        accuracy: Share of correct labels; None without labels.
        agreement: Share of images with PyTorch's label.
        difference: Largest difference between probabilities.
        size_mb: Size of the files in megabytes; None for PyTorch.
        images_per_second: Throughput on the CPU, measured side by side with the others.
    """

    accuracy: float | None
    agreement: float
    difference: float
    size_mb: float | None
    images_per_second: float

    def cells(self) -> list[str]:
        """Return the row of the printed table."""
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.2%}"
        size = "" if self.size_mb is None else f"{self.size_mb:.2f}"
        return [accuracy, f"{self.agreement:.2%}", f"{self.difference:.1e}", size, f"{self.images_per_second:,.0f}"]


def compare_with_pytorch(
    predictor: Predictor, formats: Sequence[str], data: ImagesToCompare, folder: Path
) -> dict[str, Comparison]:
    """Compare the exported models with PyTorch in batches of several sizes, and print a table.

    Args:
        folder: Folder of the exported models.

    Returns:
        Comparison of "PyTorch" and each format.

    Raises:
        UserError: If an exact format has another label than PyTorch, or a probability that differs by more than
            TOLERANCE.
    """
    images, targets, kind, _ = data
    functions: dict[str, Function] = {PYTORCH: predictor}
    for name in formats:
        functions[name] = FORMATS[name].load(folder / FORMATS[name].files[0], predictor)
    outputs = {name: run_in_batches(function, images, f"comparing {name}") for name, function in functions.items()}
    expected = outputs[PYTORCH]
    differences = {name: (probabilities - expected).abs().max().item() for name, probabilities in outputs.items()}
    for name in [name for name in formats if FORMATS[name].is_exact]:
        difference, file = differences[name], FORMATS[name].files[0]
        labels = (outputs[name].argmax(dim=1) != expected.argmax(dim=1)).sum().item()
        if not difference <= TOLERANCE or labels:
            raise UserError(
                f"{file}: disagrees with PyTorch on {len(images):,} {kind} (probabilities differ by up to "
                f"{difference:.1e}, {labels} labels differ), nothing was written; use another model, or a newer torch"
            )
        agreement = f"probabilities to {difference:.1e}, all labels"
        print(f"{file:<11} agrees with PyTorch on {len(images):,} {kind} ({agreement})")
    speeds = measure_images_per_second(functions, images[: batch_sizes(images)[-1]])
    table = {
        name: Comparison(
            None if targets is None else share_equal(probabilities.argmax(dim=1), targets),
            share_equal(probabilities.argmax(dim=1), expected.argmax(dim=1)),
            differences[name],
            None if name == PYTORCH else sum((folder / file).stat().st_size for file in FORMATS[name].files) / 1e6,
            speeds[name],
        )
        for name, probabilities in outputs.items()
    }
    header = [f"{len(images):,} {kind}", "accuracy", "same label", "max. difference", "MB", "images/s on the CPU"]
    print(text_table([header, *([name, *row.cells()] for name, row in table.items())]))
    return table


def share_equal(labels: Tensor, others: Tensor) -> float:
    return (labels == others).sum().item() / len(labels)


def refused_formats(table: Mapping[str, Comparison], max_accuracy_drop: float) -> dict[str, str]:
    """Return the formats that lose too much accuracy, with the reason and the remedy."""
    refused = {}
    for name, row in table.items():
        before = table[PYTORCH].accuracy
        if row.accuracy is None or before is None or before - row.accuracy <= max_accuracy_drop + 1e-9:
            continue
        drop = before - row.accuracy
        refused[name] = (
            f"formats={name}: the accuracy drops from {before:.2%} to {row.accuracy:.2%}, more than "
            f"max_accuracy_drop={max_accuracy_drop:g}, so it was not written; leave it out, or set "
            f"max_accuracy_drop={math.ceil(drop * 1e3) / 1e3:g}"
        )
    return refused


def batch_sizes(images: Tensor) -> tuple[int, ...]:
    """Return the batch sizes to compare: BATCH_SIZES, with a smaller last one for large images."""
    is_large = images.shape[-2] * images.shape[-1] >= LARGE_IMAGE
    return (*BATCH_SIZES[:-1], LARGE_IMAGE_BATCH) if is_large else BATCH_SIZES


@torch.inference_mode()
def run_in_batches(function: Function, images: Tensor, title: str) -> Tensor:
    """Return the function's outputs for all images, (N, num_classes), from batches of 1, 7, 256, 256, …

    Args:
        title: Title of the progress bar, which only terminals show.
    """
    *first_sizes, size = batch_sizes(images)
    *first, rest = images.tensor_split(list(itertools.accumulate(first_sizes)))
    batches = [batch for batch in (*first, *rest.split(size)) if len(batch)]
    return torch.cat([function(batch) for batch in tqdm(batches, title, disable=None, leave=False)])


@torch.inference_mode()
def measure_images_per_second(functions: dict[str, Function], images: Tensor) -> dict[str, float]:
    """Return the throughput of each function: the median of rounds that alternate between the functions."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    started = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - started > MAX_SECONDS:
            break
        for name, function in functions.items():
            start = time.perf_counter()
            function(images)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(images) / statistics.median(times) for name, times in seconds.items()}


def describe(run: FinishedRun, network: nn.Module) -> dict[str, Any]:
    """Return what a program needs to use a model: class names, input and output, network, and the run's result."""
    inputs, channels = run.inputs, run.inputs["image_shape"][0]
    return {
        "classes": to_display_names(inputs["classes"]),
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["N", channels, *inputs["decoded_size"]],
            "channels": {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels"),
            "range": [0, 255],
            "resize": inputs["resize"],
            "interpolation": inputs["interpolation"],
            "center_crop": inputs["image_shape"][1:],  # inside the models, from crop_pct of height and width
            "crop_pct": inputs["crop_pct"],
            "mean": inputs["mean"],  # inside the models, like std: of pixels from 0 to 1
            "std": inputs["std"],
            "bit_depth": inputs["bit_depth"],
            "border": inputs["border"],
            "steps": preprocessing_steps(inputs),
        },
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["N", len(inputs["classes"])]},
        "temperature": run.temperature,  # inside the models: the logits are divided by it before the softmax
        "network": {
            "config": OmegaConf.to_container(run.config.model, resolve=True),
            **getattr(network, "library_call", {}),
        },
        "opset": OPSET,
        "result": run.result,
    }


def save_labels(description: Mapping[str, Any], folder: Path, table: Mapping[str, Comparison]) -> None:
    """Save labels.json: the description of the models, and how each format compares with PyTorch."""
    formats: dict[str, Any] = {name: asdict(row) for name, row in table.items()}
    for name in formats.keys() & FORMATS.keys():
        formats[name]["files"] = FORMATS[name].files
    (folder / LABELS).write_text(json.dumps({**description, "formats": formats}, indent=2) + "\n")


# As in decoder.border_color.
EDGES = (
    "pixels = numpy.asarray(image).reshape(image.height, image.width, -1)",
    "edges = numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])",
)


def preprocessing_steps(inputs: dict[str, Any]) -> list[str]:
    """Return the preprocessing of predict.py, up to the input of the exported models, as lines of Python."""
    channels, (height, width) = inputs["image_shape"][0], inputs["decoded_size"]
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        return []  # a picture has no other number of channels
    size, draft, bits = (width, height), (2 * max(height, width),) * 2, inputs["bit_depth"]
    resampling = f"Image.Resampling.{inputs['interpolation'].upper()}"
    border = "tuple(numpy.median(edges, axis=0).astype(int).tolist())"
    resize = {
        "crop": f"ImageOps.fit(image, {size}, {resampling})",
        "pad": f"ImageOps.pad(image, {size}, {resampling})",
        "pad_border": f"ImageOps.pad(image, {size}, {resampling}, {border})",
        "stretch": f"image.resize({size}, {resampling})",
    }
    sixteen = f"Image.fromarray((numpy.asarray(image).clip(0, {2**bits - 1}) >> {bits - 8}).astype('uint8'))"
    on_white = "Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))"
    return [
        f"image.draft('{mode}', {draft})",  # decodes a JPEG file at a fraction of its size
        "image = ImageOps.exif_transpose(image)",
        f"if image.mode.startswith('I'): image = {sixteen}",
        f"if image.has_transparency_data: image = {on_white}",
        f"image = image.convert('{mode}')",
        *(EDGES if inputs["resize"] == "pad_border" else ()),
        f"image = {resize[inputs['resize']]}",
        f"images = numpy.asarray(image).reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2)",
    ]
