"""Decoded images, kept in plain files: made once, by one process at a time, and read by all."""

import errno
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from pytorch_intro.atomic import atomic_write
from pytorch_intro.dataset import ImageDataset, MappedDataset
from pytorch_intro.decoder import Decoder
from pytorch_intro.decoding import Seen, seen
from pytorch_intro.errors import UserError, one_line

log = logging.getLogger(__name__)

UNUSED = 3 * 24 * 3600  # seconds, after which no process is likely to read an obsolete cache
SAVE_EVERY = 1.0  # seconds of work that a killed process may lose


class ImageCache:
    """A folder of images.npy (N, C, H, W) uint8, labels.npy (N,) int64, and broken.json.

    It gets its name when it is complete; until then it is <name>.partial, which is carried on where it was left.

    Args:
        folder: Where caches lie.
        subject: What is in it, as the user would say it: which data set, in which size.
        content: The very files that are in it. A cache takes the place of those of the same subject.
    """

    def __init__(self, folder: Path, subject: str, content: str) -> None:
        self.subject = digest(subject)
        self.folder = folder / f"{self.subject}-{digest(content)}"
        self.partial = self.folder.with_suffix(".partial")
        self.images = self.folder / "images.npy"

    def open(self, targets: Tensor, classes: Sequence[str], in_memory: bool) -> ImageDataset:
        """The images with these targets, (N,) int64."""
        with self.readable():
            if in_memory:
                pixels = torch.from_numpy(np.load(self.images, allow_pickle=False))
                images = ImageDataset(pixels, targets, classes)
            else:
                images = MappedDataset(self.images, targets, classes)
            if images.images.dtype != torch.uint8 or len(images.images) != len(targets):
                raise ValueError(f"{len(targets)} images are expected, and {len(images.images)} there")
        images.folder = self.folder
        return images

    def size(self) -> int:
        """In bytes."""
        with self.readable():
            return self.images.stat().st_size

    def labels(self) -> Tensor:
        """(N,) int64; -1 for an image that could not be decoded."""
        with self.readable():
            return torch.from_numpy(np.load(self.folder / "labels.npy", allow_pickle=False))

    def broken(self) -> dict[int, str]:
        """The numbers of images that could not be decoded, and why; their pixels are 0."""
        with self.readable():
            return {int(row): why for row, why in json.loads((self.folder / "broken.json").read_text()).items()}

    def build(
        self, samples: Any, decoder: Callable[[], Decoder], num_workers: int, refuse: Callable[[int, str, bool], None]
    ) -> None:
        """Make it, unless it is there.

        Args:
            samples: `samples[i]` is an image of any kind and its label.
            decoder: Called for the decoder if there is something to decode.
            num_workers: Processes that decode.
            refuse: Called for an image that cannot be decoded, by its number, what is wrong, and
                whether only the system could not read it; may raise.

        Raises:
            UserError: if the folder cannot be written.
        """
        if self.folder.is_dir():
            with suppress(OSError):  # a cache of another user's
                os.utime(self.folder)
            return
        with self.writable(), self.lock():
            if self.folder.is_dir():  # made by another process in the meantime
                return
            started = time.perf_counter()
            made = decoder()
            log.info("data: decoding %s images once, into %s", f"{len(samples):,}", self.folder)
            self.partial.mkdir(exist_ok=True)
            with Rows(self.partial, (len(samples), made.channels, *made.size)) as rows:
                todo = range(rows.done, len(samples))
                for results in seen(samples, made, todo, num_workers, "decoding"):
                    for result in results:
                        if result.error:
                            refuse(rows.done, result.error, result.by_system)
                        rows.append(result)
                rows.complete()
            self.partial.rename(self.folder)
            log.info("data: decoded in %.1f s", time.perf_counter() - started)
            self.remove_older()

    def remove_older(self) -> None:
        """Remove what this cache takes the place of, unless it was begun with, or made, in the last days."""
        for older in self.folder.parent.glob(f"{self.subject}-*"):
            if older.is_dir() and older != self.folder and time.time() - older.stat().st_mtime > UNUSED:
                with suppress(Timeout), FileLock(older.with_suffix(".lock"), timeout=0):
                    shutil.rmtree(older, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process is at this cache; the system frees the lock of one that was killed."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("data: another process is decoding these images; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Tell of a cache that somebody else has cut short or altered."""
        try:
            yield
        except (FileNotFoundError, ValueError, EOFError, AttributeError) as error:
            raise UserError(f"{self.folder} is damaged ({one_line(error)}); remove it, and start again") from error
        except OSError as error:
            raise UserError(f"{self.folder} cannot be read ({error.strerror}); give another data.cache_dir") from error

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Tell of a folder that cannot be written; on a full disk, give back what has been taken."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(self.partial, ignore_errors=True)
            raise UserError(
                f"data.cache_dir: {self.folder} cannot be written ({error.strerror or error}); give a folder on "
                "another disk by data.cache_dir=DIR"
            ) from error


class Rows:
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

    def __enter__(self) -> "Rows":
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


def digest(text: str) -> str:
    """16 characters that stand for the text in a file's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
