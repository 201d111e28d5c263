"""Data loading: compared with torchvision, per augmentation, from a memory-mapped file, and from a folder."""

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison
from pytorch_intro.data.augment.pipeline import build_mixup_cutmix
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import BatchedDataset, MemmapImageDataset, identity_collate
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.reader import DatasetReader

Way = Callable[..., object]


class DataBenchmark:
    """Shuffled passes over all training images, without training.

    Args:
        rounds: Number of rounds of all variants.
        num_workers: Number of workers of torchvision's dataset, which is also measured without any.
        copies: Size of the larger memory-mapped file, as a multiple of the dataset.
        files: Number of images that are written to PNG files and read again.
    """

    def __init__(self, rounds: PositiveInt, num_workers: PositiveInt, copies: PositiveInt, files: PositiveInt) -> None:
        self.rounds = rounds
        self.num_workers = num_workers
        self.copies = copies
        self.files = files

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return seconds and microseconds of each variant."""
        datamodule, device = context.make_datamodule(), context.device
        return {
            "pass": self.passes(datamodule, device),
            "augmentation": self.augmentations(datamodule, device),
            "mapped": self.mapped(datamodule),
            "folder": self.folder(datamodule),
        }

    def passes(self, datamodule: DataModule, device: str) -> Figures:
        """Load all training images as normalized float32 batches, here and with torchvision as in its tutorials."""
        print(f"a shuffled pass over {len(datamodule.train_set):,} images, batches of {datamodule.batch_size}")
        loader = datamodule.train_dataloader()

        def normalised() -> None:
            for images, _ in loader:
                datamodule.normalize(images.to(device))

        ways: dict[str, Way] = {"this project": normalised, "… before normalising": partial(run_through, loader)}
        theirs = torchvision_dataset(datamodule)
        for workers in (0, self.num_workers):
            ways[f"torchvision, {workers} workers"] = partial(
                run_through, DataLoader(theirs, datamodule.batch_size, shuffle=True, num_workers=workers)
            )
        return print_comparison("seconds", "s", **self.in_turn(ways))

    def augmentations(self, datamodule: DataModule, device: str) -> Figures:
        """Measure each augmentation."""
        batch = datamodule.train_set.__getitems__(list(range(256)))
        images, targets = (tensor.to(device) for tensor in batch)
        print(f"augmentation of {len(images)} images at once, each image")
        normalized, classes = datamodule.normalize(images), len(datamodule.classes)
        ways: dict[str, Way] = {"normalising": partial(datamodule.normalize, images)}
        ways |= {type(module).__name__: partial(module, images) for module in datamodule.augment}
        for name, module in {
            "MixUp": build_mixup_cutmix(classes, 0.2, 0),
            "CutMix": build_mixup_cutmix(classes, 0, 1.0),
        }.items():
            ways[name] = partial(cast(Way, module), normalized, targets)
        seconds = self.in_turn({name: partial(repeat, way, 20) for name, way in ways.items()})
        return print_comparison(
            "microseconds", "us", **{name: [s / 20 / len(images) * 1e6 for s in some] for name, some in seconds.items()}
        )

    def mapped(self, datamodule: DataModule) -> Figures:
        """Measure a pass over a memory-mapped file, and over a larger one, after a warm-up."""
        once = datamodule.train_set.dataset
        print(f"a shuffled pass over mapped files of {len(once):,} and {self.copies * len(once):,} images, each image")
        with tempfile.TemporaryDirectory() as folder:
            files = [in_file(Path(folder, f"{copies}.npy"), once, copies) for copies in (1, self.copies)]
            ways: dict[str, Way] = {}
            for images in files:
                loader = DataLoader(images, datamodule.batch_size, shuffle=True, collate_fn=identity_collate)
                ways[f"{len(images):,} images"] = partial(run_through, loader)
            for warm_up in ways.values():
                warm_up()
            before = resident_memory()
            seconds = self.in_turn(ways)
            after = resident_memory()
        each = {
            name: [s / len(images) * 1e6 for s in some]
            for images, (name, some) in zip(files, seconds.items(), strict=True)
        }
        figures = print_comparison("microseconds", "us", **each)
        grown = {kind: after[kind] - before[kind] for kind in after}
        print(f"  resident memory in MB: {after}; grown in {self.rounds} passes over both: {grown}")
        return figures | {"resident_MB": after, "grown_MB": grown}

    def folder(self, datamodule: DataModule) -> Figures:
        """Measure a folder of PNG files: the first start decodes them, the second reads the cache."""
        print(f"a folder of {self.files:,} PNG files")
        seconds: dict[str, list[float]] = {"second start": [], "first start": []}
        for _ in range(self.rounds):
            with tempfile.TemporaryDirectory() as folder:
                write_pngs(Path(folder), datamodule, self.files)
                for start in ("first start", "second start"):
                    began = time.perf_counter()
                    DatasetReader(None, "crop", None, None, False, 0).read(ImageFolder(folder))
                    seconds[start].append(time.perf_counter() - began)
        return print_comparison("seconds", "s", **seconds)

    def in_turn(self, ways: dict[str, Way]) -> dict[str, list[float]]:
        """Time all variants in rounds, so that a machine that slows down affects all of them."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if torch.accelerator.is_available():
                    torch.accelerator.synchronize()
                seconds[name].append(time.perf_counter() - start)
        return seconds


def run_through(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def repeat(way: Way, times: int) -> None:
    for _ in range(times):
        way()


def torchvision_dataset(datamodule: DataModule) -> FashionMNIST:
    """Return the training images as torchvision's dataset, with the transforms of PyTorch's tutorials."""
    normalize = transforms.Normalize(datamodule.mean, datamodule.std)
    transform = transforms.Compose([transforms.ToTensor(), normalize])
    images, targets = datamodule.train_set.__getitems__(list(range(len(datamodule.train_set))))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "FashionMNIST", "raw")
        folder.mkdir(parents=True)
        for part in ("train", "t10k"):  # torchvision requires the files of both
            write_idx(folder / f"{part}-images-idx3-ubyte", images.squeeze(1))
            write_idx(folder / f"{part}-labels-idx1-ubyte", targets.byte())
        return FashionMNIST(root, train=True, transform=transform)


def write_idx(file: Path, tensor: torch.Tensor) -> None:
    header = bytes([0, 0, 8, tensor.ndim]) + np.array(tensor.shape, ">u4").tobytes()
    file.write_bytes(header + tensor.numpy().tobytes())


def in_file(file: Path, images: BatchedDataset, copies: int) -> MemmapImageDataset:
    """Write copies of the images to a memory-mapped file."""
    array = np.lib.format.open_memmap(file, "w+", np.uint8, (copies * len(images), *images.image_shape))
    pixels = images.__getitems__(list(range(len(images))))[0].numpy()
    for copy in range(copies):
        array[copy * len(images) : (copy + 1) * len(images)] = pixels
    array.flush()
    return MemmapImageDataset(file, images.targets.repeat(copies), images.classes)


def write_pngs(folder: Path, datamodule: DataModule, count: int) -> None:
    for row in range(count):
        image, label = datamodule.train_set[row]
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{row}.png")


def resident_memory() -> dict[str, int]:
    """Return resident megabytes of this process: its own, and those of files, which the system can reclaim."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {kind: int(lines[name].split()[0]) // 1024 for kind, name in {"own": "RssAnon", "files": "RssFile"}.items()}
