"""Pictures of one's own through a trained network, a batch at a time."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image, ImageOps
from pydantic import PositiveInt

from pytorch_intro.check import check_value
from pytorch_intro.datamodule import Workers
from pytorch_intro.decoder import Decoder, border_brightness, pil_to_chw
from pytorch_intro.decoding import ALL_CORES, parallel_map
from pytorch_intro.errors import UserError
from pytorch_intro.image_files import UnlabeledImages
from pytorch_intro.loading import Predictor
from pytorch_intro.memory import disable_malloc_trim

Invert = bool | Literal["auto"]

DARK, LIGHT = 0.2, 0.8  # borders of training images, from 0 to 1, between which they say nothing


def check_settings(config: DictConfig) -> None:
    """Compare the settings of src/predict.py with what they may be.

    Raises:
        UserError: for the first that is wrong.
    """
    hints = {
        "images": str | None,
        "top_k": PositiveInt,
        "invert": Invert,
        "batch_size": PositiveInt,
        "num_workers": Workers | None,
        "trainer.accelerator": str,
        "allow": list[str],
    }
    for key, hint in hints.items():
        check_value(key, OmegaConf.select(config, key), hint)


@dataclass
class Prediction:
    """What the network makes of one picture.

    Attributes:
        path: The file.
        probabilities: Of all classes, (num_classes,) float32; None if the file could not be read.
        inverted: Whether the network was shown its negative.
        error: Why it could not be read, or "".
    """

    path: str
    probabilities: torch.Tensor | None
    inverted: bool = False
    error: str = ""


@dataclass
class Look:
    """What the network is shown of a picture: decoded as in training, as a negative if that is what it has learnt on.

    Args:
        decoder: Of the run.
        invert: Whether to show negatives; auto: where gray training images had dark borders and the picture has a light
            one, or the reverse; never where borders are added to pictures.
        trained_border: How bright the training images' borders were, from 0 to 1.

    Raises:
        UserError: if the network takes images that are no pictures.
    """

    decoder: Decoder
    invert: Invert
    trained_border: float

    def __post_init__(self) -> None:
        if self.decoder.channels not in (1, 3):
            raise UserError(f"run: its network takes images of {self.decoder.channels} channels, which no picture has")

    def __call__(self, image: Image.Image) -> tuple[np.ndarray, bool]:
        """A picture to (C, H, W) uint8, and whether that is its negative."""
        picture = self.decoder.load_oriented(image)
        pixels = pil_to_chw(self.decoder.resized(picture))
        if not self.is_inverted(pixels):
            return pixels, False
        return pil_to_chw(self.decoder.resized(ImageOps.invert(picture))), True

    def is_inverted(self, pixels: np.ndarray) -> bool:
        if isinstance(self.invert, bool):
            return self.invert
        if self.decoder.channels != 1 or self.decoder.resize == "pad" or DARK < self.trained_border < LIGHT:
            return False
        return (self.trained_border >= LIGHT) != (border_brightness(pixels) > 0.5)


def predictions(
    predictor: Predictor, paths: list[str], look: Look, batch_size: int, num_workers: int | None
) -> Iterator[list[Prediction]]:
    """What the network makes of these files, in their order, up to batch_size at a time; with a bar on a terminal.

    Args:
        num_workers: Processes that decode; None: one a core.
    """
    if next(predictor.parameters()).device.type == "cpu":
        disable_malloc_trim()
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # twice as large is refused by Pillow
    workers = ALL_CORES if num_workers is None else num_workers
    rows = iter(paths)
    for results in batched(
        parallel_map(UnlabeledImages(paths), look, range(len(paths)), workers, "predicting"), batch_size
    ):
        shown = [result.value for result in results if not result.error]
        probabilities = iter(probabilities_of(predictor, [pixels for pixels, _ in shown]))
        yield [
            Prediction(path, None, error=result.error)
            if result.error
            else Prediction(path, next(probabilities), inverted=result.value[1])
            for result, path in zip(results, rows, strict=False)
        ]


def batched(chunks: Iterator[list], size: int) -> Iterator[list]:
    """The same elements in lists of this size; the last may be shorter."""
    left: list = []
    for chunk in chunks:
        left += chunk
        while len(left) >= size:
            yield left[:size]
            left = left[size:]
    if left:
        yield left


@torch.inference_mode()
def probabilities_of(predictor: Predictor, images: list[np.ndarray]) -> torch.Tensor:
    """Images (C, H, W) uint8 to (N, num_classes) float32, on the host."""
    if not images:
        return torch.empty(0)
    device = next(predictor.parameters()).device
    return predictor(torch.from_numpy(np.stack(images)).to(device)).cpu()
