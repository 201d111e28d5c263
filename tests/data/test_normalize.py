"""Normalization equals torchvision's, and mean and std are those of the images."""

from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from pytorch_intro.data.dataset import ImageSubset, InMemoryImageDataset
from pytorch_intro.data.normalize import Normalize, cached_mean_std, channel_statistics


def test_normalize_equals_torchvision() -> None:
    images = torch.randint(0, 256, (5, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.01]
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(images)
    torch.testing.assert_close(Normalize(mean, std)(images), theirs, rtol=1e-5, atol=1e-5)


def test_normalize_runs_on_the_device_of_the_images() -> None:
    assert Normalize([0.5], [0.5])(torch.zeros(2, 1, 3, 3, dtype=torch.uint8, device="meta")).device.type == "meta"


def some_images(count: int = 40) -> InMemoryImageDataset:
    images = torch.randint(0, 200, (count, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] //= 2
    images[:, 2] = 0
    return InMemoryImageDataset(images, torch.zeros(count, dtype=torch.int64), ["a", "b"])


def test_statistics_are_those_of_the_pixels_of_the_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any chunk size; the std of a constant channel is 1, so that it normalizes to 0."""
    dataset = some_images()
    subset = ImageSubset(dataset, torch.arange(3, 20))
    pixels = dataset.images[3:20].double() / 255
    for chunk in (2**26, 1000):
        monkeypatch.setattr("pytorch_intro.data.normalize.STATS_CHUNK_BYTES", chunk)
        mean, std = channel_statistics(subset)
        assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
        assert std[:2] == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist()[:2])
        assert std[2] == 1


def test_statistics_are_cached_per_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = some_images()
    dataset.folder = tmp_path
    first, other = ImageSubset(dataset, torch.arange(20)), ImageSubset(dataset, torch.arange(20, 40))
    computed = cached_mean_std(first), cached_mean_std(other)
    assert computed[0] != computed[1]
    monkeypatch.delattr("pytorch_intro.data.normalize.channel_statistics")
    assert (cached_mean_std(first), cached_mean_std(other)) == computed
