"""A trained network in files that need nothing of this project, and whether they agree with it."""

import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytorch_intro.errors import UserError
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.loading import Predictor
from pytorch_intro.run_folder import remove

log = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX, PT2, LABELS = "model.onnx", "model.pt2", "labels.json"
OPSET = 23  # the newest that ONNX Runtime takes from 1.23 onwards
TOLERANCE = 1e-4  # of probabilities
BATCHES = (1, 7, 256)  # sizes that are compared in turn
ROUNDS = 5  # of measuring speed

Function = Callable[[Tensor], Tensor]


@contextmanager
def write_together(folder: Path) -> Iterator[Path]:
    """A folder beside this one that takes its place at the end, or is removed if anything fails."""
    temporary, earlier = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("tmp", "earlier"))
    remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        remove(earlier)
        if folder.exists():
            folder.rename(earlier)
        temporary.rename(folder)
        remove(earlier)
    finally:
        remove(temporary)


def save(predictor: Predictor, folder: Path) -> None:
    """Write model.pt2 and model.onnx.

    Raises:
        UserError: if the network cannot be exported.
    """
    decoder = predictor.decoder
    images = torch.zeros(2, decoder.channels, *decoder.size, dtype=torch.uint8)  # of one, it would make a constant
    shapes = {"images": {0: torch.export.Dim("N", min=1)}}
    network = type(predictor.network.network).__name__
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")  # of torch about its own parts
            program = torch.export.export(predictor, (images,), dynamic_shapes=shapes)
            torch.export.save(program, folder / PT2)
            onnx = torch.onnx.export(
                program,
                input_names=["images"],
                output_names=["probabilities"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert onnx is not None
            onnx.save(folder / ONNX)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        cause: BaseException = error
        while cause.__cause__:  # the exporter's own message tells of its steps
            cause = cause.__cause__
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise UserError(
            f"model: {network} cannot be exported ({reason}); choose a network without branches, or a newer torch"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter logs of its steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def compare(predictor: Predictor, images: Tensor, kind: str, folder: Path) -> None:
    """Compare what was written with PyTorch, on images in batches of several sizes, and tell how fast they are.

    Args:
        images: (N, C, H, W) uint8.
        kind: What they are called.

    Raises:
        UserError: if a probability differs by more than 1e-4, or a label.
    """
    functions: dict[str, Function] = {
        "PyTorch": predictor,
        ONNX: onnx_function(folder / ONNX),
        PT2: torch.export.load(folder / PT2).module(),
    }
    made = {name: in_batches(function, images) for name, function in functions.items()}
    expected = made.pop("PyTorch")
    for name, probabilities in made.items():
        difference = (probabilities - expected).abs().max().item()
        labels = (probabilities.argmax(dim=1) != expected.argmax(dim=1)).sum().item()
        if not difference <= TOLERANCE or labels:
            raise UserError(
                f"{name}: it disagrees with PyTorch on {len(images):,} {kind}: probabilities by up to "
                f"{difference:.1e}, {labels} labels; nothing was written"
            )
        what = f"{len(images):,} {kind}: probabilities to {difference:.1e}, all labels"
        print(f"{name:<11} agrees with PyTorch on {what}")
    speeds = images_per_second(functions, images[: max(BATCHES)])
    print("images/s on the CPU: " + ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items()))


def onnx_function(file: Path) -> Function:
    """What ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


@torch.inference_mode()
def in_batches(function: Function, images: Tensor) -> Tensor:
    """The function's results on all images, (N, num_classes), by batches of 1, 7, 256, 256, …"""
    sizes = list(BATCHES)
    results = []
    while len(images):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        results.append(function(images[:size]))
        images = images[size:]
    return torch.cat(results)


@torch.inference_mode()
def images_per_second(functions: dict[str, Function], images: Tensor) -> dict[str, float]:
    """How many images each gets through in a second, the median of some rounds in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter()
            function(images)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(images) / statistics.median(measured) for name, measured in seconds.items()}


def describe(run: FinishedRun, folder: Path) -> None:
    """Write labels.json: the classes' names, what goes in and comes out, and the run's result."""
    inputs = run.inputs
    channels, height, width = inputs["image_shape"]
    content: dict[str, Any] = {
        "classes": inputs["classes"],
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["N", channels, height, width],
            "channels": {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels"),
            "range": [0, 255],
            "resize": inputs["resize"],
            "border": inputs["border"],
        },
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["N", len(inputs["classes"])]},
        "opset": OPSET,
        "result": run.result,
    }
    (folder / LABELS).write_text(json.dumps(content, indent=2) + "\n")
