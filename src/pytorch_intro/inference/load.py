"""Load a trained network for use in other code: load_run."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.decoder import Decoder
from pytorch_intro.data.normalize import Normalize
from pytorch_intro.data.resize import CenterCrop
from pytorch_intro.inference.finished_run import WEIGHTS, FinishedRun
from pytorch_intro.runs.config_record import CONFIG
from pytorch_intro.training.tta import TTANetwork

if TYPE_CHECKING:
    from pytorch_intro.training.classifier import Classifier

HUB = "hf://"


class Transforms:
    """Convert an image to the network's input.

    Args:
        inputs: Description of the input images in a checkpoint; see DataModule.setup.

    Attributes:
        decoder: Converts an image to uint8 (C, H, W), in the size in which the training images were stored.
        center_crop: Crops a batch uint8 (N, C, H, W) to the size of the network's input, if that is smaller.
        normalize: Converts a batch uint8 (N, C, H, W) to normalized float32 (N, C, H, W).
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        channels, height, width = inputs["image_shape"]
        decoded_height, decoded_width = inputs["decoded_size"]
        self.decoder = Decoder(
            (decoded_height, decoded_width), channels, inputs["resize"], inputs["bit_depth"], inputs["interpolation"]
        )
        self.center_crop = CenterCrop((height, width), inputs["crop_pct"])
        self.normalize = Normalize(inputs["mean"], inputs["std"])

    def __call__(self, image: Any) -> Tensor:
        """Return the decoded, resized, cropped and normalized image, float32 (C, H, W), on the CPU.

        Args:
            image: PIL image, array (H, W) or (H, W, C), or tensor (C, H, W).

        Raises:
            ValueError, OSError: If the image cannot be decoded; see Decoder.
        """
        if isinstance(image, Image.Image):
            image = image.copy()  # decoding may modify an image that is not loaded yet
        return self.normalize(self.center_crop(torch.from_numpy(self.decoder(image))[None]))[0]


class LoadedRun(NamedTuple):
    """A trained network, with what is needed to use it.

    Attributes:
        network: Module in eval mode that maps normalized images, float32 (N, C, H, W), to logits (N, num_classes). If
            the run was tested with test-time augmentation, the logits are the mean over the views. They are already
            divided by the temperature: their softmax is the probabilities of predict.py.
        classes: Class names, in the order of the logits.
        transforms: Converts one image to the network's input, float32 (C, H, W).
    """

    network: "TTANetwork | Classifier"
    classes: list[str]
    transforms: Transforms

    @property
    def temperature(self) -> float:
        """The temperature by which the network divides its logits; 1 if none was fitted."""
        return self.network.temperature


def load_run(path: str | Path, allow: Sequence[str] = ()) -> LoadedRun:
    """Load the network of a finished run from its folder, with its best weights, in eval mode and on the CPU.

    The checkpoint is loaded with weights_only=True, and the config may only name targets of torch, Lightning, this
    project and src/, so that loading a run from elsewhere executes no foreign code.

    Example:
        ```python
        network, classes, transforms = load_run("outputs/first")
        with torch.inference_mode():
            logits = network(transforms(Image.open("shoe.png"))[None])  # (1, num_classes)
        print(classes[logits.argmax()])
        ```

    Args:
        path: Folder of the run, or hf://USER/NAME or hf://USER/NAME@REVISION for a repository of the Hugging Face hub.
        allow: Additional packages that the run's config may name as targets.

    Raises:
        UserError: If the folder contains no finished run, or its weights do not fit the current code.
    """
    if str(path).startswith(HUB):
        name, _, revision = str(path).removeprefix(HUB).partition("@")
        path = hub_package(str(path)).download(name, revision or None, [CONFIG, "result.json", WEIGHTS])
    return load_from(FinishedRun(path, allow))


def hub_package(source: str) -> Any:
    """Return the module hub/repository.py; raise a UserError if it was deleted."""
    if importlib.util.find_spec("pytorch_intro.hub") is None:
        raise UserError(f"{source}: needs the package pytorch_intro/hub, which was deleted; restore it")
    return importlib.import_module("pytorch_intro.hub.repository")


def load_from(run: FinishedRun) -> LoadedRun:
    """Load the network of a run whose folder has been opened; see load_run."""
    return LoadedRun(run.tta_network(), run.inputs["classes"], Transforms(run.inputs))


class Predictor(nn.Module):
    """A trained network with its preprocessing and softmax in one module, which src/export.py exports.

    Attributes:
        decoder: Converts an image of any kind to uint8 (C, H, W).

    Shape:
        Input uint8 (N, C, H, W), values 0 to 255. Output float32 (N, num_classes), each row sums to 1.
    """

    def __init__(self, run: LoadedRun) -> None:
        super().__init__()
        self.decoder = run.transforms.decoder
        self.center_crop = run.transforms.center_crop
        self.normalize = run.transforms.normalize
        self.network = run.network
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map images, uint8 (N, C, H, W), to probabilities, float32 (N, num_classes)."""
        return self.network(self.normalize(self.center_crop(images))).float().softmax(dim=1)
