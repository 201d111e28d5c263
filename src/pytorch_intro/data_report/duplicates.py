"""Groups of exact duplicates, and pairs of near duplicates, among all images of a survey."""

from dataclasses import dataclass

import numpy as np
import torch

from pytorch_intro.data_report.inspection import BROKEN, NO_DETAIL
from pytorch_intro.data_report.similar import PHOTOS, SMALL_IMAGES, SMALL_SIDE, find_candidates, score_pairs
from pytorch_intro.data_report.survey import Survey

MAX_CHECKED, MAX_CROPPED = 50_000, 5_000  # candidates that are compared by their pixels, and with crops of them
CHUNK = 512


@dataclass
class NearDuplicates:
    """Pairs of images that look the same.

    Attributes:
        pairs: Rows, (P, 2) int64, the most similar pair first.
        scores: Correlation of the details, (P,) float32.
        num_candidates: Pairs whose perceptual hashes differ in few bits.
        num_checked: Candidates that were compared by their pixels.
    """

    pairs: np.ndarray
    scores: np.ndarray
    num_candidates: int
    num_checked: int


def find_exact_duplicates(survey: Survey) -> list[np.ndarray]:
    """Return groups of rows with the same pixels, ordered by their first row."""
    rows = np.flatnonzero((survey.facts["flags"] & BROKEN) == 0)
    order = rows[np.argsort(survey.facts["pixels"][rows], kind="stable")]
    hashes = survey.facts["pixels"][order]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    lengths = np.diff(np.append(starts, len(order)))
    groups = [order[start : start + length] for start, length in zip(starts, lengths, strict=True) if length > 1]
    return sorted(groups, key=lambda group: int(group[0]))


def find_near_duplicates(survey: Survey) -> NearDuplicates:
    """Return pairs of images that look the same, but have different pixels.

    Perceptual hashes find candidates. Since many different images of low detail share a hash, each candidate is then
    compared by its pixels: the thumbnails have to correlate, and so do the details that a blur removes from them.
    """
    facts = survey.facts
    usable = np.flatnonzero((facts["flags"] & (BROKEN | NO_DETAIL)) == 0)
    _, first = np.unique(facts["pixels"][usable], return_index=True)  # one of each exact duplicate
    rows = usable[np.sort(first)]
    shorter = np.minimum(facts["width"][rows], facts["height"][rows])
    criterion = SMALL_IMAGES if len(rows) and np.median(shorter) < SMALL_SIDE else PHOTOS
    candidates, _ = find_candidates(facts["phash"][rows], criterion.max_distance)
    checked = rows[candidates[: MAX_CROPPED if criterion.tries_crops else MAX_CHECKED]]
    readable, thumbs = survey.thumbnails(checked.ravel())
    checked = checked[np.isin(checked, readable).all(axis=1)]
    positions = torch.from_numpy(np.searchsorted(readable, checked))
    is_similar, scores = torch.zeros(len(checked), dtype=torch.bool), torch.zeros(len(checked))
    for chunk in torch.arange(len(checked)).split(CHUNK):
        one, other = positions[chunk].T
        is_similar[chunk], scores[chunk] = score_pairs(thumbs[one], thumbs[other], criterion)
    found = is_similar.nonzero().flatten()
    found = found[scores[found].argsort(descending=True, stable=True)]
    return NearDuplicates(checked[found.numpy()], scores[found].numpy(), len(candidates), len(checked))
