"""Random crops of photographs in JPEG files: torchvision's ImageFolder compared with this project, cached and not."""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, quiet
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.training.setup import build_datamodule

WIDTH, HEIGHT = 500, 375  # of most photographs of ImageNet
COLUMNS, ROWS = 8, 6  # of the photographs in a file: with fewer, files are smaller than those of a camera
QUALITY = 95
MIN_SIDE = 64  # pixels
NUM_CLASSES = 10

Batches = Iterable[tuple[Tensor, Tensor]]


class Epoch(NamedTuple):
    """Seconds of an epoch; memory after it, and the largest until then, in MB of a process and its workers."""

    seconds: float
    memory: int
    peak: int


def measure_photos(
    context: BenchmarkContext, source: str, files: PositiveInt, rounds: PositiveInt, workers: list[NonNegativeInt]
) -> Figures:
    """Time shuffled epochs over JPEG files with random resized crop, flip and normalization; return images per second.

    Each variant has a process of its own. They take turns.

    Args:
        source: Folder of photographs that the files are made from.
        files: Number of files.
        rounds: Number of later epochs of all variants.
        workers: Numbers of worker processes, for torchvision and for this project without a cache.
    """
    OmegaConf.resolve(context.config)  # other processes lack the resolvers
    with ExitStack() as stack:
        folder, cache = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2))
        size = write_photos(Path(source), Path(folder), files) / files
        print(f"random crops of {files:,} JPEG files of {WIDTH} x {HEIGHT} pixels, {size / 1e3:.0f} kB each")
        variants: dict[str, Callable[[], Batches]] = {}
        for count in workers:
            variants[f"torchvision, {count} workers"] = partial(open_torchvision, context, folder, count)
            ours = partial(open_ours, context, folder, ["data.cache=none", f"data.num_workers={count}"])
            variants[f"uncached, {count} workers"] = ours
        variants["cached"] = partial(open_ours, context, folder, [f"data.cache_dir={cache}"])
        epochs: dict[str, list[Epoch]] = {name: [] for name in variants}
        processes = {}
        for name in variants:
            pool = ProcessPoolExecutor(1, get_context("spawn"), set_up, (context.device, torch.get_num_threads()))
            processes[name] = stack.enter_context(pool)
        for _ in tqdm(range(1 + rounds), "rounds", leave=False):
            for name, process in processes.items():
                epochs[name].append(process.submit(run_epoch, variants[name], context.device).result())
    figures: Figures = {"bytes_per_file": size}
    for title, part in (("first", slice(0, 1)), ("later", slice(1, None))):
        print("first epoch, with everything that is done once" if title == "first" else "later epochs")
        speeds = {name: [files / epoch.seconds for epoch in some[part]] for name, some in epochs.items()}
        figures[title] = print_comparison("images_per_second", "images/s", **speeds)
    figures["ratios"] = print_ratios(
        {name: [epoch.seconds for epoch in some[1:]] for name, some in epochs.items()}, workers
    )
    figures["memory_MB"] = print_memory(epochs)
    return figures


opened: list[Batches] = []  # of this process


def set_up(device: str, threads: int) -> None:
    """Set up a process as for training."""
    torch.set_num_threads(threads)
    if device == "cpu":
        disable_malloc_trim()


def run_epoch(open_batches: Callable[[], Batches], device: str) -> Epoch:
    """Load all images once; the first epoch also opens them."""
    started = time.perf_counter()
    with quiet():
        if not opened:
            opened.append(open_batches())
        for _ in opened[0]:
            pass
        if device != "cpu":
            torch.accelerator.synchronize()
    seconds = time.perf_counter() - started
    return Epoch(seconds, *resident_memory())


class AugmentedBatches(Batches):
    """Batches as in training: loaded, moved to the device, augmented and normalized there."""

    def __init__(self, context: BenchmarkContext, arguments: list[str]) -> None:
        self.device = context.device
        config = cast(DictConfig, OmegaConf.merge(context.config, OmegaConf.from_dotlist(arguments)))
        self.datamodule = build_datamodule(config)
        self.loader = self.datamodule.train_dataloader()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, targets in self.loader:
            yield self.datamodule.normalize(self.datamodule.augment(images.to(self.device))), targets.to(self.device)


