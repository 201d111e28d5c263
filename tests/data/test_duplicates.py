"""Images that occur in two splits are counted at the start, and dropped from training on request."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose, sample_datamodule
from PIL import Image

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data import dataset as dataset_module
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.duplicates import CHUNK_BYTES, hash_images
from pytorch_intro.data.ingest import cache as cache_module


def random_images(count: int, channels: int = 1, side: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def write_png(path: Path, pixels: torch.Tensor, compress_level: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0].numpy()).save(path, compress_level=compress_level)


def setup(*overrides: str) -> DataModule:
    datamodule: DataModule = instantiate(compose(*overrides).data, "data")
    datamodule.setup("fit")
    datamodule.setup("test")
    return datamodule


# Hashes


def test_hash_depends_on_every_pixel() -> None:
    image = random_images(1, channels=3, side=7)
    changed = image.repeat(image.numel(), 1, 1, 1)
    changed.flatten(1).diagonal().bitwise_xor_(128)  # the highest bit of one pixel of each
    hashes = hash_images(torch.cat([image, changed]))
    assert len(hashes.unique()) == 1 + image.numel()


def test_hash_separates_images_that_differ_by_one_level_in_two_pixels() -> None:
    """Such changes cancel in a plain sum of products."""
    rows, columns = torch.triu_indices(64, 64, offset=1)
    images = torch.full((2 * len(rows), 64), 100, dtype=torch.uint8)
    numbers = torch.arange(len(rows))
    for sign in (0, 1):
        images[2 * numbers + sign, rows] += 1
        images[2 * numbers + sign, columns] += 1 if sign else 255  # 255 is -1
    assert len(hash_images(images.view(-1, 1, 8, 8)).unique()) == len(images) == 4032


def test_hash_does_not_depend_on_the_batch() -> None:
    images = random_images(CHUNK_BYTES // 800 + 3, side=28)  # more than one chunk
    hashes = hash_images(images)
    assert torch.equal(hashes[-5:], hash_images(images[-5:]))
    assert torch.equal(hashes[0], hash_images(images[:1])[0])
    assert len(hashes.unique()) == len(images)


def test_hash_depends_on_the_shape() -> None:
    black = [torch.zeros(1, *shape, dtype=torch.uint8) for shape in ((1, 4, 6), (1, 6, 4), (3, 4, 2), (1, 4, 7))]
    assert len({int(hash_images(image)) for image in black}) == 4


def test_hash_of_no_images_is_empty() -> None:
    assert hash_images(torch.zeros(0, 1, 4, 4, dtype=torch.uint8)).shape == (0,)


# Folders and CSV files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of six training and three test images; two test images of cat are training images, encoded again."""
    images = random_images(18)
    for number in range(12):
        write_png(tmp_path / f"images/train/{'cat' if number < 6 else 'dog'}/{number:02}.png", images[number])
    for number in range(12, 18):
        source = {12: 0, 13: 7}.get(number, number)
        name = "cat" if number < 15 else "dog"
        write_png(tmp_path / f"images/test/{name}/{number}.png", images[source], compress_level=1)
    return tmp_path / "images"


LINE = "data: 2 test images are also training images (33.33% of test); see data_report.py, or use"


def test_duplicates_in_a_folder_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of the test images has the training image's label, the other has another one."""
    caplog.set_level(logging.INFO)
    data = setup("data=folder", f"data.root={folder}", "data.val_fraction=0")
    (warning,) = [record for record in caplog.records if "also training" in record.getMessage()]
    assert warning.levelno == logging.WARNING
    assert warning.getMessage() == f"{LINE} data.drop_duplicates=true"
    assert len(data.train_set) == 12


