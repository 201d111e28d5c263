"""Classify image files with a trained network, in batches."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image, ImageOps
from pydantic import Field, PositiveInt

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.config.paths import display_path
from pytorch_intro.config.validate import check_item
from pytorch_intro.data.ingest.decoder import Decoder, border_brightness, pil_to_chw
from pytorch_intro.data.ingest.image_folder import UnlabeledImages
from pytorch_intro.data.ingest.parallel import ALL_CORES, parallel_map
from pytorch_intro.data.ingest.workers import Workers
from pytorch_intro.inference.load import Predictor
from pytorch_intro.runs.folder import EXPLANATIONS

Invert = bool | Literal["auto"]

DARK, LIGHT = 0.2, 0.8  # border brightness from 0 to 1; training images in between give no reason to invert


def check_settings(config: DictConfig) -> None:
    """Validate the settings of src/predict.py and convert text in place; raise a UserError for an invalid value."""
    hints = {
        "images": str | None,
        "output": str | None,
        "top_k": PositiveInt,
        "min_probability": Annotated[float, Field(gt=0, lt=1)] | None,
        "invert": Invert,
        "explain": bool,
        "batch_size": PositiveInt,
        "num_workers": Workers | None,
        "trainer.accelerator": str,
        "allow": list[str],
    }
    for key, hint in hints.items():
        group, _, name = key.rpartition(".")
        check_item(config[group] if group else config, name, hint, key)

    if config.min_probability is not None and config.threshold is not None:
        raise UserError("min_probability: has no effect with threshold, which decides for one class; leave out one")


def check_output(config: DictConfig) -> Path | None:
    """Return the CSV file to write, None for that of the run; raise a UserError if it would replace another file."""
    if config.output is None:
        return None
    path = Path(config.output)
    if path.suffix.lower() != ".csv":
        raise UserError(f"output={path}: not a CSV file; use a name that ends in .csv")
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"{path.parent} is not a folder"
        raise UserError(f"output={path}: {problem}; use a file in an existing folder")
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if not file.readline().startswith(b"path,label,probability"):
            raise UserError(f"output={path}: exists and has no predictions; use another name, it is not replaced")
    for picture in picture_paths(path)[: 2 if config.explain else 1]:
        check_picture(path, picture)
    return path


def picture_paths(table: Path) -> tuple[Path, Path]:
    """Return the files of the contact sheet and of the heat maps next to a CSV file."""
    prefix = "" if table.stem == "predictions" else f"{table.stem}_"  # not a picture of the user's
    return table.with_name(f"{prefix}predictions.png"), table.with_name(prefix + EXPLANATIONS)


def check_picture(output: Path, picture: Path) -> None:
    """Raise a UserError if a picture next to the CSV file would replace one that predict.py did not write."""
    from pytorch_intro.analysis.plots import is_saved_plot

    if os.path.lexists(picture) and not is_saved_plot(picture):
        raise UserError(
            f"output={output}: {display_path(picture)} exists and is not from predict.py; use another name, it is not "
            "replaced"
        )


@dataclass
class Prediction:
    """Prediction for one file."""

    path: str
    probabilities: torch.Tensor | None  # of each class, float32 (num_classes,); None if the file could not be read
    inverted: bool = False
    error: str = ""  # why the file could not be read
    pixels: np.ndarray | None = None  # uint8 (C, H, W), as decoded


@dataclass
class Preprocessor:
    """Decode an image as in training, and invert it if it is light where the training images are dark.

    Args:
        decoder: Decoder of the run.
        invert: Whether to invert images. "auto" inverts an image if its border is light and the borders of the gray
            training images were dark, or the reverse; never if the decoder pads images.
        trained_border: Brightness of the training images' borders, from 0 to 1.

    Raises:
        UserError: If the network's input has neither one nor three channels.
    """

    decoder: Decoder
    invert: Invert
    trained_border: float

    def __post_init__(self) -> None:
        if self.decoder.channels not in (1, 3):
            raise UserError(f"run: expects {self.decoder.channels} channels; use a run trained on gray or RGB images")

    def __call__(self, image: Image.Image) -> tuple[np.ndarray, bool]:
        """Return the pixels, uint8 (C, H, W), and whether they were inverted."""
        picture = self.decoder.load_oriented(image)
        pixels = pil_to_chw(self.decoder.resize_image(picture))
        if not self.should_invert(pixels):
            return pixels, False
        return pil_to_chw(self.decoder.resize_image(ImageOps.invert(picture))), True

    def should_invert(self, pixels: np.ndarray) -> bool:
        if isinstance(self.invert, bool):
            return self.invert
        if self.decoder.channels != 1 or self.decoder.resize == "pad" or DARK < self.trained_border < LIGHT:
            return False
        return (self.trained_border >= LIGHT) != (border_brightness(pixels) > 0.5)


def predict_files(
    predictor: Predictor, paths: list[str], preprocessor: Preprocessor, batch_size: int, num_workers: int | None
) -> Iterator[list[Prediction]]:
    """Yield the predictions for these files, in order and in batches, with a progress bar on a terminal.

    Args:
        predictor: Trained network, on the device to use.
        num_workers: Number of decoder processes; None uses one per core.
    """
    if next(predictor.parameters()).device.type == "cpu":
        disable_malloc_trim()
    workers = ALL_CORES if num_workers is None else num_workers
    remaining = iter(paths)
    decoded = parallel_map(UnlabeledImages(paths), preprocessor, range(len(paths)), workers, "predicting")
    for results in rebatch(decoded, batch_size):
        probabilities = iter(predict(predictor, [result.value[0] for result in results if not result.error]))
        yield [
            Prediction(path, None, error=result.error)
            if result.error
            else Prediction(path, next(probabilities), inverted=result.value[1], pixels=result.value[0])
            for result, path in zip(results, remaining, strict=False)
        ]


def rebatch(chunks: Iterator[list], size: int) -> Iterator[list]:
    """Yield the elements of all chunks in lists of `size`; the last may be shorter."""
    elements = itertools.chain.from_iterable(chunks)
    while batch := list(itertools.islice(elements, size)):
        yield batch


@torch.inference_mode()
def predict(predictor: Predictor, images: list[np.ndarray]) -> torch.Tensor:
    """Return the probabilities of N images, each uint8 (C, H, W): float32 (N, num_classes), on the CPU."""
    if not images:
        return torch.empty(0)
    device = next(predictor.parameters()).device
    return predictor(torch.from_numpy(np.stack(images)).to(device)).cpu()
