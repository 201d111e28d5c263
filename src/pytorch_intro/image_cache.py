"""Decoded images, kept in plain files: made once, by one process at a time, and read by all."""

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from pytorch_intro.dataset import ImageDataset, MappedDataset
from pytorch_intro.decoder import Decoder
from pytorch_intro.decoding import seen
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.row_files import RowFiles

log = logging.getLogger(__name__)

UNUSED = 3 * 24 * 3600  # seconds, after which no process is likely to read an obsolete cache


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
            with RowFiles(self.partial, (len(samples), made.channels, *made.size)) as rows:
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


def digest(text: str) -> str:
    """16 characters that stand for the text in a file's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
