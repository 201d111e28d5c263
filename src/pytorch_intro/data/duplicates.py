"""Images that occur in several splits: found by a hash of their pixels, counted and dropped."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError

if TYPE_CHECKING:
    from pytorch_intro.data.dataset import ImageSubset

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**18  # stays in the CPU's cache


def hash_images(images: Tensor) -> Tensor:
    """Return a 64-bit hash of the pixels and shape of each image; (N, C, H, W) uint8 to (N,) int64.

    The sum over all 8-byte words of SplitMix64 (Steele et al. 2014) of the word plus a random key of its position. For
    a million images, the probability that two different ones share a hash is 3e-8.
    """
    pixels, size = images.numpy(), math.prod(images.shape[1:])
    words = -(-size // 8)
    keys = np.random.default_rng([*images.shape[1:]]).integers(2**64, size=words, dtype=np.uint64)
    rows = max(1, CHUNK_BYTES // (8 * words))
    padded = np.zeros((min(rows, len(pixels)), 8 * words), np.uint8)
    hashes = np.zeros(len(pixels), np.uint64)
    for start in range(0, len(pixels), rows):
        chunk = pixels[start : start + rows]
        padded[: len(chunk), :size] = chunk.reshape(len(chunk), size)  # a copy, if channels are stored last
        hashes[start : start + rows] = mix(padded[: len(chunk)].view(np.uint64) + keys).sum(axis=1)
    return torch.from_numpy(hashes.view(np.int64))


def mix(words: np.ndarray) -> np.ndarray:
    """Change an array of uint64 in place, one to one, so that each bit depends on all bits of the word."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def handle_duplicates(train: "ImageSubset", others: Mapping[str, "ImageSubset | None"], drop: bool) -> "ImageSubset":
    """Warn of training images that occur in the other splits, or return the training images without them.

    Args:
        train: Training images.
        others: Validation and test images by name.
        drop: Whether to drop them from the training images.

    Raises:
        UserError: if they are to be dropped, and images are decoded on the fly, or a class would lose all its images.
    """
    train_hashes = subset_hashes(train)
    hashes = {name: subset_hashes(subset) for name, subset in others.items() if subset is not None}
    if train_hashes is None or any(values is None for values in hashes.values()):
        if drop:
            raise UserError(
                f"data.drop_duplicates=true: the images are {train.dataset.storage}, and duplicates are found among "
                "decoded images; use data.cache=decoded, or data.drop_duplicates=false"
            )
        return train
    found = {name: torch.isin(values, train_hashes) for name, values in hashes.items() if values is not None}
    counts = {name: int(mask.sum()) for name, mask in found.items()}
    if not any(counts.values()):
        return train
    listed = " and ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if not drop:
        shares = ", ".join(f"{mask.float().mean():.2%} of {name}" for name, mask in found.items() if mask.any())
        log.log(
            logging.WARNING if is_rank_zero() else logging.INFO,
            f"data: {listed} images are also training images ({shares}); see data_report.py, or use "
            "data.drop_duplicates=true",
        )
        return train
    is_elsewhere = torch.isin(train_hashes, torch.cat([values for values in hashes.values() if values is not None]))
    kept = train.take(~is_elsewhere)
    check_classes_remain(train, kept)
    log.info(f"data: dropped {int(is_elsewhere.sum()):,} training images, which are also {listed} images")
    return kept


def warn_about_several_labels(subsets: Sequence["ImageSubset"]) -> None:
    """Warn of images that occur several times, with different labels, in subsets of the same classes."""
    classes = subsets[0].dataset.classes
    subsets = [subset for subset in subsets if subset.dataset.classes == classes]
    hashes = [subset_hashes(subset) for subset in subsets]
    known = [values for values in hashes if values is not None]
    if len(known) < len(hashes):
        return
    targets = torch.cat([subset.targets for subset in subsets])
    values, order = torch.cat(known).sort(stable=True)
    first, second = order[:-1], order[1:]  # neighbors have equal hashes if they are the same image
    rows = ((values[:-1] == values[1:]) & (targets[first] != targets[second])).nonzero().flatten()
    if not len(rows) or not is_rank_zero():
        return
    both = torch.stack([targets[first[rows]], targets[second[rows]]], dim=1).sort(dim=1).values
    pairs = Counter(map(tuple, both.tolist()))
    listed = ", ".join(f"{classes[a]} and {classes[b]}" for (a, b), _ in pairs.most_common(3))
    log.warning(
        f"data: {len(values[rows].unique()):,} image(s) are in several classes, pixel by pixel "
        f"({listed}{', …' * (len(pairs) > 3)}); data_report.py lists them"
    )


def subset_hashes(subset: "ImageSubset") -> Tensor | None:
    """Return the hash of each image, (N,) int64; None if the images are decoded on the fly."""
    hashes = subset.dataset.pixel_hashes()
    return None if hashes is None else hashes[subset.indices]


def check_classes_remain(before: "ImageSubset", after: "ImageSubset") -> None:
    """Raise a UserError if a class has lost all its images."""
    classes = before.dataset.classes
    counts = torch.bincount(before.targets, minlength=len(classes))
    remaining = torch.bincount(after.targets, minlength=len(classes))
    for number in ((counts > 0) & (remaining == 0)).nonzero().flatten().tolist():
        raise UserError(
            f"data.drop_duplicates=true: all {counts[number]:,} training images of class {classes[number]} are also "
            "validation or test images; add others, or use data.drop_duplicates=false"
        )
