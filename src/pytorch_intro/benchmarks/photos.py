"""Random crops of photographs in JPEG files: torchvision's ImageFolder compared with this project, cached and not."""

import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, quiet, time_alternately
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.training.setup import build_datamodule

WIDTH, HEIGHT = 500, 375  # of most photographs of ImageNet
NUM_CLASSES = 10
MEMORY_EVERY = 10  # batches

Batches = Iterable[tuple[Tensor, Tensor]]


def measure_photos(
    context: BenchmarkContext, source: str, files: PositiveInt, rounds: PositiveInt, workers: list[NonNegativeInt]
) -> Figures:
    """Time shuffled epochs over JPEG files with random resized crop, flip and normalization; return images per second.

    Args:
        source: Folder of photographs that the files are made from.
        files: Number of files.
        rounds: Number of later epochs of all variants.
        workers: Numbers of worker processes, for torchvision and for this project without a cache.
    """
    if context.device == "cpu":
        disable_malloc_trim()  # as in training
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        size = write_photos(Path(source), Path(folder), files) / files
        print(f"random crops of {files:,} JPEG files of {WIDTH} x {HEIGHT} pixels, {size / 1e3:.0f} kB each")
        variants: dict[str, Variant] = {}
        for count in workers:
            variants[f"torchvision, {count} workers"] = Variant(partial(open_torchvision, context, folder, count))
            ours = partial(open_ours, context, folder, ["data.cache=none", f"data.num_workers={count}"])
            variants[f"uncached, {count} workers"] = Variant(ours)
        variants["cached"] = Variant(partial(open_ours, context, folder, [f"data.cache_dir={cache}"]))
        seconds = {"first": time_alternately(variants, 1), "later": time_alternately(variants, rounds)}
    figures: Figures = {"bytes_per_file": size}
    for epochs, measured in seconds.items():
        print("first epoch, with everything that is done once" if epochs == "first" else "later epochs")
        speeds = {name: [files / value for value in values] for name, values in measured.items()}
        figures[epochs] = print_comparison("images_per_second", "images/s", **speeds)
    figures["ratios"] = print_ratios(seconds["later"], workers)
    figures["memory_MB"] = print_memory(variants)
    return figures


class Variant:
    """A way to load the images; each call is an epoch, and the first one also opens them.

    Attributes:
        memory: Largest memory in each epoch, in MB, of this process and all its workers.
    """

    def __init__(self, open_batches: Callable[[], Batches]) -> None:
        self.open_batches = open_batches
        self.batches: Batches | None = None
        self.memory: list[int] = []

    def __call__(self) -> None:
        with quiet():
            if self.batches is None:
                self.batches = self.open_batches()
            peak = 0
            for number, _ in enumerate(self.batches):
                if number % MEMORY_EVERY == 0:
                    peak = max(peak, memory_of_all_processes())
        self.memory.append(peak)


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
    """Write JPEG files, each a random part of a photograph below `source`, and return their bytes."""
    photos = sorted(source.rglob("*.png")) + sorted(source.rglob("*.jpg"))
    photos = [photo for photo in photos if "cartoon" not in photo.parts]
    if not photos:
        raise UserError(
            f"bench.source={source}: no photographs in this folder; run apt install tuxpaint-stamps-default, or use "
            "another folder of PNG or JPEG files"
        )
    rng, size = random.Random(0), 0
    for number in range(count):
        with Image.open(photos[number % len(photos)]) as opened:
            image = opened.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        share = rng.uniform(0.6, 1)
        width = share * min(image.width, image.height * WIDTH / HEIGHT)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - width * HEIGHT / WIDTH)
        box = (left, top, left + width, top + width * HEIGHT / WIDTH)
        file = folder / str(number % NUM_CLASSES) / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box).save(file, quality=90)
        size += file.stat().st_size
    return size


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


def print_memory(variants: dict[str, Variant]) -> Figures:
    """Print the largest memory of all processes while each variant runs, and its growth after the second epoch."""
    for name, variant in variants.items():
        growth = variant.memory[-1] - variant.memory[min(1, len(variant.memory) - 1)]
        print(f"  memory of all processes, {name}: {max(variant.memory):,} MB, growth {growth:+,} MB")
    return {name: variant.memory for name, variant in variants.items()}


def memory_of_all_processes() -> int:
    """Return the MB of this process and its children, shared pages counted once; 0 on systems other than Linux."""
    pids, total = [os.getpid()], 0
    for pid in pids:
        with suppress(OSError):
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total // 1024
