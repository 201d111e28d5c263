"""Writes decoded images to disk in shards, so that a killed process can resume."""

import errno
import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from pytorch_intro.atomic import atomic_write, write_atomically
from pytorch_intro.decoding import DecodeResult

log = logging.getLogger(__name__)

SHARD_ROWS = 2048  # a killed process loses one shard at most


class CacheWriter:
    """Appends images and labels to the files of a cache.

    images.npy has its full size from the start. A shard of its rows is complete if its file shard-<first row>.json
    exists: the file, with the shard's labels, is written atomically once the pixels are on disk.

    Args:
        folder: Folder of the files.
        shape: (N, C, H, W) of the complete cache.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.images = folder / "images.npy"
        self.shape = shape
        self.blank = np.zeros(shape[1:], np.uint8)
        self.saved = self.resume()  # rows in complete shards
        self.labels: list[int] = []  # of the current shard
        self.broken: dict[int, str] = {}

    @property
    def done(self) -> int:
        """Number of rows written."""
        return self.saved + len(self.labels)

    def resume(self) -> int:
        """Return the number of rows that an interrupted process left in complete shards."""
        saved = 0
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):  # not started yet, or damaged
            images = np.load(self.images, mmap_mode="r", allow_pickle=False)
            if (images.shape, images.dtype) == (self.shape, np.uint8):
                while saved < self.shape[0]:
                    saved += len(self.read_shard(saved)[0])
        if saved:
            log.info("data: resuming after %s images", f"{saved:,}")
        return saved

    def read_shard(self, first_row: int) -> tuple[np.ndarray, dict[int, str]]:
        """Return the labels of a shard, (rows,) int64, and the errors of its broken images by row."""
        shard = json.loads(self.shard_file(first_row).read_text())
        labels, broken = np.array(shard["labels"], np.int64), dict(shard["broken"])
        if not 0 < len(labels) <= self.shape[0] - first_row:
            raise ValueError(f"{len(labels)} labels")
        return labels, broken

    def shard_file(self, first_row: int) -> Path:
        return self.folder / f"shard-{first_row:010}.json"

    def __enter__(self) -> "CacheWriter":
        needed = (self.shape[0] - self.saved) * (self.blank.nbytes + 8)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB free")
        for shard in self.folder.glob("shard-*.json"):
            if shard.name >= self.shard_file(self.saved).name:  # behind a damaged one, or of a damaged images.npy
                shard.unlink()
        mode = "r+" if self.saved else "w+"  # w+ makes a sparse file of the full size
        offset = np.lib.format.open_memmap(self.images, mode, np.uint8, self.shape).offset
        # Writing through the memory map would crash with SIGBUS on a full disk, instead of raising OSError.
        self.file = self.images.open("r+b")
        self.file.seek(offset + self.saved * self.blank.nbytes)
        return self

    def __exit__(self, *_: object) -> None:
        """Save the rows of an incomplete shard."""
        with self.file:
            self.save_shard()

    def append(self, result: DecodeResult) -> None:
        """Write one image, black if it is broken, and its label."""
        self.file.write((self.blank if result.error else result.value).tobytes())
        if result.error:
            self.broken[self.done] = result.error
        self.labels.append(result.label)
        if len(self.labels) >= SHARD_ROWS:
            self.save_shard()

    def save_shard(self) -> None:
        """Complete the current shard, if it has rows."""
        if not self.labels:
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        shard = {"labels": self.labels, "broken": list(self.broken.items())}
        write_atomically(self.shard_file(self.saved), json.dumps(shard))
        self.saved, self.labels, self.broken = self.done, [], {}

    def finish(self) -> None:
        """Merge the shards' labels and broken images into labels.npy and broken.json."""
        self.save_shard()
        labels, broken, row = np.empty(self.shape[0], np.int64), dict[int, str](), 0
        while row < len(labels):
            shard, errors = self.read_shard(row)
            labels[row : row + len(shard)] = shard
            broken |= errors
            row += len(shard)
        with atomic_write(self.folder / "labels.npy") as file:
            np.save(file, labels)
        write_atomically(self.folder / "broken.json", json.dumps(broken))
