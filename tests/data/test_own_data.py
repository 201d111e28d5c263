"""Your own images and Datasets train with one command; every mistake with them is explained in one line."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, Command, StartMethod, compose, write_images
from explained import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_2,
    NO_CHOICE,
    WRONG_VALUE,
    assert_explained,
    assert_facts,
)
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.uncached import UncachedDataset
from pytorch_intro.data.sampler import ResumableBatchSampler

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=none"]
FEW = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "model.width=4"]


def opened(target: str, *overrides: str) -> DataModule:
    datamodule: DataModule = instantiate(
        compose("data=custom", f"data.dataset._target_={target}", *overrides).data, "data"
    )
    datamodule.setup("test")
    return datamodule


class Gradients(Dataset[tuple[Tensor, int]]):
    """A dataset with only three methods, for several types of images."""

    latest: ClassVar["Gradients"]

    def __init__(self, count: int = 60, kind: str = "tensor") -> None:
        Gradients.latest = self
        self.count = count
        self.kind = kind

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index >= self.count:
            raise IndexError
        pixels = np.full((3, 10, 12), index, np.uint8)
        label = index % 3
        return {
            "tensor": (torch.from_numpy(pixels), label),
            "float": (torch.from_numpy(pixels) / 255, torch.tensor(label)),
            "array": (pixels.transpose(1, 2, 0), np.int64(label)),
            "picture": (Image.fromarray(pixels.transpose(1, 2, 0)), label),
        }[self.kind]


class Noise(Gradients):
    """Returns another image at every access."""

    def __getitem__(self, index: int) -> Any:
        return torch.rand(3, 10, 12), index % 3


class Halves(Gradients):
    """A dataset with a parameter train."""

    def __init__(self, train: bool) -> None:
        super().__init__(30 if train else 9)


class Parts(Gradients):
    """A dataset with a parameter split."""

    def __init__(self, root: str, split: str) -> None:
        assert Path(root).is_dir()
        super().__init__({"train": 30, "test": 9}[split])


class ThreeParts(Gradients):
    """A dataset whose parameter split is a Literal."""

    def __init__(self, split: Literal["train", "val", "test"]) -> None:
        super().__init__({"train": 30, "val": 6, "test": 9}[split])


@pytest.mark.parametrize("kind", ["tensor", "float", "array", "picture"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_needs_three_methods_only(kind: str, num_workers: int) -> None:
    """For any type of image; classes, channels and statistics are inferred, validation and test splits are sampled."""
    datamodule = opened(
        "test_own_data.Gradients", f"+data.dataset.kind={kind}", f"data.num_workers={num_workers}", "data.batch_size=7"
    )
    assert datamodule.image_shape == (3, 10, 12)
    assert datamodule.classes == ["0", "1", "2"]
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [49, 5, 6]
    assert datamodule.mean
    assert datamodule.mean == pytest.approx(3 * [datamodule.mean[0]])
    seen = []
    for images, targets in datamodule.train_dataloader():
        assert (images.dtype, targets.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(images[:, 0, 0, 0] % 3, targets)
        seen += images[:, 0, 0, 0].tolist()
    assert sorted(seen) == sorted(datamodule.train_set.indices.tolist())


@pytest.mark.parametrize("name", ["Halves", "Parts"])
def test_dataset_with_train_or_split_provides_its_splits(name: str, tmp_path: Path) -> None:
    datamodule = opened(f"test_own_data.{name}", f"data.root={tmp_path}")
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [27, 3, 9]


def test_literal_type_of_split_declares_a_validation_split() -> None:
    datamodule = opened("test_own_data.ThreeParts")
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [30, 6, 9]


def test_deterministic_samples_are_loaded_once_and_random_ones_every_epoch(caplog: pytest.LogCaptureFixture) -> None:
    """A cache would freeze random samples."""
    caplog.set_level("INFO")
    assert isinstance(opened("test_own_data.Gradients").train_set.dataset, InMemoryImageDataset)
    datamodule = opened("test_own_data.Noise", "data.num_workers=2")
    assert isinstance(datamodule.train_set.dataset, UncachedDataset)
    assert "samples are random" in caplog.text
    loader = datamodule.val_dataloader()
    first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_dataset_too_large_for_memory_is_loaded_on_the_fly() -> None:
    datamodule = opened("test_own_data.Gradients", "data.in_memory=false")
    assert isinstance(datamodule.train_set.dataset, UncachedDataset)
    assert datamodule.train_set[5][0][0, 0, 0] == datamodule.train_set.indices[5]


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """Save sample images as PNG files, one folder per class, with a labels.csv in another order."""
    sample = FashionMNISTSample(str(PROJECT / "src" / "pytorch_intro" / "data" / "sample"))
    rows = []
    for row in range(200):
        image, label = sample[row]
        name = sample.classes[label].replace("/", "-")
        place = tmp_path / "clothes" / name / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place)
        rows.append((f"{name}/{row}.png", name))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *sorted(rows, key=lambda row: row[0][::-1])])
    return tmp_path / "clothes"


def test_training_on_a_folder_or_on_its_csv_is_bit_identical(command: Command, clothes: Path, tmp_path: Path) -> None:
    """In memory or memory-mapped, first or second start, with or without workers: the same weights."""
    ways = {
        "folder": ["data=folder"],
        "csv": ["data=csv", f"data.labels={tmp_path / 'labels.csv'}"],
        "mapped": ["data=folder", "data.in_memory=false", "data.num_workers=2"],
    }
    weights = []
    for name, arguments in ways.items():
        options = [*FEW, *NO_PICTURES, "trainer=cpu", "trainer.max_epochs=2", "data.mixup_alpha=0.2"]
        options.append("data/augment=[flip,crop]")
        answer = command(*arguments, f"data.root={clothes}", f"name={name}", *options)
        assert answer.code == 0, answer.err
        storage = "memory-mapped" if name == "mapped" else "in memory"
        assert f"10 classes; training 162, validation 18, test 20; {storage}" in answer.out
        file = tmp_path / "outputs" / name / "checkpoints" / "last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])


def test_classes_can_be_mapped_to_others_by_their_names(tmp_path: Path) -> None:
    """Network, labels and names follow."""
    datamodule: DataModule = instantiate(compose("data=footwear", f"data.root={tmp_path}").data, "data")
    datamodule.source.make = partial(FashionMNISTSample)  # small
    datamodule.source.options = {"root": str(PROJECT / "src" / "pytorch_intro" / "data" / "sample")}
    datamodule.setup("fit")
    assert datamodule.classes == ["not footwear", "footwear"]
    original = FashionMNISTSample(datamodule.source.options["root"])
    shoes = [original.classes.index(name) for name in ("Sandal", "Sneaker", "Ankle boot")]
    for row in range(100):
        assert datamodule.train_set.dataset[row][1] == int(original[row][1] in shoes)


def test_without_validation_the_last_weights_are_the_best(command: Command, tmp_path: Path) -> None:
    answer = command("data=sample", "data.val_fraction=0", "trainer=cpu", "trainer.max_epochs=2", *FEW, "name=all")
    assert answer.code == 0, answer.err
    assert "training 1,600, validation none" in answer.out
    result = json.loads((tmp_path / "outputs" / "all" / "result.json").read_text())
    assert result["val/accuracy"] is None
    assert result["test/accuracy"] is not None
    assert result["best_epoch"] == 2
    best, last = (
        torch.load(tmp_path / "outputs" / "all" / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    )
    assert all(torch.equal(best[key], last[key]) for key in last)


def test_folds_cross_validate_in_one_sweep(command: Command, tmp_path: Path) -> None:
    answer = command("-m", "data=sample", "data.num_folds=3", "data.fold=0,1,2", "name=cv", *SHORT, *FEW)
    assert answer.code == 0, answer.err
    assert answer.out.count("training 1,066, validation 534") + answer.out.count("training 1,067, validation 533") == 3
    assert len(list((tmp_path / "outputs" / "sweeps" / "cv").glob("*/result.json"))) == 3


def test_the_folds_validate_each_image_once() -> None:
    validated: list[int] = []
    for number in range(5):
        datamodule: DataModule = instantiate(
            compose("data=sample", "data.num_folds=5", f"data.fold={number}").data, "data"
        )
        datamodule.setup("fit")
        assert datamodule.val_set
        validated += datamodule.val_set.indices.tolist()
    assert sorted(validated) == list(range(1600))


def test_a_last_batch_of_one_image_is_merged_with_the_previous_one() -> None:
    """Batch norm cannot train on a single image."""
    for total, training, sizes in ((9, True, [4, 5]), (9, False, [4, 4, 1]), (1, True, [1]), (10, True, [4, 4, 2])):
        batches = ResumableBatchSampler(total, 4, training=training)
        assert [len(batch) for batch in batches] == sizes
        assert len(batches) == len(sizes)


def test_workers_do_not_change_the_images(command: Command, tmp_path: Path) -> None:
    """Two epochs with augmentation end in the same weights, with and without workers."""
    weights = []
    for workers in (0, 2):
        options = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", *FEW, *NO_PICTURES]
        options.append(f"data.num_workers={workers}")
        assert command(*options, "data/augment=[flip,crop,erasing]", f"name=w{workers}").code == 0
        file = tmp_path / "outputs" / f"w{workers}" / "checkpoints" / "last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_ranks_sample_disjoint_shares_that_cover_all_images() -> None:
    shares = [ResumableBatchSampler(1280, 32, shuffle=True, seed=3, num_replicas=4, rank=rank) for rank in range(4)]
    epochs = [[torch.cat(list(share)).tolist() for share in shares] for _ in range(2)]
    for epoch in epochs:
        assert sorted(row for share in epoch for row in share) == list(range(1280))
    assert epochs[0] != epochs[1]
    assert (
        ResumableBatchSampler(9, 9, True, seed=3).order().tolist()
        != ResumableBatchSampler(9, 9, True, seed=4).order().tolist()
    )


@pytest.mark.parametrize(("total", "processes"), [(10, 4), (9, 4), (2, 4), (12, 4), (7, 1)])
def test_images_that_ranks_cannot_share_evenly_repeat_in_training_only(total: int, processes: int) -> None:
    def shares(training: bool) -> list[list[int]]:
        batches = [
            ResumableBatchSampler(total, 2 * processes, True, 0, processes, rank, training) for rank in range(processes)
        ]
        rows = [torch.cat([torch.empty(0, dtype=torch.int64), *some]).tolist() for some in batches]
        assert [len(some) for some in batches] == [len(list(some)) for some in batches]
        return rows

    assert sorted(row for share in shares(training=False) for row in share) == list(range(total))
    even = shares(training=True)
    assert {len(share) for share in even} == {-(-total // processes)}
    assert {row for share in even for row in share} == set(range(total))


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1), (1, 0)])
def test_mixed_images_have_soft_labels(alphas: tuple[float, float]) -> None:
    """Also if an alpha is a whole number."""
    mixing = [f"data.mixup_alpha={alphas[0]}", f"data.cutmix_alpha={alphas[1]}"]
    datamodule: DataModule = instantiate(compose("data=sample", *mixing).data, "data")
    datamodule.setup("fit")
    assert datamodule.mix
    images, targets = datamodule.mix(torch.rand(6, 1, 28, 28), torch.arange(6))
    assert (images.shape, images.dtype, targets.shape) == ((6, 1, 28, 28), torch.float32, (6, 10))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))


def test_a_network_can_be_trained_with_mixup_and_cutmix(command: Command) -> None:
    answer = command("data=sample", "data.mixup_alpha=0.4", "data.cutmix_alpha=1.0", *SHORT, *FEW)
    assert answer.code == 0, answer.err


def fail() -> None:
    raise KeyError("x")


class Album(Gradients):
    """Stores its images as a list of open PIL images."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = "three"  # its own business
        self.pictures = [Image.new("L", (9, 9), index) for index in range(60)]

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index], index % 2


