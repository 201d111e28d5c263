"""Data loading: compared with torchvision, per augmentation, from a memory-mapped file, and from a folder."""

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from timeit import timeit

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, time_alternately
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import BatchedDataset, identity_collate
from pytorch_intro.data.ingest.cache import MemmapImageDataset
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.reader import DatasetReader
from pytorch_intro.training.setup import build_datamodule


def measure_data(
    context: BenchmarkContext, rounds: PositiveInt, num_workers: PositiveInt, copies: PositiveInt, files: PositiveInt
) -> Figures:
    """Time shuffled passes over all training images, without training; return seconds or microseconds of each variant.

    Args:
        rounds: Number of rounds of all variants.
        num_workers: Number of workers of torchvision's dataset, which is also measured without any.
        copies: Size of the larger memory-mapped file, as a multiple of the dataset.
        files: Number of images that are written to PNG files and read again.
    """
    datamodule = build_datamodule(context.config)
    return {
        "pass": measure_passes(datamodule, context.device, rounds, num_workers),
        "augmentation": measure_augmentations(datamodule, context.device, rounds),
        "mapped": measure_memmaps(datamodule, rounds, copies),
        "folder": measure_folder(datamodule, rounds, files),
    }


def measure_passes(datamodule: DataModule, device: str, rounds: int, num_workers: int) -> Figures:
    """Load all training images as normalized float32 batches, here and with torchvision as in its tutorials."""
    print(f"a shuffled pass over {len(datamodule.train_set):,} images, batches of {datamodule.batch_size}")
    loader, dataset = datamodule.train_dataloader(), torchvision_dataset(datamodule)

    def normalize_all() -> None:
        for images, _ in loader:
            datamodule.normalize(images.to(device))

    variants: dict[str, Callable[[], object]] = {"this project": normalize_all}
    variants["… before normalizing"] = partial(iterate, loader)
    for workers in (0, num_workers):
        theirs = DataLoader(dataset, datamodule.batch_size, shuffle=True, num_workers=workers)
        variants[f"torchvision, {workers} workers"] = partial(iterate, theirs)
    return print_comparison("seconds", "s", **time_alternately(variants, rounds))


def measure_augmentations(datamodule: DataModule, device: str, rounds: int, repeats: int = 20) -> Figures:
    """Measure each augmentation, in microseconds per image."""
    images, targets = (tensor.to(device) for tensor in datamodule.train_set.__getitems__(range(256)))
    print(f"augmentation of {len(images)} images at once, each image")
    normalized, num_classes = datamodule.normalize(images), len(datamodule.classes)
    calls = {
        "normalizing": partial(datamodule.normalize, images),
        **{type(module).__name__: partial(module, images) for module in datamodule.augment},
        "MixUp": partial(v2.MixUp(num_classes=num_classes, alpha=0.2), normalized, targets),
        "CutMix": partial(v2.CutMix(num_classes=num_classes, alpha=1.0), normalized, targets),
    }
    seconds = time_alternately({name: partial(timeit, call, number=repeats) for name, call in calls.items()}, rounds)
    micros = {name: [s / repeats / len(images) * 1e6 for s in some] for name, some in seconds.items()}
    return print_comparison("microseconds", "us", **micros)


def measure_memmaps(datamodule: DataModule, rounds: int, copies: int) -> Figures:
    """Measure a pass over a memory-mapped file, and over a larger one, in microseconds per image, after a warm-up."""
    once = datamodule.train_set.dataset
    print(f"a shuffled pass over mapped files of {len(once):,} and {copies * len(once):,} images, each image")
    with tempfile.TemporaryDirectory() as folder:
        datasets = [write_memmap(Path(folder, f"{number}.npy"), once, number) for number in (1, copies)]
        variants = {}
        for dataset in datasets:
            loader = DataLoader(dataset, datamodule.batch_size, shuffle=True, collate_fn=identity_collate)
            variants[f"{len(dataset):,} images"] = partial(iterate, loader)
        time_alternately(variants, 1)
        before = resident_memory()
        seconds = time_alternately(variants, rounds)
        after = resident_memory()
    each = {
        name: [s / len(dataset) * 1e6 for s in some]
        for dataset, (name, some) in zip(datasets, seconds.items(), strict=True)
    }
    figures = print_comparison("microseconds", "us", **each)
    grown = {kind: after[kind] - before[kind] for kind in after}
    print(f"  resident memory in MB: {after}; growth in {rounds} passes over both: {grown}")
    return figures | {"resident_MB": after, "grown_MB": grown}


def measure_folder(datamodule: DataModule, rounds: int, files: int) -> Figures:
    """Measure a folder of PNG files: the first start decodes them, the second reads the cache."""
    print(f"a folder of {files:,} PNG files")
    seconds: dict[str, list[float]] = {"second start": [], "first start": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            write_pngs(Path(folder), datamodule, files)
            for start in ("first start", "second start"):
                started = time.perf_counter()
                DatasetReader(None, "crop", None, None, False, 0).read(ImageFolder(folder))
                seconds[start].append(time.perf_counter() - started)
    return print_comparison("seconds", "s", **seconds)


def iterate(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def torchvision_dataset(datamodule: DataModule) -> FashionMNIST:
    """Return the training images as torchvision's dataset, with the transforms of PyTorch's tutorials."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(datamodule.mean, datamodule.std)])
    images, targets = datamodule.train_set.__getitems__(range(len(datamodule.train_set)))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "FashionMNIST", "raw")
        folder.mkdir(parents=True)
        for split in ("train", "t10k"):  # torchvision requires the files of both
            write_idx(folder / f"{split}-images-idx3-ubyte", images.squeeze(1))
            write_idx(folder / f"{split}-labels-idx1-ubyte", targets.byte())
        return FashionMNIST(root, train=True, transform=transform)


def write_idx(file: Path, tensor: torch.Tensor) -> None:
    header = bytes([0, 0, 8, tensor.ndim]) + np.array(tensor.shape, ">u4").tobytes()
    file.write_bytes(header + tensor.numpy().tobytes())


def write_memmap(file: Path, images: BatchedDataset, copies: int) -> MemmapImageDataset:
    """Write copies of the images to a memory-mapped file."""
    array = np.lib.format.open_memmap(file, "w+", np.uint8, (copies * len(images), *images.image_shape))
    pixels = images.__getitems__(range(len(images)))[0].numpy()
    for copy in range(copies):
        array[copy * len(images) : (copy + 1) * len(images)] = pixels
    array.flush()
    return MemmapImageDataset(file, images.targets.repeat(copies), images.classes)


def write_pngs(folder: Path, datamodule: DataModule, count: int) -> None:
    for index in range(count):
        image, label = datamodule.train_set[index]
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / str(label) / f"{index}.png")


def resident_memory() -> dict[str, int]:
    """Return resident megabytes of this process: its own, and those of files, which the system can reclaim."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {kind: int(lines[name].split()[0]) // 1024 for kind, name in {"own": "RssAnon", "files": "RssFile"}.items()}
