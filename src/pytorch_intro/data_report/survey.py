"""Reads every image of a dataset once, with the splits that a training would use."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset
from torchvision.datasets import VisionDataset
from tqdm import tqdm

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import BatchedDataset, ImageSubset
from pytorch_intro.data.duplicates import handle_duplicates
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.introspect import (
    class_names,
    dataset_length,
    list_samples,
    listed_labels,
    sample_name,
    try_in_memory,
)
from pytorch_intro.data.ingest.parallel import ALL_CORES, parallel_map
from pytorch_intro.data.ingest.reader import DatasetReader
from pytorch_intro.data.ingest.relabel import relabel
from pytorch_intro.data_report.inspection import (
    BROKEN,
    FACTS,
    describe_channels,
    inspect_batch,
    inspect_image,
    load_preview,
    load_thumbnail,
)
from pytorch_intro.data_report.similar import thumbnails

SPLITS = ("training", "validation", "test", "unused")  # unused: broken images, and dropped duplicates
BATCH_BYTES = 2**24  # of the images in memory that are inspected together


class SurveyedDataset(BatchedDataset):
    """A dataset whose images have been inspected, but are not stored.

    Attributes:
        samples: Dataset of (image, label) pairs, or a BatchedDataset.
        facts: (N,) FACTS.
        errors: Why images cannot be read, by row.
        num_workers: Processes that decode.
        split: Split that the dataset consists of, or "" if it has all.
    """

    storage = "loaded on the fly"
    split = ""

    def __init__(
        self, samples: Any, facts: np.ndarray, errors: dict[int, str], classes: Sequence[str], num_workers: int
    ) -> None:
        self.samples = samples
        self.facts = facts
        self.errors = errors
        self.num_workers = num_workers
        self.targets = torch.from_numpy(facts["label"])
        self.classes = list(classes)
        self.image_shape = (0, 0, 0)

    def pixel_hashes(self) -> Tensor:
        return torch.from_numpy(self.facts["pixels"])

    def name_of(self, row: int) -> str:
        """Return the path of an image, relative to the root of its dataset, or split and index."""
        if isinstance(self.samples, ImageFiles):
            return self.samples.paths[row]
        if list_samples(self.samples):
            return sample_name(self.samples, row)
        return f"{self.split or 'image'}[{row}]"

    def load(self, rows: Sequence[int], function: Any, title: str = "") -> Iterator[np.ndarray | None]:
        """Yield a function's result for these rows, in order; None where an image can no longer be read."""
        subset = take_samples(self.samples, rows)
        for results in parallel_map(subset, function, range(len(rows)), self.num_workers, title):
            for result in results:
                yield None if result.error else result.value


def take_samples(samples: Any, rows: Sequence[int]) -> Any:
    """Return these rows of a dataset; of files, as files, which are closed after they have been decoded."""
    if not isinstance(samples, ImageFiles):
        return Subset(samples, list(rows))
    subset = copy(samples)
    subset.paths = [samples.paths[row] for row in rows]
    subset.targets = [samples.targets[row] for row in rows]
    return subset