class Scaled(Gradients):
    """Has data and targets like torchvision's datasets, but returns other samples."""

    def __init__(self) -> None:
        super().__init__()
        self.data = torch.arange(60, dtype=torch.uint8).view(60, 1, 1).expand(60, 9, 9)
        self.targets = ["odd", "even"] * 30

    def __getitem__(self, index: int) -> Any:
        return self.data[index] / 120, index % 2


class Renamed(Gradients):
    """Its test split has other classes than its training split."""

    def __init__(self, train: bool) -> None:
        super().__init__(30 if train else 9)
        self.classes = ["a", "b", "c"] if train else ["a", "c"]

    def __getitem__(self, index: int) -> Any:
        return torch.full((1, 8, 8), index / 30), index % len(self.classes)


@pytest.mark.parametrize("name", ["Album", "Scaled"])
def test_samples_take_precedence_over_attributes_of_a_dataset(name: str) -> None:
    datamodule = opened(f"test_own_data.{name}")
    pixels = datamodule.train_set.dataset[50][0]
    assert int(pixels[0, 0, 0]) == (50 if name == "Album" else round(50 / 120 * 255))
    own = Gradients.latest
    assert isinstance(own, Album if name == "Album" else Scaled)
    kept = np.asarray(own.pictures[50] if isinstance(own, Album) else own.data[50])
    assert (kept.shape, set(kept.flatten().tolist())) == ((9, 9), {50})


