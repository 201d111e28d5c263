"""Exact and near duplicates: by the hash of all pixels, and by a perceptual hash."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pytorch_intro.data.resize import interpolation_weights, resample

SIDE = 32  # pixels of a thumbnail
COMPARISONS = 50_000_000  # per sorted order; up to 7,000 images, each is compared with each
MIN_WINDOW = 64  # images that each is compared with in each sorted order, however many there are
MAX_CANDIDATES = 2_000_000  # pairs in memory; if there are more, fewer bits may differ
MIN_DETAIL = 2.0  # standard deviation of the gray levels below which an image has no recognizable content
CROPS = (0.03, 0.06)  # shares of a side that are cut off


@dataclass(frozen=True)
class Criterion:
    """When two images count as almost the same.

    Args:
        max_distance: Bits of the perceptual hashes that may differ.
        min_overall: Correlation of the thumbnails.
        min_details: Correlation of what a blur removes from them.
        tries_crops: Whether to compare crops, too.
    """

    max_distance: int
    min_overall: float
    min_details: float
    tries_crops: bool


SMALL_SIDE = 64  # pixels; the median shorter side from which images count as photographs
# For photographs (113 of them, each resized, compressed or cropped by 3 pixels; and all pairs of different ones). Small
# images have little detail: in Fashion-MNIST, different clothes correlate up to 0.98.
PHOTOS = Criterion(max_distance=10, min_overall=0.9, min_details=0.9, tries_crops=True)
SMALL_IMAGES = Criterion(max_distance=4, min_overall=0.98, min_details=0.985, tries_crops=False)


def thumbnails(images: Tensor) -> Tensor:
    """Return gray thumbnails; (N, C, H, W) uint8 to (N, SIDE, SIDE) float32."""
    gray = images.float().mean(dim=1, keepdim=True)
    return interpolate(gray, size=(SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]


def perceptual_hash(thumbs: Tensor) -> np.ndarray:
    """Return a 64-bit perceptual hash: the signs of the 64 lowest frequencies of the discrete cosine transform.

    (N, SIDE, SIDE) float32 to (N,) uint64. Resizing and compression change only a few bits of it.
    """
    positions = (torch.arange(SIDE) + 0.5) * torch.pi / SIDE
    cosines = torch.cos(torch.arange(11)[:, None] * positions)  # (11, SIDE)
    frequencies = [(row, column) for row in range(11) for column in range(11)]
    lowest = sorted(frequencies, key=lambda pair: (sum(pair), pair))[1:65]  # without the mean
    rows, columns = torch.tensor(lowest).T
    signs = (cosines @ thumbs @ cosines.T)[:, rows, columns] > 0  # (N, 64)
    return np.packbits(signs.numpy(), axis=1).view(np.uint64)[:, 0]


def find_candidates(phash: np.ndarray, max_distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows whose hashes differ in few bits, the most similar first: (P, 2) int64, and (P,) distances.

    Few images are compared each with each. Many are sorted in four orders, each by another 16 bits first, and compared
    with the next ones in each order: a near duplicate shares one of the four with high probability.

    Args:
        phash: Perceptual hashes, (N,) uint64.
        max_distance: Number of bits that may differ.
    """
    total = len(phash)
    window = min(total - 1, max(MIN_WINDOW, COMPARISONS // max(1, total)))
    pairs: np.ndarray = np.zeros((0, 2), np.int64)
    distances: np.ndarray = np.zeros(0, np.uint8)
    for shift in (0, 16, 32, 48) if window < total - 1 else (0,):
        rotated = (phash << np.uint64(shift)) | (phash >> np.uint64((64 - shift) % 64)) if shift else phash
        order = np.argsort(rotated, kind="stable")
        ordered = rotated[order]
        new_pairs, new_distances, count = [pairs], [distances], len(pairs)
        for step in range(1, window + 1):
            distance = np.bitwise_count(ordered[step:] ^ ordered[:-step])
            near = np.flatnonzero(distance <= max_distance)
            new_pairs.append(np.sort(np.stack([order[near], order[near + step]], axis=1), axis=1))
            new_distances.append(distance[near])
            count += len(near)
            if count > MAX_CANDIDATES:
                pairs, distances = nearest_pairs(new_pairs, new_distances, MAX_CANDIDATES // 2)
                max_distance = int(distances.max(initial=0))
                new_pairs, new_distances, count = [pairs], [distances], len(pairs)
        pairs, distances = nearest_pairs(new_pairs, new_distances, MAX_CANDIDATES)
    return pairs, distances


def nearest_pairs(
    pairs: Sequence[np.ndarray], distances: Sequence[np.ndarray], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return up to `limit` different pairs, the most similar first, and their distances."""
    found, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    bits = np.concatenate(distances)[first]
    nearest = np.argsort(bits, kind="stable")[:limit]
    return found[nearest], bits[nearest]


def score_pairs(first: Tensor, second: Tensor, criterion: Criterion) -> tuple[Tensor, Tensor]:
    """Return whether the images of each pair are almost the same, (N,) bool, and how their details correlate, (N,).

    Args:
        first, second: Thumbnails, (N, SIDE, SIDE) float32.
        criterion: Limits of both correlations; with tries_crops, the crop with the best details counts.
    """
    overall = correlation(first, second)
    details = correlation(high_pass(first), high_pass(second))
    may_be_crop = (overall >= 0.7) & (details < criterion.min_details)
    rows = may_be_crop.nonzero().flatten()
    if criterion.tries_crops and len(rows):
        for a, b in ((first[rows], second[rows]), (second[rows], first[rows])):
            fine_b = high_pass(b)
            for crop in iter_crops(a):
                fine = correlation(high_pass(crop), fine_b)
                is_better = fine > details[rows]
                details[rows[is_better]] = fine[is_better]
                overall[rows[is_better]] = correlation(crop[is_better], b[is_better])
    return (overall >= criterion.min_overall) & (details >= criterion.min_details), details


def iter_crops(thumbs: Tensor) -> Iterator[Tensor]:
    """Yield crops of the thumbnails by some percent of their sides, resized to the same size."""
    boxes = [(0.0, 1.0), *((start * cut, 1 - cut) for cut in CROPS for start in (0.0, 0.5, 1.0))]
    starts, lengths = SIDE * torch.tensor(boxes).T
    matrices = interpolation_weights(starts, lengths, SIDE, SIDE)  # (boxes, SIDE, SIDE)
    for rows in matrices:
        for columns in matrices:
            yield resample(thumbs[:, None], rows[None], columns[None])[:, 0]


def high_pass(thumbs: Tensor) -> Tensor:
    """Return what a blur of 5 x 5 pixels removes."""
    return thumbs - avg_pool2d(thumbs[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of the pixels of each pair, (N,)."""
    a, b = ((values - values.mean(dim=1, keepdim=True)) for values in (first.flatten(1), second.flatten(1)))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)
