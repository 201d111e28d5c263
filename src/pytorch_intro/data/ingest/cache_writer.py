"""Writes decoded images to disk in shards, so that a killed process can resume."""

import errno
import json
import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from pytorch_intro.common.files import atomic_write, write_atomically
from pytorch_intro.data.ingest.parallel import DecodeResult

log = logging.getLogger(__name__)

SHARD_ROWS, SHARD_SECONDS = 2048, 5.0  # a killed process loses one shard at most


class CacheWriter:
    """Appends images and labels to the files of a cache.

    images.npy has its full size from the start. A shard of its rows is complete if its file shard-<first row>.json
    exists: the file, with the shard's labels, is written atomically once the pixels are on disk.

    Args:
        folder: Folder of the files.
        shape: (N, H, W, C) of the complete cache.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder, self.images, self.shape = folder, folder / "images.npy", shape
        self.blank = np.zeros(shape[1:], np.uint8)
        self.shards: list[np.ndarray] = []  # labels of the complete shards
        self.saved = 0  # number of their rows
        self.labels: list[int] = []  # of the current shard
        self.saved_at = time.monotonic()
        self.broken: dict[int, str] = {}  # errors by row
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):  # not started yet, or damaged
            self.resume()

    @property
    def done(self) -> int:
        """Number of rows written."""
        return self.saved + len(self.labels)

    def resume(self) -> None:
        """Load the complete shards of an interrupted process; raises at the first that is missing or damaged."""
        images = np.load(self.images, mmap_mode="r", allow_pickle=False)
        while (images.shape, images.dtype) == (self.shape, np.uint8) and self.saved < len(images):
            shard = json.loads(self.shard_file().read_text())
            labels, broken = np.array(shard["labels"], np.int64), dict(shard["broken"])
            if not 0 < len(labels) <= len(images) - self.saved:
                raise ValueError(f"{len(labels)} labels")
            self.shards.append(labels)
            self.saved += len(labels)
            self.broken |= broken

    def shard_file(self) -> Path:
        return self.folder / f"shard-{self.saved:010}.json"

    def __enter__(self) -> "CacheWriter":
        needed = (self.shape[0] - self.saved) * (self.blank.nbytes + 8)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB free")
        for shard in self.folder.glob("shard-*.json"):
            if shard.name >= self.shard_file().name:  # behind a damaged one, or of a damaged images.npy
                shard.unlink()
        if self.saved:
            log.info("data: resuming after %s images", f"{self.saved:,}")
        mode = "r+" if self.saved else "w+"  # w+ makes a sparse file of the full size
        offset = np.lib.format.open_memmap(self.images, mode, np.uint8, self.shape).offset
        # Writing through the memory map would crash with SIGBUS on a full disk, instead of raising OSError.
        self.file = self.images.open("r+b")
        self.file.seek(offset + self.saved * self.blank.nbytes)
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self.save_shard()

    def append(self, result: DecodeResult) -> None:
        """Write one image, black if it is broken, and its label."""
        self.file.write((self.blank if result.error else result.value.transpose(1, 2, 0)).tobytes())
        if result.error:
            self.broken[self.done] = result.error
        self.labels.append(result.label)
        if len(self.labels) >= SHARD_ROWS or time.monotonic() - self.saved_at > SHARD_SECONDS:
            self.save_shard()

    def save_shard(self) -> None:
        """Complete the current shard, if it has rows."""
        if self.labels:
            self.file.flush()
            os.fsync(self.file.fileno())
            broken = [(row, error) for row, error in self.broken.items() if row >= self.saved]
            write_atomically(self.shard_file(), json.dumps({"labels": self.labels, "broken": broken}))
            self.shards.append(np.array(self.labels, np.int64))
            self.saved, self.labels, self.saved_at = self.done, [], time.monotonic()

    def finish(self) -> None:
        """Merge the shards' labels and broken images into labels.npy and broken.json."""
        self.save_shard()
        with atomic_write(self.folder / "labels.npy") as file:
            np.save(file, np.concatenate(self.shards))
        write_atomically(self.folder / "broken.json", json.dumps(self.broken))
