"""A cache of decoded images in plain files: written once, by one process at a time, and read by all."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from torch import Tensor

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.common.files import atomic_write, write_atomically
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.data.duplicates import hash_images
from pytorch_intro.data.ingest.cache_writer import CacheWriter
from pytorch_intro.data.ingest.decoder import BIT_DEPTHS, Decoder
from pytorch_intro.data.ingest.parallel import parallel_map

try:
    import fcntl
except ImportError:  # Windows, where no open file can be removed
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

DAY = 24 * 3600  # seconds
STALE_AFTER = 3 * DAY  # since the last use of a cache of the same images; unlikely to be in use after that
UNUSED_AFTER = 30 * DAY  # of any other in the folder: of moved images, or of settings that are not used any more
MAX_TOTAL = 3  # all caches of a dataset take this many times the size of the largest one
CACHE_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}(\.partial)?")
CACHE_FILE = re.compile(r"(images|labels|hashes)\.npy|(broken|decoder|shard-\d+)\.json|\..+\.tmp")


class ImageCache:
    """A folder of images.npy (N, H, W, C) uint8, labels.npy and hashes.npy (N,) int64, broken.json and decoder.json.

    Until it is complete, the folder is named <name>.partial; an interrupted one is resumed.

    Args:
        folder: Folder of all caches.
        dataset: Class, folder and arguments of the dataset.
        subject: The same, and the image shape and how it is reached. A new cache replaces older ones of its subject.
        content: Digest of the files.
    """

    def __init__(self, folder: Path, dataset: str, subject: str, content: str) -> None:
        self.dataset = hash_text(dataset)
        self.subject = hash_text(subject)
        self.folder = folder / f"{self.subject}-{hash_text(content)}"
        self.partial = self.folder.with_suffix(".partial")
        self.images = self.folder / "images.npy"
        self.shared_lock: SharedLock | None = None

    def labels(self) -> tuple[Tensor, dict[int, str]]:
        """Return the labels, (N,) int64, -1 for a broken image; and the errors of broken images by row."""
        with self.explain_read_errors():
            labels = torch.from_numpy(np.load(self.folder / "labels.npy", allow_pickle=False))
            broken = json.loads((self.folder / "broken.json").read_text())
            return labels, {int(row): error for row, error in broken.items()}

    def bit_depth(self) -> int:
        """Return the bit depth that 16-bit grayscale images were decoded with."""
        with self.explain_read_errors():
            bit_depth = json.loads((self.folder / "decoder.json").read_text())["bit_depth"]
            if bit_depth not in BIT_DEPTHS:
                raise ValueError(f"bit depth {bit_depth!r}")
            return int(bit_depth)

    def open(self, targets: Tensor, classes: Sequence[str], is_small: Callable[[int], bool]) -> InMemoryImageDataset:
        """Return the images with these targets, (N,) int64; in memory if `is_small` accepts their bytes."""
        with self.explain_read_errors():
            if is_small(self.images.stat().st_size):
                pixels = to_nchw(np.load(self.images, allow_pickle=False))
                images = InMemoryImageDataset(pixels, targets, classes)
            else:
                images = MemmapImageDataset(self.images, targets, classes)
            if images.images.dtype != torch.uint8 or len(images.images) != len(targets):
                raise ValueError(f"{len(images.images)} images instead of {len(targets)}")
            images.hashes = self.hashes(images.images)
            images.cache_lock = self.shared_lock
        return images

    def hashes(self, images: Tensor) -> Tensor:
        """Return the hashes of the images, (N,) int64, from hashes.npy; compute and write it the first time."""
        file = self.folder / "hashes.npy"
        if file.exists():
            hashes = torch.from_numpy(np.load(file, allow_pickle=False))
            if (hashes.dtype, len(hashes)) != (torch.int64, len(images)):
                raise ValueError(f"{len(hashes)} hashes of {len(images)} images")
            return hashes
        hashes = hash_images(images)
        with suppress(OSError), atomic_write(file) as written:  # the cache of another user, or a full disk
            np.save(written, hashes.numpy())
        return hashes

    def build(
        self,
        samples: Any,
        decoder: Callable[[], Decoder],
        num_workers: int,
        handle_broken: Callable[[int, str, bool], None],
    ) -> None:
        """Decode all images, unless the cache exists.

        Args:
            samples: Dataset of (image, label) pairs.
            decoder: Factory of the decoder, called only if something is decoded.
            num_workers: Processes that decode.
            handle_broken: Function of (row, error, is_io_error), called for broken images; may raise.

        Raises:
            UserError: if the folder cannot be written.
        """
        with self.explain_write_errors():
            if self.exists():
                with suppress(OSError):  # the cache of another user
                    os.utime(self.folder)
                return
        with self.explain_write_errors(), self.lock():
            if self.exists():  # another process has built it
                return
            started = time.perf_counter()
            decode = decoder()
            log.info("data: decoding %s images once, into %s", f"{len(samples):,}", self.folder)
            self.partial.mkdir(exist_ok=True)
            facts = {"bit_depth": decode.bit_depth, "dataset": self.dataset}
            write_atomically(self.partial / "decoder.json", json.dumps(facts))
            with CacheWriter(self.partial, (len(samples), *decode.size, decode.channels)) as writer:
                todo = range(writer.done, len(samples))
                for results in parallel_map(samples, decode, todo, num_workers, "decoding"):
                    for result in results:
                        if result.error:
                            handle_broken(writer.done, result.error, result.is_io_error)
                        writer.append(result)
                writer.finish()
            self.partial.rename(self.folder)
            self.shared_lock = SharedLock(self.images)
            for shard in self.folder.glob("shard-*.json"):  # not before: a process killed here would start over
                shard.unlink()
            log.info("data: decoded in %.1f s", time.perf_counter() - started)
            self.prune()

    def exists(self) -> bool:
        """Return whether the cache is complete; if so, lock it, so that no other process removes it."""
        if not self.folder.is_dir():
            return False
        self.shared_lock = SharedLock(self.images)
        return self.folder.is_dir()  # unless another process has removed it until now

    def prune(self) -> None:
        """Remove caches that have not been used for long, and the least recently used ones of a dataset with too many.

        Only folders with nothing but the files of a cache are removed, and none that a process uses.
        """
        others = [path for path in self.folder.parent.iterdir() if path != self.folder and is_cache(path)]
        others.sort(key=last_use, reverse=True)
        for other in others:
            limit = STALE_AFTER if other.name.startswith(f"{self.subject}-") else UNUSED_AFTER
            if time.time() - last_use(other) >= limit:
                remove_cache(other, f"not used for {limit // DAY} days")
        if fcntl is None:  # then it is not known which ones are in use
            return
        sizes = {path: size_of(path) for path in [self.folder, *others] if dataset_of(path) == self.dataset}
        limit, total = MAX_TOTAL * max(sizes.values(), default=0), 0
        for path, size in sizes.items():
            total += size
            if total > limit:
                remove_cache(path, f"all caches of these images take at most {MAX_TOTAL} times the largest one")

    def lock(self) -> AcquireReturnProxy:
        """Wait until no other process builds this cache; the system releases the lock of a killed process."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_suffix(".lock"))
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            log.info("data: waiting for another process that is decoding these images")
            return lock.acquire()

    @contextmanager
    def explain_read_errors(self) -> Iterator[None]:
        """Turn errors of a truncated, altered or unreadable cache into a UserError."""
        try:
            yield
        except (FileNotFoundError, ValueError, EOFError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder}: corrupt cache ({first_lines(error)}); remove it, then rerun") from error
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be read ({error.strerror}); use another folder: data.cache_dir=DIR"
            ) from error

    @contextmanager
    def explain_write_errors(self) -> Iterator[None]:
        """Turn errors of writing into a UserError; on a full disk, free the space again."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(self.partial, ignore_errors=True)
            raise UserError(
                f"data.cache_dir: {self.folder} cannot be written ({error.strerror or error}); use a folder on "
                "another disk: data.cache_dir=DIR"
            ) from error


class MemmapImageDataset(InMemoryImageDataset):
    """Images in a memory-mapped .npy file: paged in on access, dropped when memory is short.

    Processes share the pages. Pickling sends the file name, not the images.
    """

    storage = "memory-mapped"

    def __init__(self, file: Path, targets: Tensor, classes: Sequence[str]) -> None:
        self.file = file
        super().__init__(load_memmap(file), targets, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, images=load_memmap(state["file"]))


def is_cache(folder: Path) -> bool:
    """Return whether a folder is a cache, by its name and the names of all its files."""
    is_named = CACHE_NAME.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
    with suppress(FileNotFoundError):  # another process removes it
        return bool(is_named) and all(CACHE_FILE.fullmatch(file.name) and file.is_file() for file in folder.iterdir())
    return False


class SharedLock:
    """A lock on a file that any number of processes can hold; the system releases it when a process ends.

    It does nothing on Windows, on file systems without locks, and for a missing file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.descriptor: int | None = None
        if fcntl is not None:
            with suppress(OSError):
                self.descriptor = os.open(file, os.O_RDONLY)
                fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def __del__(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def __reduce__(self) -> tuple[type["SharedLock"], tuple[Path]]:
        return SharedLock, (self.file,)  # a worker process locks the file itself


@contextmanager
def exclusive_lock(file: Path) -> Iterator[None]:
    """Lock a file, or raise an OSError if another process has locked it; a missing file needs no lock."""
    if fcntl is None or not file.exists():
        yield
        return
    with file.open("r+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_cache(folder: Path, reason: str) -> None:
    """Remove a cache and log the reason, unless a process is building it or uses it."""
    building = FileLock(folder.with_suffix(".lock"), timeout=0)
    with suppress(Timeout, OSError), building, exclusive_lock(folder / "images.npy"):
        size = size_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("data: removed the cache %s (%.1f MB), %s", folder, size / 1e6, reason)


def last_use(folder: Path) -> float:
    """Return the time of the last use of a cache, in seconds; 0 if it was removed meanwhile."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def size_of(folder: Path) -> int:
    """Return the bytes of a cache; a partial one has the size of the complete one."""
    with suppress(FileNotFoundError):  # another process removes it
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def dataset_of(folder: Path) -> str | None:
    """Return the hash of the dataset that a cache belongs to; None if it is not known."""
    try:
        dataset = json.loads((folder / "decoder.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(dataset)


def load_memmap(file: Path) -> Tensor:
    """Memory-map the images in a .npy file; writes to the tensor never reach the file."""
    return to_nchw(np.load(file, mmap_mode="c", allow_pickle=False))


def to_nchw(images: np.ndarray) -> Tensor:
    """View images (N, H, W, C) as a tensor (N, C, H, W) with channels last."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2))


def hash_text(text: str) -> str:
    """Return 16 hexadecimal digits that identify the text."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
