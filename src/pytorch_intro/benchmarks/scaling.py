"""How time and memory grow with the number of images, of files, of classes, of processes, and with the image side."""

import itertools
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pydantic import Field, PositiveInt

from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.benchmarks.data import resident_memory
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, quiet, run_process, to_text
from pytorch_intro.benchmarks.loop import lightning_epochs
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.data.ingest.cache import ImageCache, MemmapImageDataset
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.training.setup import build_classifier, build_datamodule

Part = Literal["images", "files", "classes", "sides", "processes"]

CHUNK = 2**27  # bytes of images that are made at a time
MAX_PASS = 500_000  # images of the pass that is timed
NUM_IMAGES = 2048  # of the parts in which another number grows
PER_CLASS = 10  # images
SMALL_BATCH = 64  # images of the part sides: 512 of 224 x 224 would need 7 GB
MAX_LINKS = 60_000  # to one file: ext4 allows 65,000

Row = dict[str, float]


def measure_scaling(
    context: BenchmarkContext,
    parts: Sequence[Part],
    images: Sequence[Annotated[int, Field(ge=1000)]],
    files: Sequence[Annotated[int, Field(ge=100)]],
    classes: Sequence[Annotated[int, Field(ge=2)]],
    sides: Sequence[Annotated[int, Field(ge=28)]],
    processes: Sequence[PositiveInt],
    arguments: Sequence[str] = (),
    folder: str | None = None,
) -> Figures:
    """Measure each size in a process of its own; print a table for each part.

    Args:
        parts: What grows.
        images: Numbers of gray images of 28 x 28 pixels in a memory-mapped cache.
        files: Numbers of image files; they are links to a few, since only finding them is measured.
        classes: Numbers of classes, with ten images each, of whole runs of `python src/train.py`.
        sides: Sides of RGB images, of epochs of the default network.
        processes: Numbers of processes that share each batch (DDP), of whole runs.
        arguments: Further arguments of the whole runs.
        folder: Folder for the images, which needs 784 bytes for each; None: the system's temporary one.
    """
    OmegaConf.resolve(context.config)  # other processes lack the resolvers
    figures: Figures = {}
    with tempfile.TemporaryDirectory(dir=folder) as root:
        measures: dict[Part, tuple[Sequence[int], Callable[[int], Row]]] = {
            "images": (images, partial(measure_images, context, root)),
            "files": (files, partial(measure_files, root)),
            "classes": (classes, partial(train_classes, context, root, arguments)),
            "sides": (sides, partial(measure_side, context, root)),
            "processes": (processes, partial(train_processes, context, root, arguments)),
        }
        for part in parts:
            sizes, measure = measures[part]
            rows: dict[int, Row] = {}
            for size in sizes:
                rows[size] = measure(size)
                for path in Path(root).iterdir():
                    shutil.rmtree(path)
            print_table(part, rows)
            figures[part] = rows
    return figures


def print_table(part: str, rows: dict[int, Row]) -> None:
    """Print the values of each size."""
    header = [part, *next(iter(rows.values()))]
    lines = [[f"{size:,}", *(to_text(value) for value in row.values())] for size, row in rows.items()]
    print("\n" + markdown_table(header, lines), flush=True)


class SyntheticImages(MemmapImageDataset):
    """Random images in the files of a cache, as write_cache makes them.

    Args:
        root: Folder of the caches, with one cache.
    """

    def __init__(self, root: str) -> None:
        cache = open_cache(Path(root))
        targets, _ = cache.labels()
        classes = [f"class {number}" for number in range(int(targets.max()) + 1)]
        opened = cache.open(targets, classes, lambda _: False)
        super().__init__(cache.images, targets, classes)
        self.hashes = opened.hashes


def open_cache(root: Path) -> ImageCache:
    return ImageCache(root, "synthetic images", "synthetic images", "1")