def open_ours(context: BenchmarkContext, folder: str, arguments: list[str]) -> Batches:
    return AugmentedBatches(context, [f"data.root={folder}", *arguments])


def open_torchvision(context: BenchmarkContext, folder: str, num_workers: int) -> Batches:
    """Return torchvision's dataset in a DataLoader, with the transforms of PyTorch's ImageNet example."""
    data = context.config.data
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(data.image_size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    return DataLoader(
        ImageFolder(folder, transform),
        data.batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def write_photos(source: Path, folder: Path, count: int) -> int:
    """Write JPEG files, each a collage of parts of photographs below `source`, and return their bytes."""
    photos = load_photos(source)
    rng, size = random.Random(0), 0
    for number in range(count):
        collage = Image.new("RGB", (WIDTH, HEIGHT))
        for place in range(COLUMNS * ROWS):
            row, column = divmod(place, COLUMNS)
            left, right = (WIDTH * side // COLUMNS for side in (column, column + 1))
            top, bottom = (HEIGHT * side // ROWS for side in (row, row + 1))
            collage.paste(random_part(rng.choice(photos), right - left, bottom - top, rng), (left, top))
        file = folder / str(number % NUM_CLASSES) / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        collage.save(file, quality=QUALITY)
        size += file.stat().st_size
    return size


def load_photos(source: Path) -> list[Image.Image]:
    """Load the photographs in a folder: of each the largest central part that is not transparent."""
    photos = []
    for file in sorted({*source.rglob("*.png"), *source.rglob("*.jpg")}):
        if "cartoon" in file.parts:
            continue
        with Image.open(file) as opened_file:
            image = opened_file.convert("RGBA")
        for share in (1, 0.8, 0.6, 0.4):
            width, height = (round(side * share) for side in image.size)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            part = image.crop((left, top, left + width, top + height))
            if min(part.size) >= MIN_SIDE and part.getchannel("A").getextrema()[0] == 255:
                photos.append(part.convert("RGB"))
                break
    if not photos:
        raise UserError(
            f"bench.source={source}: no photographs in this folder; run apt install tuxpaint-stamps-default, or use "
            f"another folder of PNG or JPEG files with sides of {MIN_SIDE} pixels or more"
        )
    return photos


def random_part(photo: Image.Image, width: int, height: int, rng: random.Random) -> Image.Image:
    """Return a random part of a photograph, resized to width and height."""
    scale = rng.uniform(0.7, 1) * min(photo.width / width, photo.height / height)
    left, top = rng.uniform(0, photo.width - scale * width), rng.uniform(0, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    return photo.resize((width, height), Image.Resampling.BICUBIC, box)


def print_ratios(seconds: dict[str, list[float]], workers: list[int]) -> Figures:
    """Print how many times faster than torchvision with as many workers each variant is, by the median epochs."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios: Figures = {}
    for count in workers:
        theirs = f"torchvision, {count} workers"
        for ours in (f"uncached, {count} workers", "cached"):
            ratios[f"{ours} / {theirs}"] = ratio = medians[theirs] / medians[ours]
            print(f"  {ours}: {ratio:.2f} x the images/s of {theirs}")
    return ratios


def print_memory(epochs: dict[str, list[Epoch]]) -> Figures:
    """Print the largest memory of each variant, and its growth from the first to the last epoch."""
    for name, some in epochs.items():
        growth = some[-1].memory - some[0].memory
        print(f"  memory, {name}: peak {some[-1].peak:,} MB, growth from the first to the last epoch {growth:+,} MB")
    return {
        name: {"after_epochs": [epoch.memory for epoch in some], "peak": some[-1].peak} for name, some in epochs.items()
    }


def resident_memory() -> tuple[int, int]:
    """Return the resident MB of this process and its workers, now and at most; 0 on systems other than Linux.

    Pages that they share count for each.
    """
    pids, sums = [os.getpid()], {"VmRSS": 0, "VmHWM": 0}
    for pid in pids:
        with suppress(OSError):
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in sums:
                    sums[name] += int(value.split()[0])
    return sums["VmRSS"] // 1024, sums["VmHWM"] // 1024