def test_an_image_in_two_classes_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the splits; the test image 13 of the class cat is the training image 7, a dog."""
    setup("data=folder", f"data.root={folder}", "data.val_fraction=0")
    assert "data: 1 image(s) are in several classes, pixel by pixel (cat and dog); data_report.py lists" in caplog.text
    caplog.clear()
    (folder / "test/cat/13.png").unlink()
    setup("data=folder", f"data.root={folder}", "data.val_fraction=0")
    assert "several classes" not in caplog.text


def test_duplicates_in_a_csv_file_are_counted(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = [f"{path.as_posix()},{path.parts[1]},{path.parts[0]}" for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    setup("data=csv", f"data.root={folder}", f"data.labels={tmp_path / 'labels.csv'}", "data.val_fraction=0")
    assert LINE in caplog.text


def test_dropped_duplicates_are_gone_from_training_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    arguments = ["data=folder", f"data.root={folder}", "data.val_fraction=0", "data.drop_duplicates=true"]
    data, again = setup(*arguments), setup(*arguments)
    assert "data: dropped 2 training images, which are also 2 test images" in caplog.text
    assert "also training" not in caplog.text
    assert data.test_set is not None
    assert (len(data.train_set), len(data.test_set)) == (10, 6)
    assert torch.equal(data.train_set.indices, again.train_set.indices)
    train, test = (
        {*hash_images(subset.__getitems__(range(len(subset)))[0]).tolist()}
        for subset in (data.train_set, data.test_set)
    )
    assert not train & test
    assert data.hparams["trained_on"] == again.hparams["trained_on"]


def test_duplicates_between_training_and_validation_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = random_images(20)
    for number in range(40):  # each image twice
        write_png(tmp_path / f"images/{'ab'[number % 2]}/{number:02}.png", images[number // 4 * 2 + number % 2])
    arguments = ["data=folder", f"data.root={tmp_path / 'images'}", "data.test_fraction=0", "data.val_fraction=0.2"]
    caplog.set_level(logging.INFO)
    before, after = setup(*arguments), setup(*arguments, "data.drop_duplicates=true")
    assert before.val_set is not None
    assert after.val_set is not None
    assert "validation images are also training images" in caplog.text
    assert torch.equal(before.val_set.indices, after.val_set.indices)
    hashes = before.train_set.dataset.pixel_hashes()
    assert hashes is not None
    expected = [row for row in before.train_set.indices.tolist() if hashes[row] not in hashes[before.val_set.indices]]
    assert after.train_set.indices.tolist() == expected
    assert len(expected) < len(before.train_set)


def test_a_class_that_would_lose_all_images_is_refused(folder: Path) -> None:
    for number in range(6):
        shutil.copy(folder / f"train/cat/{number:02}.png", folder / f"test/cat/copy-{number}.png")
    with pytest.raises(UserError, match="all 6 training images of class cat are also validation or test images; add"):
        setup("data=folder", f"data.root={folder}", "data.val_fraction=0", "data.drop_duplicates=true")


def test_without_a_cache_duplicates_are_not_looked_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["data=folder", f"data.root={folder}", "data.val_fraction=0", "data.cache=none", "data.num_workers=0"]
    setup(*arguments)
    assert "also training" not in caplog.text
    with pytest.raises(
        UserError, match=r"data\.drop_duplicates=true: the images are loaded on the fly.*use data\.cache=decoded"
    ):
        setup(*arguments, "data.drop_duplicates=true")


def test_hashes_are_kept_with_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed once, and again when a file has changed."""
    hashed = [0]

    def count(images: torch.Tensor) -> torch.Tensor:
        hashed[0] += len(images)
        return hash_images(images)

    for module in (cache_module, dataset_module):
        monkeypatch.setattr(module, "hash_images", count)
    arguments = [
        "data=folder",
        f"data.root={folder}",
        "data.val_fraction=0",
        f"data.cache_dir={folder.parent / 'cache'}",
    ]
    first = setup(*arguments).train_set.dataset.pixel_hashes()
    second = setup(*arguments, "data.in_memory=false").train_set.dataset.pixel_hashes()
    assert hashed == [18]
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    write_png(folder / "train/cat/00.png", random_images(1, seed=5)[0])
    third = setup(*arguments).train_set.dataset.pixel_hashes()
    assert hashed == [36]
    assert third is not None
    assert not torch.equal(first, third)


def test_damaged_hashes_of_a_cache_are_reported(folder: Path) -> None:
    cache = folder.parent / "cache"
    arguments = ["data=folder", f"data.root={folder}", "data.val_fraction=0", f"data.cache_dir={cache}"]
    setup(*arguments)
    (file,) = cache.glob("*/hashes.npy")
    np.save(file, np.zeros(3, np.int64))
    with pytest.raises(UserError, match=r"corrupt cache.*remove it, then rerun"):
        setup(*arguments)


# Datasets like those of torchvision


class Doubles:
    """Images in arrays; test image 1 is training image 3, test image 2 training image 3 too."""

    opened: list[bool]

    def __init__(self, train: bool = True) -> None:
        self.data = random_images(20 if train else 4, seed=int(train))[:, 0]
        if not train:
            self.data[1] = self.data[2] = random_images(20, seed=1)[3, 0]
        self.targets = torch.arange(len(self.data)) % 2

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.data[index], int(self.targets[index])


def doubles(**options: Any) -> DataModule:
    data = DataModule(Doubles, None, **{"val_fraction": 0.0, "mean": [0.5], "std": [0.5], **options})
    data.setup("fit")
    return data


def test_duplicates_in_an_official_test_split_are_counted_before_training(caplog: pytest.LogCaptureFixture) -> None:
    data = doubles()
    assert "2 test images are also training images (50.00% of test)" in caplog.text
    assert data.test_set is None  # until the test
    data.setup("test")
    assert data.test_set is not None
    assert len(data.test_set) == 4


def test_the_official_test_split_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = Doubles.__init__

    def init(self: Doubles, train: bool = True) -> None:
        opened.append(train)
        original(self, train)

    monkeypatch.setattr(Doubles, "__init__", init)
    data = doubles()
    data.setup("test")
    assert opened == [True, False]


def test_duplicates_of_an_official_test_split_are_dropped() -> None:
    data = doubles(drop_duplicates=True)
    assert data.train_set.indices.tolist() == [row for row in range(20) if row != 3]


def test_splits_without_duplicates_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    plain, dropped = sample_datamodule(), sample_datamodule("data.drop_duplicates=true")
    assert torch.equal(plain.train_set.indices, dropped.train_set.indices)
    assert (plain.mean, plain.std) == (dropped.mean, dropped.std)
    assert "also training" not in caplog.text
    assert "dropped" not in caplog.text