def write_cache(root: Path, count: int, shape: tuple[int, int, int], num_classes: int) -> None:
    """Write random images (H, W, C) with labels from all classes in turn, as a cache of decoded files."""
    root.mkdir()
    cache = open_cache(root)
    needed, free = count * int(np.prod(shape)), shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"bench.images: {count:,} images need {needed / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free; use fewer, or "
            "bench.folder=DIR on another disk"
        )
    cache.folder.mkdir()
    array = np.lib.format.open_memmap(cache.images, "w+", np.uint8, (count, *shape))
    offset = array.offset
    del array  # writing through the memory map would count as memory of the process
    rng, rows = np.random.default_rng(0), max(1, CHUNK // int(np.prod(shape)))
    with cache.images.open("r+b") as file:
        file.seek(offset)
        for start in range(0, count, rows):
            file.write(rng.bytes(min(rows, count - start) * int(np.prod(shape))))
    np.save(cache.folder / "labels.npy", np.arange(count, dtype=np.int64) % num_classes)
    (cache.folder / "broken.json").write_text("{}")
    (cache.folder / "decoder.json").write_text('{"bit_depth": 16}')


class MemoryWatch:
    """The largest memory of this process while it is active: without and with the pages of files, in MB.

    The system can take back the pages of memory-mapped files at any time.
    """

    def __init__(self) -> None:
        self.own = self.total = 0
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    def watch(self) -> None:
        while True:
            memory = resident_memory()  # nothing on systems other than Linux
            self.own = max(self.own, memory.get("own", 0))
            self.total = max(self.total, sum(memory.values()))
            if self.is_over.wait(0.02):
                return


def in_new_process(function: Callable[[], Row]) -> Row:
    """Call a function in a new process, whose memory is measured."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function).result()


@contextmanager
def timed(row: Row, name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    row[name] = time.perf_counter() - started


def with_data(context: BenchmarkContext, root: Path, **settings: object) -> DictConfig:
    """Return the config of the benchmark with the images of a cache, and with other settings of the data."""
    return cast(DictConfig, OmegaConf.merge(context.config, {"data": {"root": str(root), **settings}}))


def measure_images(context: BenchmarkContext, root: str, count: int) -> Row:
    """Write a cache of gray images, open it for the first time and again, and load batches."""
    row: Row = {"GB on disk": count * 28 * 28 / 1e9}
    cache = Path(root, "cache")
    with timed(row, "s to write"):
        write_cache(cache, count, (28, 28, 1), 10)
    first = in_new_process(partial(open_images, context, cache))
    row["s of the first start"] = first["s of the start"]
    return row | in_new_process(partial(open_images, context, cache, loads_batches=True))


def open_images(context: BenchmarkContext, cache: Path, loads_batches: bool = False) -> Row:
    """Set the data up, and load random batches; in this process."""
    row: Row = {}
    torch.set_num_threads(1)
    disable_malloc_trim()
    before = resident_memory()
    with MemoryWatch() as memory, quiet():
        with timed(row, "s of the start"):
            datamodule = build_datamodule(with_data(context, cache))
        if loads_batches:
            loader, batch_size = datamodule.train_dataloader(), datamodule.batch_size
            batches = itertools.islice(loader, max(1, min(MAX_PASS, len(datamodule.train_set)) // batch_size))
            with timed(row, "µs per image"):
                images = sum(len(datamodule.preprocess(batch, augment=True)) for batch, _ in batches)
            row["µs per image"] *= 1e6 / images
    row["MB of memory"] = memory.own - before.get("own", 0)
    row["MB with file pages"] = memory.total - sum(before.values())
    return row


def measure_files(root: str, count: int) -> Row:
    """Find image files in ten folders, and hash their sizes and times, as each start does."""
    folder = Path(root, "files")
    link_files(folder, count)
    return in_new_process(partial(find_images, str(folder)))


def link_files(folder: Path, count: int) -> None:
    """Make image files in ten folders: links to one file for each MAX_LINKS, which take no space."""
    for number in range(10):
        (folder / f"class_{number}").mkdir(parents=True)
    original = folder.with_name("originals")
    original.mkdir()
    for number in range(count):
        source = original / f"{number // MAX_LINKS}.png"
        if number % MAX_LINKS == 0:
            Image.new("L", (8, 8), number // MAX_LINKS).save(source)
        os.link(source, folder / f"class_{number % 10}" / f"image_{number:08}.png")


def find_images(folder: str) -> Row:
    row: Row = {}
    before = resident_memory().get("own", 0)
    with MemoryWatch() as memory:
        with timed(row, "s to find them"):
            dataset = ImageFolder(folder)
        with timed(row, "s to compare sizes and times"):
            dataset.hash_files()
        row["MB of memory"] = resident_memory().get("own", 0) - before
    row["MB at most"] = memory.own - before
    return row


def train_classes(context: BenchmarkContext, root: str, arguments: Sequence[str], count: int) -> Row:
    """Train an epoch with all metrics, plots and logs."""
    cache = Path(root, "cache")
    write_cache(cache, PER_CLASS * max(count, NUM_IMAGES // PER_CLASS), (28, 28, 1), count)
    row = train(context, root, "trainer.max_epochs=1", *arguments)
    checkpoint = Path(root, "outputs", "run", "checkpoints", "last.ckpt").stat().st_size
    logs = sum(file.stat().st_size for file in Path(root, "outputs", "run").rglob("*") if file.is_file())
    return row | {"MB of a checkpoint": checkpoint / 1e6, "MB of the run folder": logs / 1e6}


def train_processes(context: BenchmarkContext, root: str, arguments: Sequence[str], count: int) -> Row:
    """Train with a number of processes, one thread each on a CPU."""
    write_cache(Path(root, "cache"), 10 * NUM_IMAGES, (28, 28, 1), 10)
    several = [] if count == 1 else ["trainer=ddp"]
    return train(
        context, root, *several, f"trainer.devices={count}", "trainer.threads=1", "trainer.max_epochs=2", *arguments
    )


def train(context: BenchmarkContext, root: str, *arguments: str) -> Row:
    """Train in a new process; return its seconds, the images per second and the memory of the largest process."""
    own = f"{SyntheticImages.__module__}.{SyntheticImages.__name__}"
    data = ["data=custom", f"data.dataset._target_={own}", f"data.root={root}/cache", "data.batch_size=512"]
    command = context.command("train", *data, *arguments, f"outputs={root}/outputs", "name=run")
    process = run_process(command)
    result: dict[str, Any] = json.loads(Path(root, "outputs", "run", "result.json").read_text())
    return {
        "s of the command": process.seconds,
        "s of training": result["train_seconds"],
        "images/s": result["images_per_second"],
        "MB of memory": process.memory / 1e6,
    }


def measure_side(context: BenchmarkContext, root: str, side: int) -> Row:
    """Train on RGB images of this side, and load them without training."""
    cache = Path(root, "cache")
    write_cache(cache, NUM_IMAGES, (side, side, 3), 10)
    return in_new_process(partial(train_side, context, cache, side))


def train_side(context: BenchmarkContext, cache: Path, side: int) -> Row:
    row: Row = {"kB per image": 3 * side * side / 1e3}
    torch.set_num_threads(1)
    disable_malloc_trim()
    before = resident_memory().get("own", 0)
    with MemoryWatch() as memory, quiet(), tempfile.TemporaryDirectory() as folder:
        datamodule = build_datamodule(with_data(context, cache, batch_size=SMALL_BATCH))
        count = len(datamodule.train_set)
        for _ in range(2):  # the first pass reads the file
            with timed(row, "µs of data per image"):
                for images, _ in datamodule.train_dataloader():
                    datamodule.preprocess(images, augment=True)
        row["µs of data per image"] *= 1e6 / count
        epochs = lightning_epochs(
            build_classifier(context.config, datamodule), datamodule, context.build_trainer(folder)
        )
        row["µs of training per image"] = statistics.median(epochs[1:] or epochs) / count * 1e6
    row["MB of memory"] = memory.own - before
    return row
