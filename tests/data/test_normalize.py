"""Normalization equals torchvision's, and mean and std are those of the images."""

import pytest
import torch
from torchvision.transforms import v2

from pytorch_intro.data.dataset import ImageSubset, InMemoryImageDataset
from pytorch_intro.data.normalize import Normalize, channel_statistics, resolve_mean_std


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


@pytest.mark.parametrize("given", [None, [0.1, 0.2, 0.3]])
def test_missing_mean_or_std_is_computed_from_the_subset(given: list[float] | None) -> None:
    subset = ImageSubset(some_images(), torch.arange(3, 20))
    mean, std = channel_statistics(subset)
    assert resolve_mean_std(subset, given, None) == (given or mean, std)
    assert resolve_mean_std(subset, None, given) == (mean, given or std)


def test_statistics_of_many_images_are_those_of_a_random_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if images of two kinds alternate: evenly spaced ones could be of one kind. The same at every start."""
    monkeypatch.setattr("pytorch_intro.data.normalize.STATS_SAMPLE", 500)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(1000).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    subset = ImageSubset(InMemoryImageDataset(pixels, torch.zeros(2000, dtype=torch.int64), ["a"]), torch.arange(2000))
    (mean,), (std,) = resolve_mean_std(subset, None, None)
    assert mean == pytest.approx(0.5, abs=0.1)
    assert mean != 0.5, "not of all images"
    assert std == pytest.approx(0.5, abs=0.1)
    assert resolve_mean_std(subset, None, None) == ([mean], [std])