@dataclass
class InspectingReader(DatasetReader):
    """Inspects each image instead of storing it; see DatasetReader for the arguments."""

    def __post_init__(self) -> None:
        self.kinds: list[str] = []
        self.parts: list[SurveyedDataset] = []

    def read(self, dataset: Any, cache_key: str = "") -> tuple[BatchedDataset, Tensor]:
        if not dataset_length(dataset):
            raise UserError(f"data: {type(dataset).__name__} has no images; check its arguments and files")
        stored = try_in_memory(dataset)
        has_files = isinstance(dataset, (ImageFiles, VisionDataset))  # others may not be meant for worker processes
        workers = ALL_CORES if has_files else self.num_workers
        facts, errors = self.inspect_stored(stored) if stored is not None else self.inspect_samples(dataset, workers)
        is_known = facts["label"] >= 0
        classes = stored.classes if stored is not None else class_names(dataset, torch.from_numpy(facts["label"]))
        surveyed = SurveyedDataset(dataset if stored is None else stored, facts, errors, classes, workers)
        if self.target_transform:
            relabel(surveyed, self.target_transform)
            facts["label"] = np.where(is_known, surveyed.targets.numpy(), -1)
        is_readable = is_known & ((facts["flags"] & BROKEN) == 0)
        if not is_readable.any():
            error = next(iter(errors.values()))
            raise UserError(
                f"data: no image of {type(dataset).__name__} can be read ({error}); fix the images, or change data.root"
            )
        surveyed.targets = torch.from_numpy(np.where(is_readable, facts["label"], -1))
        self.parts.append(surveyed)
        return surveyed, torch.from_numpy(np.flatnonzero(is_readable))

    def inspect_stored(self, images: BatchedDataset) -> tuple[np.ndarray, dict[int, str]]:
        """Return the facts about images in memory, by batches."""
        facts = np.zeros(len(images), FACTS)
        channels, height, width = images.image_shape
        size = max(1, BATCH_BYTES // (channels * height * width))
        title = f"reading {type(images).__name__}"
        for start in tqdm(range(0, len(images), size), title, disable=None, leave=False):
            pixels, labels = images.__getitems__(torch.arange(start, min(start + size, len(images))))
            facts[start : start + size] = inspect_batch(pixels.cpu())
            facts["label"][start : start + size] = labels.cpu().numpy()
        facts["kind"] = self.number_of(f"array {describe_channels(channels)}")
        return facts, {}

    def inspect_samples(self, dataset: Any, num_workers: int) -> tuple[np.ndarray, dict[int, str]]:
        """Return the facts about images that are decoded one by one, in parallel, and the errors of broken ones."""
        facts, errors = np.zeros(len(dataset), FACTS), {}
        title = f"reading {type(dataset).__name__}"
        chunks = parallel_map(dataset, inspect_image, range(len(dataset)), num_workers, title)
        for row, result in enumerate(result for chunk in chunks for result in chunk):
            if result.error:
                errors[row] = result.error
                facts[row]["flags"], facts[row]["label"] = BROKEN, -1
            else:
                pixels, phash, width, height, kind, flags = result.value
                facts[row] = (pixels, phash, width, height, self.number_of(kind), flags, result.label)
        labels = dataset.targets if isinstance(dataset, ImageFiles) else listed_labels(dataset)
        if labels is not None:
            facts["label"] = labels  # also of broken images
        return facts, errors

    def number_of(self, kind: str) -> int:
        if kind not in self.kinds:
            self.kinds.append(kind)
        return self.kinds.index(kind)


class Survey:
    """What is known about all images of a dataset, from one pass over them.

    Rows are numbered through all parts: a dataset with its own test split has one part for each split.

    Args:
        datamodule: Settings of the data; it is not set up.

    Attributes:
        facts: (N,) FACTS.
        split: Index in SPLITS of each image, (N,) int8.
        classes, kinds: Names of the values of facts["label"] and facts["kind"].
    """

    def __init__(self, datamodule: DataModule) -> None:
        source = datamodule.source
        reader = InspectingReader(**{field.name: getattr(source.reader, field.name) for field in fields(DatasetReader)})
        source.reader = reader
        opened: dict[str, ImageSubset | None] = {}
        for name in ("train", "val", "test"):
            before = len(reader.parts)
            opened[name] = source.split(name)
            for part in reader.parts[before:]:
                part.split = name if source.split_kwarg else ""
        train, val, test = datamodule.split_spec.apply(opened["train"], opened["val"], opened["test"] is not None)
        test = test or opened["test"]
        if datamodule.drop_duplicates:
            train = handle_duplicates(train, {"validation": val, "test": test}, drop=True)
        self.name = source.name
        self.root = source.options.get("root")
        self.parts, self.kinds = reader.parts, reader.kinds
        self.classes = train.dataset.classes
        sizes = [len(part.facts) for part in self.parts]
        self.offsets = np.cumsum([0, *sizes])
        self.facts = np.concatenate([part.facts for part in self.parts])
        self.split = np.full(len(self.facts), SPLITS.index("unused"), np.int8)
        for number, subset in enumerate((train, val, test)):
            if subset is not None:
                self.split[self.rows_of(subset)] = number

    def __len__(self) -> int:
        return len(self.facts)

    def rows_of(self, subset: ImageSubset) -> np.ndarray:
        """Return the rows of a subset of one of the parts."""
        number = next(number for number, part in enumerate(self.parts) if part is subset.dataset)
        return self.offsets[number] + subset.indices.numpy()

    def rows_in(self, split: str, indices: np.ndarray) -> np.ndarray:
        """Return the rows of these indices in the part of a split (train, val or test), or in the only part."""
        number = next((number for number, part in enumerate(self.parts) if part.split == split), 0)
        return self.offsets[number] + indices

    def part_of(self, row: int) -> tuple[SurveyedDataset, int]:
        """Return the part that has this row, and the row in it."""
        number = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return self.parts[number], int(row - self.offsets[number])

    def name_of(self, row: int) -> str:
        part, index = self.part_of(row)
        return part.name_of(index)

    def errors(self) -> dict[int, str]:
        """Return why images cannot be read, by row."""
        return {
            int(offset + row): error
            for offset, part in zip(self.offsets, self.parts, strict=False)
            for row, error in part.errors.items()
        }

    def load(self, rows: Sequence[int], function: Any, title: str = "") -> dict[int, np.ndarray]:
        """Return a function's result by row, without the images that can no longer be read."""
        loaded: dict[int, np.ndarray] = {}
        for offset, end, part in zip(self.offsets[:-1], self.offsets[1:], self.parts, strict=True):
            own = sorted({row for row in rows if offset <= row < end})
            results = part.load([row - offset for row in own], function, title)
            loaded |= {row: value for row, value in zip(own, results, strict=True) if value is not None}
        return loaded

    def previews(self, rows: Sequence[int]) -> dict[int, Image.Image]:
        """Return small RGB images by row."""
        return {row: Image.fromarray(pixels) for row, pixels in self.load(rows, load_preview).items()}

    def thumbnails(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Return those of the rows that can still be read, sorted, and their thumbnails, (N, SIDE, SIDE) float32."""
        found, thumbs = [], []
        for offset, end, part in zip(self.offsets[:-1], self.offsets[1:], self.parts, strict=True):
            own = np.unique(rows[(rows >= offset) & (rows < end)])
            if not len(own):
                continue
            if isinstance(part.samples, BatchedDataset):
                for chunk in np.array_split(own - offset, -(-len(own) // 4096)):
                    thumbs.append(thumbnails(part.samples.__getitems__(torch.from_numpy(chunk))[0]))
                found.append(own)
            else:
                loaded = self.load(own.tolist(), load_thumbnail, "comparing")
                found.append(np.array(sorted(loaded), np.int64))
                thumbs += [torch.from_numpy(loaded[row])[None] for row in sorted(loaded)]
        if not found:
            return np.zeros(0, np.int64), torch.zeros(0, 1, 1)
        return np.concatenate(found), torch.cat(thumbs)
