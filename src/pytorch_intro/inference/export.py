"""Export a trained network to files that do not need this project, and compare them with PyTorch."""

import itertools
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX, PT2, LABELS = "model.onnx", "model.pt2", "labels.json"
OPSET = 23  # newest opset that ONNX Runtime 1.23 supports
TOLERANCE = 1e-4  # largest difference between probabilities
BATCH_SIZES = (1, 7, 256)  # sizes that are compared in turn
LARGE_IMAGE = 96 * 96  # pixels from which a batch of 256 takes too much memory and time
LARGE_IMAGE_BATCH = 16  # instead of 256
ROUNDS = 5  # maximum number of repetitions of the speed measurement
MAX_SECONDS = 10  # after which no further round starts

Function = Callable[[Tensor], Tensor]


def export_model(predictor: Predictor, folder: Path) -> None:
    """Export the network to model.pt2 and model.onnx; raise a UserError if it cannot be exported."""
    decoder = predictor.decoder
    images = torch.zeros(2, decoder.channels, *decoder.size, dtype=torch.uint8)  # with N=1, N would become a constant
    shapes = {"images": {0: torch.export.Dim("N", min=1)}}
    network = type(predictor.network.network).__name__
    logging_level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch's exporter logs its steps, and warns about its own internals
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(predictor, (images,), dynamic_shapes=shapes)
            torch.export.save(program, folder / PT2)
            onnx = torch.onnx.export(
                program, input_names=["images"], output_names=["probabilities"], opset_version=OPSET, verbose=False
            )
            assert onnx is not None
            onnx.save(folder / ONNX)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        cause: BaseException = error
        while cause.__cause__:  # the exporter's own message only describes its steps
            cause = cause.__cause__
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise UserError(
            f"model: {network} cannot be exported ({reason}); avoid data-dependent control flow, or use a newer torch"
        ) from error
    finally:
        logging.disable(logging_level)


def compare_with_pytorch(predictor: Predictor, images: Tensor, kind: str, folder: Path) -> None:
    """Compare the exported models with PyTorch in batches of several sizes, and print their speed.

    Args:
        images: Images to compare on, uint8 (N, C, H, W).
        kind: Name of these images, for messages.
        folder: Folder of the exported models.

    Raises:
        UserError: If a probability differs by more than TOLERANCE, or a label differs.
    """
    functions: dict[str, Function] = {
        "PyTorch": predictor,
        ONNX: load_onnx(folder / ONNX),
        PT2: torch.export.load(folder / PT2).module(),
    }
    outputs = {name: run_in_batches(function, images, f"comparing {name}") for name, function in functions.items()}
    expected = outputs.pop("PyTorch")
    for name, probabilities in outputs.items():
        difference = (probabilities - expected).abs().max().item()
        labels = (probabilities.argmax(dim=1) != expected.argmax(dim=1)).sum().item()
        if not difference <= TOLERANCE or labels:
            raise UserError(
                f"{name}: disagrees with PyTorch on {len(images):,} {kind} (probabilities differ by up to "
                f"{difference:.1e}, {labels} labels differ), nothing was written; use another model, or a newer torch"
            )
        agreement = f"probabilities to {difference:.1e}, all labels"
        print(f"{name:<11} agrees with PyTorch on {len(images):,} {kind} ({agreement})")
    speeds = measure_images_per_second(functions, images[: batch_sizes(images)[-1]])
    print("images/s on the CPU: " + ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items()))


def load_onnx(file: Path) -> Function:
    """Load a model in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


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


def save_labels(run: FinishedRun, folder: Path) -> None:
    """Save labels.json: class names, input and output of the models, and the run's result."""
    inputs, channels = run.inputs, run.inputs["image_shape"][0]
    content: dict[str, Any] = {
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
            "bit_depth": inputs["bit_depth"],
            "border": inputs["border"],
            "steps": preprocessing_steps(inputs),
        },
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["N", len(inputs["classes"])]},
        "temperature": run.temperature,  # inside the models: the logits are divided by it before the softmax
        "opset": OPSET,
        "result": run.result,
    }
    (folder / LABELS).write_text(json.dumps(content, indent=2) + "\n")


def preprocessing_steps(inputs: dict[str, Any]) -> list[str]:
    """Return the preprocessing of predict.py, up to the input of the exported models, as lines of Python."""
    channels, (height, width) = inputs["image_shape"][0], inputs["decoded_size"]
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        return []  # a picture has no other number of channels
    size, draft, bits = (width, height), (2 * max(height, width),) * 2, inputs["bit_depth"]
    resampling = f"Image.Resampling.{inputs['interpolation'].upper()}"
    resize = {
        "crop": f"ImageOps.fit(image, {size}, {resampling})",
        "pad": f"ImageOps.pad(image, {size}, {resampling})",
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
        f"image = {resize[inputs['resize']]}",
        f"images = numpy.asarray(image).reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2)",
    ]
