"""Whatever kind of data set there is, as images of one shape: from its arrays, a cache, or asked anew each time."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.datasets import DatasetFolder, VisionDataset

from pytorch_intro.dataset import ImageDataset, Images, LiveDataset
from pytorch_intro.decoder import Decoder, Resize
from pytorch_intro.decoding import ALL_CORES, seen, suitable_decoder
from pytorch_intro.errors import UserError
from pytorch_intro.file_search import fingerprint, is_searched
from pytorch_intro.hardware import memory
from pytorch_intro.image_cache import ImageCache
from pytorch_intro.image_files import ImageFiles
from pytorch_intro.inspection import (
    class_names,
    files_of,
    heads,
    length_of,
    name_of,
    ready_arrays,
    spread,
    varies,
    without_addresses,
)
from pytorch_intro.paths import PROJECT
from pytorch_intro.relabel import relabel

log = logging.getLogger(__name__)

DECODING = 1  # to be raised when decoder.py makes other pixels of the same files


@dataclass
class Reader:
    """Reads data sets of single images into Images of one shape.

    Args:
        image_size: A side of a square or (H, W), in pixels; None: the images' own size where all have the same.
        resize: What becomes of another aspect ratio.
        cache_dir: Where decoded images are kept; None: .cache in the data set's root, or in the project's for an
            ImageFolder of torchvision.
        in_memory: Hold the decoded images in memory; None: if they take less than an eighth of it.
        skip_broken: Leave out what cannot be decoded.
        num_workers: Processes that ask a data set of one's own for its images.
        target_transform: From each class's name to the name of the class that takes its place.
        channels: Of the images; None: what the first data set has. All others get the shape of the first.
    """

    image_size: int | list[int] | None
    resize: Resize
    cache_dir: str | None
    in_memory: bool | None
    skip_broken: bool
    num_workers: int
    target_transform: Mapping[str, str | int] | None = None
    channels: int | None = None

    def read(self, dataset: Any, made_by: str = "") -> tuple[Images, Tensor]:
        """The images, and the numbers (N,) of those that are not broken.

        Args:
            made_by: The class and all arguments of a data set of torchvision's kind, which tell its images apart.

        Raises:
            UserError: if the data set does not give images and labels, or they cannot be kept.
        """
        if not length_of(dataset):
            raise UserError(f"data: {type(dataset).__name__} has no images")
        images, rows = self.read_any(dataset, made_by)
        self.channels, *self.image_size = images.image_shape
        if self.target_transform:
            relabel(images, self.target_transform)
        return images, rows

    def read_any(self, dataset: Any, made_by: str) -> tuple[Images, Tensor]:
        if (ready := ready_arrays(dataset)) and self.takes(ready):
            return ready, torch.arange(len(ready))
        if isinstance(dataset, ImageFiles) or self.is_of_files(dataset):
            return self.read_files(dataset, made_by)
        return self.read_samples(dataset)

    def is_of_files(self, dataset: Any) -> bool:
        """Whether this is one of torchvision's that reads files, and gives the same image for a file each time."""
        if not isinstance(dataset, VisionDataset) or dataset.root is None:
            return False
        return not dataset.transforms or not varies(dataset, self.decoder(dataset))

    def takes(self, ready: Images) -> bool:
        """Whether these arrays have the size and channels that are wanted."""
        size = self.image_size if isinstance(self.image_size, list) else [self.image_size] * 2
        has_channels = not self.channels or ready.image_shape[0] == self.channels
        return has_channels and (not self.image_size or list(ready.image_shape[1:]) == size)

    def read_files(self, dataset: Any, made_by: str) -> tuple[Images, Tensor]:
        """Images that lie in files, decoded now or before."""
        cache = ImageCache(
            self.cache_folder(dataset), self.cache_subject(dataset, made_by), self.cache_content(dataset)
        )
        cache.build(dataset, lambda: self.decoder(dataset), ALL_CORES, self.refusal(dataset))
        broken = cache.broken()
        self.tell(dataset, broken)
        targets = torch.tensor(dataset.targets) if isinstance(dataset, ImageFiles) else cache.labels()
        classes = class_names(dataset, targets)
        images = cache.open(targets, classes, in_memory=self.fits(cache.size()))
        return images, all_but(broken, len(images))

    def cache_folder(self, dataset: Any) -> Path:
        if self.cache_dir:
            if isinstance(dataset, ImageFiles) and is_searched(Path(self.cache_dir), Path(dataset.root)):
                raise UserError(
                    f"data.cache_dir={self.cache_dir} lies among the images in data.root={dataset.root}, for one of "
                    "which it would be taken; give another folder"
                )
            return Path(self.cache_dir)
        # To torchvision's ImageFolder, any folder in its root is a class.
        return (PROJECT / "data" if isinstance(dataset, DatasetFolder) else Path(dataset.root)) / ".cache"

    def cache_subject(self, dataset: Any, made_by: str) -> str:
        """What is decoded, and into what."""
        which = dataset.origin if isinstance(dataset, ImageFiles) else without_addresses(f"{made_by} {dataset!r}")
        return f"{DECODING} {which} {self.channels} {self.image_size} {self.resize}"

    def cache_content(self, dataset: Any) -> str:
        """What changes with the files that are decoded."""
        if isinstance(dataset, ImageFiles):
            return dataset.fingerprint()
        return f"{torchvision.__version__} {fingerprint(Path(dataset.root).resolve(), files_of(dataset))}"

    def read_samples(self, dataset: Any) -> tuple[Images, Tensor]:
        """Images of a data set that knows of no files: asked for once, or every time if they vary or do not fit."""
        decoder = self.decoder(dataset)
        why_live = self.why_live(dataset, decoder)
        shape = (0 if why_live else len(dataset), decoder.channels, *decoder.size)
        images = torch.empty(shape, dtype=torch.uint8)
        targets = torch.zeros(len(dataset), dtype=torch.int64)
        broken = {}
        title = f"reading {type(dataset).__name__}"
        results = seen(dataset, nothing if why_live else decoder, range(len(dataset)), self.num_workers, title)
        for row, result in enumerate(result for some in results for result in some):
            targets[row] = result.label
            if result.error:
                self.refusal(dataset)(row, result.error, result.by_system)
                broken[row] = result.error
            elif not why_live:
                images[row] = torch.from_numpy(result.value)
        self.tell(dataset, broken)
        classes = class_names(dataset, targets)
        if why_live:
            log.info("data: %s is asked for every image in every epoch: %s", type(dataset).__name__, why_live)
            return LiveDataset(dataset, decoder, targets, classes), all_but(broken, len(dataset))
        return ImageDataset(images, targets, classes), all_but(broken, len(dataset))

    def decoder(self, dataset: Any) -> Decoder:
        if self.channels and isinstance(self.image_size, list):
            return Decoder((self.image_size[0], self.image_size[1]), self.channels, self.resize)
        decoder = suitable_decoder(heads(dataset), self.image_size, self.resize)
        if not isinstance(dataset, ImageFiles) and len(dataset) > len(rows := spread(len(dataset))):
            size = f"{decoder.size[0]} x {decoder.size[1]}"
            log.info(f"data: {decoder.channels} channel(s) of {size} pixels, by {len(rows)} of {len(dataset):,} images")
        return decoder

    def why_live(self, dataset: Any, decoder: Decoder) -> str:
        """Why a data set's images cannot be held in memory; "" if they can."""
        if not self.fits(len(dataset) * decoder.channels * decoder.size[0] * decoder.size[1]):
            return "they would not fit in memory" if self.in_memory is None else "data.in_memory=false"
        return "they are not the same each time" if varies(dataset, decoder) else ""

    def fits(self, size: int) -> bool:
        """Whether this many bytes may be held in memory."""
        if self.in_memory is not None:
            return self.in_memory
        return size < memory() / 8  # a copy in each of 8 processes

    def refusal(self, dataset: Any) -> Callable[[int, str, bool], None]:
        """What is to be done about a broken image, by its number, what is wrong, and whether with the system."""

        def refuse(row: int, error: str, by_system: bool = False) -> None:
            if by_system:
                raise UserError(f"{name_of(dataset, row)} cannot be read ({error}); mend that, and start again")
            if not self.skip_broken:
                raise UserError(
                    f"{name_of(dataset, row)} cannot be read ({error}); mend or remove it, or leave out all that are "
                    "broken by data.skip_broken=true"
                )

        return refuse

    def tell(self, dataset: Any, broken: dict[int, str]) -> None:
        """List the broken images that are left out, or refuse the first."""
        for row, error in broken.items():
            self.refusal(dataset)(row, error, False)
            log.info("data: left out %s (%s)", name_of(dataset, row), error)


def all_but(rows: dict[int, str], total: int) -> Tensor:
    """The numbers 0 to total - 1, (N,) int64, without these."""
    keep = torch.ones(total, dtype=torch.bool)
    keep[list(rows)] = False
    return keep.nonzero().flatten()


def nothing(image: Any) -> None:
    """Where only the labels are wanted."""
