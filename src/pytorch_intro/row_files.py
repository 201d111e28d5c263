"""Images and labels on the disk, row after row; a killed process's are carried on as far as they can be relied on."""

import errno
import json
import logging
import os
import shutil
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pytorch_intro.atomic import atomic_write
from pytorch_intro.decoding import Seen

log = logging.getLogger(__name__)

SAVE_EVERY = 1.0  # seconds of work that a killed process may lose


class RowFiles:
    """The files of a cache in the making; rows are appended, and a checksum tells which of them can be relied on.

    Args:
        folder: Of the files.
        shape: (N, C, H, W) when it is complete.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.total = shape[0]
        self.zeros = np.zeros(shape[1:], np.uint8)
        self.images = opened(folder / "images.npy", shape, "|u1")
        self.labels = opened(folder / "labels.npy", shape[:1], "<i8")
        self.start = self.images.tell(), self.labels.tell()
        self.done, self.checksum, self.broken = 0, 0, dict[int, str]()
        self.saved = time.monotonic()
        self.carry_on()

    def __enter__(self) -> "RowFiles":
        needed = (self.total - self.done) * (self.zeros.nbytes + 8)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            self.close()
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB free")
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what has been done, unless it is complete or the disk is full."""
        try:
            if self.done < self.total:
                self.save()
        finally:
            self.close()

    def append(self, result: Seen) -> None:
        pixels = (self.zeros if result.error else result.value).tobytes()
        label = np.int64(result.label).tobytes()
        self.images.write(pixels)
        self.labels.write(label)
        self.checksum = zlib.crc32(label, zlib.crc32(pixels, self.checksum))
        if result.error:
            self.broken[self.done] = result.error
        self.done += 1
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Note how far the files can be relied on."""
        self.images.flush()
        self.labels.flush()
        with atomic_write(self.folder / "progress.json") as file:
            file.write(json.dumps({"done": self.done, "checksum": self.checksum, "broken": self.broken}).encode())
        self.saved = time.monotonic()

    def carry_on(self) -> None:
        """Find the rows that an interrupted process left, if they are what it noted; cut off the others."""
        checksum, row = 0, self.zeros.nbytes
        with suppress(OSError, ValueError, TypeError, KeyError):  # nothing was noted, or it is damaged
            progress = json.loads((self.folder / "progress.json").read_text())
            done, broken = min(progress["done"], self.total), progress["broken"]
            for _ in range(done):
                checksum = zlib.crc32(self.labels.read(8), zlib.crc32(self.images.read(row), checksum))
            if done and checksum == progress["checksum"]:
                self.broken = {int(number): why for number, why in broken.items()}
                self.done, self.checksum = done, checksum
                log.info("data: carrying on after %s images", f"{self.done:,}")
        for file, start, size in zip((self.images, self.labels), self.start, (row, 8), strict=True):
            file.seek(start + self.done * size)
            file.truncate()

    def complete(self) -> None:
        """Bring everything to the disk, so that what is complete by its name is complete after a power cut too."""
        for file in (self.images, self.labels):
            file.flush()
            os.fsync(file.fileno())
        with atomic_write(self.folder / "broken.json") as broken:
            broken.write(json.dumps(self.broken).encode())
        (self.folder / "progress.json").unlink(missing_ok=True)

    def close(self) -> None:
        try:
            self.images.close()
        finally:
            self.labels.close()


def opened(path: Path, shape: tuple[int, ...], dtype: str) -> BinaryIO:
    """A .npy file of that shape, behind its header, which is written if it is not there."""
    file = path.open("r+b" if path.exists() else "w+b")
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # the same bytes as before, if there were some
    return file
