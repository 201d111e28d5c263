"""A dataset whose images are loaded on the fly, every epoch."""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.augment.crops import RandomResizedCrop, resize_box
from pytorch_intro.data.dataset import Batch, BatchedDataset, Indices, Sample
from pytorch_intro.data.ingest.decoder import Decoder, chw_to_pil, get_shape, to_array
from pytorch_intro.data.ingest.introspect import sample_name
from pytorch_intro.data.ingest.parallel import MapDataset
from pytorch_intro.data.seeding import seed_all_rngs

CPU = torch.device("cpu")


class SampleError(UserError):
    """A sample could not be loaded during training.

    A DataLoader worker passes it on as the text of its traceback, which ends with the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("SampleError: ")[2].strip())


@dataclass(frozen=True)
class CropDecoder:
    """Decodes a random box of each image, sampled in the original image, instead of the whole one.

    Args:
        decoder: Decoder of the dataset.
        crop: Distribution of the boxes, and the size of the result.
    """

    decoder: Decoder
    crop: RandomResizedCrop

    def __call__(self, image: Any) -> np.ndarray:
        """Convert an image, of any kind that Decoder takes, to (C, H, W) uint8."""
        if not isinstance(image, Image.Image):
            image = chw_to_pil(to_array(image))
        _, height, width = get_shape(image)
        top, left, rows, columns = self.crop.sample_one(height, width)
        assert self.crop.size
        box = self.decoder.load_box(image, (left, top, left + columns, top + rows), self.crop.size)
        pixels = resize_box(box.reshape(*box.shape[:2], -1), self.crop.size)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class UncachedDataset(BatchedDataset):
    """Loads and decodes each image every time it is indexed.

    Random samples are a function of (seed, epoch, index), whichever worker loads them. With a seed, index + len(self)
    is another random sample of the same image; see RepeatedSubset.

    Args:
        samples: Any dataset of (image, label) pairs.
        decoder: Converter of each image to the common shape.
        targets: (N,) int64 class indices.
        classes: Class names.

    Attributes:
        seed: Seed of random samples; None leaves the RNGs alone.
        epoch: () int64, the current epoch, in memory shared with worker processes.
    """

    storage = "loaded on the fly"
    seed: int | None = None
    epoch: Tensor

    def __init__(self, samples: Any, decoder: Decoder, targets: Tensor, classes: list[str]) -> None:
        self.samples = MapDataset(samples, decoder)
        self.decoder = decoder
        self.targets = targets
        self.classes = classes
        self.image_shape = (decoder.channels, *decoder.size)

    def seeded(self, seed: int, epoch: Tensor, crop: RandomResizedCrop | None = None) -> "UncachedDataset":
        """Return a copy that reseeds all RNGs from (seed, epoch, index) before each sample.

        Args:
            crop: Crop that the copy takes from the original images.
        """
        seeded = copy(self)
        seeded.seed, seeded.epoch = seed, epoch
        if crop and crop.size:
            seeded.samples = MapDataset(self.samples.samples, CropDecoder(self.decoder, crop))
            seeded.image_shape = (self.decoder.channels, *crop.size)
        return seeded

    def __getitem__(self, index: int) -> Sample:
        if self.seed is not None:
            seed_all_rngs(CPU, "image", self.seed, int(self.epoch), index)
            index %= len(self)
        result = self.samples[index]
        if result.error:
            name = sample_name(self.samples.samples, index)
            raise SampleError(
                f"{name}: cannot be read ({result.error}); fix it, then rerun to resume, or start another run with "
                "data.skip_broken=true"
            )
        return torch.from_numpy(result.value), int(self.targets[index])

    def __getitems__(self, indices: Indices) -> Batch:
        rows = torch.as_tensor(indices)
        return torch.stack([self[index][0] for index in rows.tolist()]), self.targets[rows % len(self)]
