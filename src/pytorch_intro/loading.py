"""A trained network for use in one's own code: load_run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from pytorch_intro.classifier import Classifier
from pytorch_intro.decoder import Decoder
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.normalize import Normalize


class Transforms:
    """From one image of any kind to what the network takes.

    Args:
        inputs: What a checkpoint tells of the images; see DataModule.inputs.

    Attributes:
        decoder: To uint8 (C, H, W).
        normalize: Whole batches of those, (N, C, H, W), to float32.
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        channels, height, width = inputs["image_shape"]
        self.decoder = Decoder((height, width), channels, inputs["resize"])
        self.normalize = Normalize(inputs["mean"], inputs["std"])

    def __call__(self, image: Any) -> Tensor:
        """A PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W), to (C, H, W) float32, normalised.

        Raises:
            ValueError, OSError: as Decoder.
        """
        if isinstance(image, Image.Image):
            image = image.copy()  # decoding may change one that is still to be read
        return self.normalize(torch.from_numpy(self.decoder(image))[None])[0]


class LoadedRun(NamedTuple):
    """What a run has learnt.

    Attributes:
        network: Normalised images (N, C, H, W) float32 to logits (N, num_classes), in eval mode; where the run was
            tested on several views of each image, the mean over those.
        classes: The classes' names, in the logits' order.
        transforms: Of one image, for the network.
    """

    network: Classifier
    classes: list[str]
    transforms: Transforms


def load_run(path: str | Path, allow: Sequence[str] = ()) -> LoadedRun:
    """The best weights of a finished run, from its folder alone, on the host.

    Args:
        path: The folder.
        allow: Packages of your own that its config may name, besides torch's, Lightning's, this project's and what lies
            in src/; nothing that it names beyond is imported, and the weights are loaded with weights_only=True.

    Raises:
        UserError: if there is no finished run, or it does not fit the code.
    """
    return loaded(FinishedRun(path, allow))


def loaded(run: FinishedRun) -> LoadedRun:
    """The same of a run whose folder has been looked at."""
    return LoadedRun(run.classifier(), run.inputs["classes"], Transforms(run.inputs))


class Predictor(nn.Module):
    """A loaded run as one module: bytes in, probabilities out. This is what is exported.

    Args:
        run: Of load_run.

    Attributes:
        decoder: From one image of any kind to bytes (C, H, W).
    """

    def __init__(self, run: LoadedRun) -> None:
        super().__init__()
        self.decoder = run.transforms.decoder
        self.normalize = run.transforms.normalize
        self.network = run.network
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, num_classes) float32."""
        return self.network(self.normalize(images)).float().softmax(dim=1)