def test_splits_with_different_classes_are_an_error() -> None:
    with pytest.raises(UserError) as error:
        opened("test_own_data.Renamed")
    assert_facts(str(error.value), [], ["data"], r"\ba, c\b.*\ba, b, c\b", "the same")


def test_a_class_without_training_images_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(20)), "z/1.png")
    for i in range(20):
        (tmp_path / "b" / f"{i}.png").write_text("no image")
    datamodule: DataModule = instantiate(
        compose("data=folder", f"data.root={tmp_path}", "data.skip_broken=true").data, "data"
    )
    with pytest.raises(UserError) as error:
        datamodule.setup("fit")
    assert_facts(str(error.value), [], ["data"], r"\bb\b.*\b20\b", "add images, or remove")


class Wrong(Gradients):
    """One of several mistakes."""

    def __init__(self, mistake: str) -> None:
        super().__init__(0 if mistake == "empty" else 20)
        self.mistake = mistake

    def __getitem__(self, index: int) -> Any:
        image = torch.zeros(1, 10, 10)
        answers = {
            "label": lambda: (image, "cat"),
            "negative": lambda: (image, -1),
            "one class": lambda: (image, 0),
            "channels last": lambda: (torch.zeros(10, 10, 3), index % 2),
            "channels first": lambda: (np.zeros((3, 10, 10), np.uint8), index % 2),
            "no pixels": lambda: (torch.zeros(1, 0, 10), index % 2),
            "no pair": lambda: image[0, 0, 0],
            "three values": lambda: (image, index % 2, index),
            "dictionary": lambda: {"image": image, "label": index % 2},
            "nothing": lambda: None,
            "one of other channels": lambda: (torch.zeros(3 if index == 17 else 5, 10, 10), index % 2),
            "no numbers": lambda: (np.array([["a"]]), index % 2),
            "recursion": lambda: self[index],
            "identifier": lambda: (image, 4_000_000_000),
            "no image": lambda: ("cat.png", 0),
            "fails": lambda: fail(),
            "one fails": lambda: (image, index % 2) if index != 17 else fail(),
        }
        return answers[self.mistake]()


LABELS = "non-negative integer"
# Of each: the names that the message has, and regular expressions of its problem and its remedy.
WRONG: dict[str, tuple[list[str], str, str]] = {
    "empty": (["Wrong"], "no (images|samples)", "check its arguments and files"),
    "label": (["data"], "label is 'cat'", LABELS),
    "negative": (["data"], "label is -1", LABELS),
    "one class": (["data"], "only one class", "add images of another"),
    "channels last": (["data", "tensor"], r"shape is \(10, 10, 3\)", r"\(C, H, W\) or \(H, W\)"),
    "channels first": (["data", "array"], r"shape is \(3, 10, 10\)", r"\(H, W, C\) or \(H, W\)"),
    "no pixels": (["data", "tensor"], r"shape is \(1, 0, 10\)", r"\(C, H, W\) or \(H, W\)"),
    "no pair": (["data"], "sample is a Tensor", r"pair \(image, label\)"),
    "three values": (["data"], "sample has 3 values", r"pair \(image, label\)"),
    "dictionary": (["data"], "sample is a dict", r"pair \(image, label\).*; fix its __getitem__"),
    "nothing": (["data"], "sample is a NoneType", r"pair \(image, label\)"),
    "one of other channels": (["Wrong[17]"], "dataset has 5 channels", r"data\.skip_broken=true"),
    "no numbers": (["data"], "values are <U1", "uint8, or floating point"),
    "recursion": (["data", "Wrong[0]"], "RecursionError", "fix"),
    "identifier": (["Wrong"], "label 4000000000, too large", "numbered from 0"),
    "no image": (["data"], r"\bstr\b", "PIL image, a tensor or an array"),
    "fails": (["data", "Wrong[0]"], "KeyError: 'x'", "fix"),
    "one fails": (["Wrong[17]"], "KeyError: 'x'", r"data\.skip_broken=true"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_invalid_samples_are_an_error(mistake: str) -> None:
    with pytest.raises(UserError) as error:
        opened("test_own_data.Wrong", f"+data.dataset.mistake={mistake.replace(' ', chr(92) + ' ')}")
    assert_facts(str(error.value), [mistake], *WRONG[mistake])
    assert "JPEG" not in str(error.value), "the samples are not files"


Expected = tuple[list[str], list[str], str, str]


def mistakes(root: Path) -> dict[str, Expected]:
    """Arguments for images in root/two; the names in the message, and regular expressions of problem and remedy."""
    two, one, footwear = f"data.root={root / 'two'}", f"data.root={root / 'one'}", "{a: x}"
    nowhere, empty = f"data.root={root / 'nowhere'}", f"data.root={root / 'empty'}"
    file, inside = f"data.cache_dir={root / 'two/a/0.png'}", f"data.cache_dir={root / 'two/c'}"
    return {
        "no root": (["data=folder"], ["data.root", "ImageFolder"], "where the images|required", r"data\.root=DIR"),
        "missing folder": (["data=folder", nowhere], [nowhere], "no such folder|does not exist", r"data\.root=DIR"),
        "empty folder": (["data=folder", empty], [empty], "no subfolders", "data=csv data.labels=FILE"),
        "one class": (
            ["data=folder", one],
            ["data: ", ", a"],
            "only one class",
            "add images of another",
        ),
        "broken image": (
            ["data=folder", f"data.root={root / 'broken'}"],
            [str(root / "broken/b/1.png")],
            "truncated",
            r"data\.skip_broken=true",
        ),
        "no labels": (["data=csv", two], ["data.labels"], r"\bCSV\b", "columns path and label"),
        "labels file for image folders": (
            ["data=folder", two, "data.labels=x.csv"],
            ["data.labels=x.csv"],
            "ImageFolder",
            "data=csv",
        ),
        "more folds than images": (
            ["data=folder", two, "data.num_folds=99"],
            ["data.num_folds=99"],
            "only 18 images",
            "fewer|at most",
        ),
        "fold beyond the last": (
            ["data=folder", two, "data.num_folds=3", "data.fold=3"],
            ["data.fold=3"],
            "the 3 folds",
            "use 0 to 2",
        ),
        "fold of no folds": (
            ["data=folder", two, "data.fold=1"],
            ["data.fold=1"],
            r"no folds|data\.num_folds is not set",
            r"data\.num_folds=",
        ),
        "image size too large": (
            ["data=folder", two, "data.image_size=100000"],
            ["data.image_size=100000"],
            WRONG_VALUE,
            r"\b4096\b",
        ),
        "infinite alpha": (
            ["data=folder", two, "data.mixup_alpha=inf"],
            ["data.mixup_alpha=Infinity"],
            WRONG_VALUE,
            "finite",
        ),
        "one fold": (["data=folder", two, "data.num_folds=1"], ["data.num_folds=1"], WRONG_VALUE, AT_LEAST_2),
        "folds of a dataset with a validation split": (
            ["data=folder", f"data.root={root / 'divided'}", "data.num_folds=2"],
            ["data.num_folds=2"],
            "validation (images|split)|val split",
            "use data.num_folds=null",
        ),
        "mapping without one of the classes": (
            ["data=folder", two, f"data.target_transform={footwear}"],
            ["data.target_transform"],
            "'b' is (not in|missing)",
            r"\ba, b\b",
        ),
        "mapping of an unknown class": (
            ["data=folder", two, "data.target_transform={a:x,b:y,c:x}"],
            ["data.target_transform"],
            "'c' is not a class",
            r"\ba, b\b",
        ),
        "mapping to one class": (
            ["data=folder", two, "data.target_transform={a:x,b:x}"],
            ["data: ", ", x"],
            "only one class",
            "add images of another",
        ),
        "size of three": (
            ["data=folder", two, "data.image_size=[1,2,3]"],
            ["data.image_size=[1, 2, 3]"],
            WRONG_VALUE,
            "at most 2 items",
        ),
        "size 0": (["data=folder", two, "data.image_size=0"], ["data.image_size=0"], WRONG_VALUE, ABOVE_0),
        "unknown resizing": (
            ["data=folder", two, "data.resize=squeeze"],
            ["data.resize=squeeze"],
            WRONG_VALUE,
            "'crop', 'pad', 'pad_border' or 'stretch'",
        ),
        "cache in a file": (["data=folder", two, file], [file, two], "among the images", "another folder"),
        "alpha below 0": (
            ["data=folder", two, "data.mixup_alpha=-1"],
            ["data.mixup_alpha=-1"],
            WRONG_VALUE,
            AT_LEAST_0,
        ),
        "padding beyond the image": (
            ["data=folder", two, "data/augment=[crop]", "data.augment.crop.padding=0"],
            ["data.augment.crop.padding=0"],
            WRONG_VALUE,
            ABOVE_0,
        ),
        "padding that leaves nothing": (
            ["data=folder", two, "data/augment=[crop]", "data.augment.crop.padding=1000000"],
            ["data.augment", "padding=1000000"],
            "12 x 12",
            "at most 12",
        ),
        "paint of another colour": (
            ["data=folder", two, "data/augment=[erasing]", "data.augment.erasing.value=[0,0.5]"],
            ["data.augment", "value=[0, 0.5]"],
            "2 values.* 1 channel",
            "change its settings",
        ),
        "images too small for the network": (
            ["data=folder", two, "data.image_size=1"],
            ["model: CNN"],
            r"\(2, 1, 1, 1\)",
            r"another data\.image_size|larger data\.image_size",
        ),
        "too many workers": (
            ["data=folder", two, "data.num_workers=100000"],
            ["data.num_workers=100000"],
            WRONG_VALUE,
            r"\b512\b",
        ),
        "cache among the images": (["data=folder", two, inside], [inside, two], "among the images", "another folder"),
        "empty root": (["data=folder", "data.root=''"], ["data.root"], r"\bempty\b", r"data\.root=DIR"),
        "unknown augmentation": (
            ["data=folder", two, "data/augment=[flop]"],
            ["data/augment", "flop"],
            NO_CHOICE,
            "choose from .*flip",
        ),
        "no dataset": (["data=custom"], ["data.dataset._target_"], "[Mm]issing|required", "see --(help|cfg job)"),
        "dataset that is not there": (
            ["data=custom", "data.dataset._target_=nowhere.Images"],
            ["data.dataset._target_=nowhere.Images"],
            "cannot be imported",
            "'nowhere' is installed|[Cc]heck",
        ),
        "two constants, one channel": (
            ["data=folder", two, "data.std=[0.1,0.2]", "data.mean=[0.5]"],
            ["data.std=[0.1, 0.2]"],
            "1 channel",
            "one value.*null",
        ),
    }


@pytest.mark.parametrize("attribute", ["data", "targets", "labels", "classes", "categories", "transform"])
def test_a_failing_property_of_a_dataset_is_an_error_that_names_it(attribute: str) -> None:
    """The reader looks for torchvision's attributes in any dataset."""
    failing = type("Failing", (Gradients,), {attribute: property(lambda _: fail())})
    with pytest.raises(UserError) as error:
        DataModule(failing, None).setup("fit")
    assert_facts(str(error.value), [], [f"Failing.{attribute}"], "KeyError: 'x'", "fix it")


def test_classes_with_the_same_name_stay_separate() -> None:
    """ImageNet has two classes crane; mapping, metrics and predictions go by the names."""
    cranes = type("Cranes", (Gradients,), {"classes": ["crane", "maillot", "crane"]})
    datamodule = DataModule(cranes, None)
    datamodule.setup("fit")
    assert datamodule.classes == ["crane", "maillot", "crane (2)"]


@pytest.mark.parametrize("name", ["a\nb", "\udce9", "tab\t"])
def test_a_class_name_with_a_line_break_is_an_error(tmp_path: Path, name: str) -> None:
    """Of a Dataset and of a folder."""
    write_images(tmp_path, *(f"{folder}/{i}.png" for folder in ("x", name) for i in range(10)))
    named = type("Named", (Gradients,), {"classes": ["x", name, "y"]})
    for datamodule in (DataModule(named, None), DataModule(ImageFolder, str(tmp_path))):
        with pytest.raises(UserError) as error:
            datamodule.setup("fit")
        assert_facts(str(error.value), [], [repr(name)], "class name", "rename")


class Fading(Gradients):
    """Loses an image once training has started."""

    is_lost: ClassVar[bool] = False

    def __getitem__(self, index: int) -> Any:
        return fail() if self.is_lost and index == 7 else super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_disappears_during_training_is_an_error_that_names_it(
    num_workers: int, monkeypatch: pytest.MonkeyPatch, start_method: StartMethod
) -> None:
    """In one line, also in a worker process."""
    start_method("fork")  # the workers inherit that the image is lost
    datamodule = DataModule(Fading, None, in_memory=False, num_workers=num_workers)
    datamodule.setup("fit")
    monkeypatch.setattr(Fading, "is_lost", True)
    datamodule.train_set.indices[0] = 7
    with pytest.raises(UserError) as error:
        list(datamodule.train_dataloader())
    assert str(error.value).startswith("data: Fading[7]: cannot be read (KeyError: 'x'); ")
    assert "rerun to resume" in str(error.value)


def test_a_dataset_without_a_length_is_an_error() -> None:
    with pytest.raises(UserError) as error:
        opened("test_own_data.Endless")
    assert_facts(str(error.value), [], ["data: Endless"], r"no len\(\)", "__len__")


class Endless(Dataset[tuple[Tensor, int]]):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 8, 8), index % 2


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data roots of mistakes()."""
    folder = tmp_path_factory.mktemp("roots")
    numbered = [f"{name}/{i}.png" for name in "ab" for i in range(10)]
    write_images(folder / "two", *numbered)
    write_images(folder / "divided" / "train", *numbered)
    write_images(folder / "divided" / "val", *numbered)
    write_images(folder / "broken", "a/0.png", "a/2.png", "b/1.png", "b/2.png")
    broken = folder / "broken" / "b" / "1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    write_images(folder / "one", "a/0.png", "a/1.png")
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("mistake", mistakes(Path()))
def test_mistake_with_own_data_prints_one_line_and_exits_with_2(
    command: Command, tmp_path: Path, roots: Path, mistake: str
) -> None:
    arguments, names, problem, remedy = mistakes(roots)[mistake]
    answer = command(*arguments, "trainer=cpu", "name=wrong")
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not (tmp_path / "outputs" / "wrong").exists()
