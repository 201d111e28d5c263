"""One's own images and one's own Dataset are trained on by one line; every mistake with them is told in one line."""

import csv
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import Command, compose, write_images
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pytorch_intro.build import build
from pytorch_intro.datamodule import DataModule
from pytorch_intro.dataset import ImageDataset, LiveDataset
from pytorch_intro.errors import UserError
from pytorch_intro.fashion_mnist import FashionMNISTSample
from pytorch_intro.paths import PROJECT
from pytorch_intro.sampler import EpochBatches

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=none"]


def opened(target: str, *overrides: str) -> DataModule:
    datamodule: DataModule = build(compose("data=dataset", f"data.dataset._target_={target}", *overrides).data, "data")
    datamodule.setup("test")
    return datamodule


def test_the_documented_dataset_works_as_printed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve lines in a file in src/, and the command below them."""
    page = (PROJECT / "docs" / "data.md").read_text()
    printed = re.search(
        r"src/(\w+)\.py[^\n]*\n+```python\n(.*?)```\n+```bash\npython src/train\.py (.*?)\n", page, re.S
    )
    assert printed
    name, code, arguments = printed.groups()
    assert len([line for line in code.splitlines() if line]) <= 12
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = command(*arguments.split("#")[0].split(), "name=own")
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "outputs" / "own" / "result.json").read_text())["test/accuracy"] > 0.9


class Gradients(Dataset[tuple[Tensor, int]]):
    """Three methods, no more; with a choice of what an image is."""

    def __init__(self, count: int = 60, kind: str = "tensor") -> None:
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
    """Another image each time."""

    def __getitem__(self, index: int) -> Any:
        return torch.rand(3, 10, 12), index % 3


class Halves(Gradients):
    """Divides itself by train."""

    def __init__(self, train: bool) -> None:
        super().__init__(30 if train else 9)


class Parts(Gradients):
    """Divides itself by split."""

    def __init__(self, root: str, split: str) -> None:
        assert Path(root).is_dir()
        super().__init__({"train": 30, "test": 9}[split])


class ThreeParts(Gradients):
    """Says which splits it has."""

    def __init__(self, split: Literal["train", "val", "test"]) -> None:
        super().__init__({"train": 30, "val": 6, "test": 9}[split])


@pytest.mark.parametrize("kind", ["tensor", "float", "array", "picture"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_three_methods_are_enough(kind: str, num_workers: int) -> None:
    """Whatever an image is; classes, channels and statistics are found out, validation and test are drawn."""
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
def test_a_dataset_that_takes_train_or_split_is_asked_for_its_parts(name: str, tmp_path: Path) -> None:
    datamodule = opened(f"test_own_data.{name}", f"data.root={tmp_path}")
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [27, 3, 9]


def test_a_dataset_that_says_so_is_asked_for_validation_too() -> None:
    datamodule = opened("test_own_data.ThreeParts")
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [30, 6, 9]


def test_images_that_stay_the_same_are_asked_for_once_and_others_every_time(caplog: pytest.LogCaptureFixture) -> None:
    """Random ones would be frozen as they were first drawn."""
    caplog.set_level("INFO")
    assert isinstance(opened("test_own_data.Gradients").train_set.dataset, ImageDataset)
    datamodule = opened("test_own_data.Noise", "data.num_workers=2")
    assert isinstance(datamodule.train_set.dataset, LiveDataset)
    assert "not the same each time" in caplog.text
    loader = datamodule.val_dataloader()
    first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_what_does_not_fit_in_memory_is_asked_for_every_time() -> None:
    datamodule = opened("test_own_data.Gradients", "data.in_memory=false")
    assert isinstance(datamodule.train_set.dataset, LiveDataset)
    assert datamodule.train_set[5][0][0, 0, 0] == datamodule.train_set.indices[5]


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """Some of the sample as PNG files, a folder a class, and labels.csv beside it, in another order."""
    sample = FashionMNISTSample(str(PROJECT / "src" / "pytorch_intro" / "sample"))
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


def test_a_folder_and_a_csv_of_it_give_the_same_training_bit_for_bit(
    command: Command, clothes: Path, tmp_path: Path
) -> None:
    """Memory or mapped file, first start or second, with workers or without: the same weights."""
    ways = {
        "folder": ["data=folder"],
        "csv": ["data=csv", f"data.labels={tmp_path / 'labels.csv'}"],
        "mapped": ["data=folder", "data.in_memory=false", "data.num_workers=2"],
    }
    weights = []
    for name, arguments in ways.items():
        options = [
            "trainer=cpu",
            "trainer.max_epochs=2",
            "data/augment=[alternating_flip,crop]",
            "data.mixup_alpha=0.2",
        ]
        answer = command(*arguments, f"data.root={clothes}", f"name={name}", *options)
        assert answer.code == 0, answer.err
        held = "mapped from a file" if name == "mapped" else "in memory"
        assert f"10 classes; training 162, validation 18, test 20; {held}" in answer.out
        file = tmp_path / "outputs" / name / "checkpoints" / "last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])


def test_classes_can_be_mapped_to_others_by_their_names(tmp_path: Path) -> None:
    """Network, labels and names follow."""
    datamodule: DataModule = build(compose("data=footwear", f"data.root={tmp_path}").data, "data")
    datamodule.source.make = FashionMNISTSample  # in the place of the whole
    datamodule.source.options = {"root": str(PROJECT / "src" / "pytorch_intro" / "sample")}
    datamodule.setup("fit")
    assert datamodule.classes == ["not footwear", "footwear"]
    original = FashionMNISTSample(datamodule.source.options["root"])
    shoes = [original.classes.index(name) for name in ("Sandal", "Sneaker", "Ankle boot")]
    for row in range(100):
        assert datamodule.train_set.dataset[row][1] == int(original[row][1] in shoes)


def test_without_validation_the_last_weights_are_the_best(command: Command, tmp_path: Path) -> None:
    answer = command("data=sample", "data.val_fraction=0", "trainer=cpu", "trainer.max_epochs=2", "name=all")
    assert answer.code == 0, answer.err
    assert "training 1,600, validation none" in answer.out
    result = json.loads((tmp_path / "outputs" / "all" / "result.json").read_text())
    assert result["val/accuracy"] is None
    assert result["test/accuracy"] > 0.3
    assert result["best_epoch"] == 2
    best, last = (
        torch.load(tmp_path / "outputs" / "all" / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    )
    assert all(torch.equal(best[key], last[key]) for key in last)


def test_folds_cross_validate_in_one_sweep(command: Command, tmp_path: Path) -> None:
    answer = command("-m", "data=sample", "data.num_folds=3", "data.fold=0,1,2", "name=cv", *SHORT)
    assert answer.code == 0, answer.err
    assert answer.out.count("training 1,066, validation 534") + answer.out.count("training 1,067, validation 533") == 3
    assert len(list((tmp_path / "outputs" / "sweeps" / "cv").glob("*/result.json"))) == 3


def test_the_folds_validate_each_image_once() -> None:
    validated: list[int] = []
    for number in range(5):
        datamodule: DataModule = build(compose("data=sample", "data.num_folds=5", f"data.fold={number}").data, "data")
        datamodule.setup("fit")
        assert datamodule.val_set
        validated += datamodule.val_set.indices.tolist()
    assert sorted(validated) == list(range(1600))


def test_a_single_image_is_no_batch_of_a_training() -> None:
    """Batch norm could not learn from it; the batch before takes it."""
    for total, training, sizes in ((9, True, [4, 5]), (9, False, [4, 4, 1]), (1, True, [1]), (10, True, [4, 4, 2])):
        batches = EpochBatches(total, 4, training=training)
        assert [len(batch) for batch in batches] == sizes
        assert len(batches) == len(sizes)


def test_workers_change_nothing(command: Command, tmp_path: Path) -> None:
    """Two epochs with augmentation end in the same weights, whoever fetches the batches."""
    weights = []
    for workers in (0, 2):
        options = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", f"data.num_workers={workers}"]
        assert command(*options, "data/augment=[flip,crop,erasing]", f"name=w{workers}").code == 0
        file = tmp_path / "outputs" / f"w{workers}" / "checkpoints" / "last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_each_process_draws_its_own_share_and_all_of_them_every_image_once() -> None:
    shares = [EpochBatches(1280, 32, shuffle=True, seed=3, num_replicas=4, rank=rank) for rank in range(4)]
    epochs = [[torch.cat(list(share)).tolist() for share in shares] for _ in range(2)]
    for epoch in epochs:
        assert sorted(row for share in epoch for row in share) == list(range(1280))
    assert epochs[0] != epochs[1]
    assert EpochBatches(9, 9, True, seed=3).order().tolist() != EpochBatches(9, 9, True, seed=4).order().tolist()


@pytest.mark.parametrize(("total", "processes"), [(10, 4), (9, 4), (2, 4), (12, 4), (7, 1)])
def test_what_cannot_be_divided_is_drawn_twice_for_training_and_counted_once_otherwise(
    total: int, processes: int
) -> None:
    def shares(training: bool) -> list[list[int]]:
        batches = [EpochBatches(total, 2 * processes, True, 0, processes, rank, training) for rank in range(processes)]
        rows = [torch.cat([torch.empty(0, dtype=torch.int64), *some]).tolist() for some in batches]
        assert [len(some) for some in batches] == [len(list(some)) for some in batches]
        return rows

    assert sorted(row for share in shares(training=False) for row in share) == list(range(total))
    even = shares(training=True)
    assert {len(share) for share in even} == {-(-total // processes)}
    assert {row for share in even for row in share} == set(range(total))


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_images_have_labels_in_shares(command: Command, alphas: tuple[float, float]) -> None:
    mixing = [f"data.mixup_alpha={alphas[0]}", f"data.cutmix_alpha={alphas[1]}"]
    answer = command("data=sample", *mixing, "trainer.limit_train_batches=3", *SHORT)
    assert answer.code == 0, answer.err
    datamodule: DataModule = build(compose("data=sample", *mixing).data, "data")
    datamodule.setup("fit")
    assert datamodule.mix
    images, targets = datamodule.mix(torch.rand(6, 1, 28, 28), torch.arange(6))
    assert (images.shape, images.dtype, targets.shape) == ((6, 1, 28, 28), torch.float32, (6, 10))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))


def fail() -> None:
    raise KeyError("x")


class Album(Gradients):
    """Keeps its pictures open, as a list."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = "three"  # its own business
        self.pictures = [Image.new("L", (9, 9), index) for index in range(60)]

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index], index % 2


class Scaled(Gradients):
    """Has data and targets as torchvision's sets do, and gives something else."""

    def __init__(self) -> None:
        super().__init__()
        self.data = torch.arange(60, dtype=torch.uint8).view(60, 1, 1).expand(60, 9, 9)
        self.targets = ["odd", "even"] * 30

    def __getitem__(self, index: int) -> Any:
        return self.data[index] / 120, index % 2


class Renamed(Gradients):
    """Its test numbers other classes than its training."""

    def __init__(self, train: bool) -> None:
        super().__init__(30 if train else 9)
        self.classes = ["a", "b", "c"] if train else ["a", "c"]

    def __getitem__(self, index: int) -> Any:
        return torch.full((1, 8, 8), index / 30), index % len(self.classes)


@pytest.mark.parametrize("name", ["Album", "Scaled"])
def test_what_a_dataset_gives_counts_and_stays_its_own(name: str) -> None:
    datamodule = opened(f"test_own_data.{name}")
    pixels = datamodule.train_set.dataset[50][0]
    assert int(pixels[0, 0, 0]) == (50 if name == "Album" else round(50 / 120 * 255))
    datamodule = opened(f"test_own_data.{name}")


def test_parts_of_different_classes_are_refused() -> None:
    with pytest.raises(UserError, match="the test images are of a, c, and the training images of a, b, c"):
        opened("test_own_data.Renamed")


def test_a_class_that_is_not_left_to_train_on_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(20)), "z/1.png")
    for i in range(20):
        (tmp_path / "b" / f"{i}.png").write_text("no image")
    datamodule: DataModule = build(
        compose("data=folder", f"data.root={tmp_path}", "data.skip_broken=true").data, "data"
    )
    with pytest.raises(UserError, match="no image of b is left to train on"):
        datamodule.setup("fit")


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
            "identifier": lambda: (image, 4_000_000_000),
            "no image": lambda: ("cat.png", 0),
            "fails": lambda: fail(),
            "one fails": lambda: (image, index % 2) if index != 17 else fail(),
        }
        return answers[self.mistake]()


WRONG = {
    "empty": "Wrong has no images",
    "label": "its label is 'cat'",
    "negative": "its label is -1",
    "one class": "one class only",
    "channels last": r"its shape is \(10, 10, 3\), where \(C, H, W\) or \(H, W\) is expected of a tensor",
    "channels first": r"its shape is \(3, 10, 10\), where \(H, W, C\) or \(H, W\) is expected of an array",
    "no pixels": r"its shape is \(1, 0, 10\)",
    "no pair": "no image can be read",
    "identifier": "the label 4000000000; classes are numbered from 0",
    "no image": "no image can be read",
    "fails": "KeyError: 'x'",
    "one fails": r"Wrong\[17\] cannot be read .*KeyError",
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_dataset_that_gives_something_else_is_told(mistake: str) -> None:
    with pytest.raises(UserError, match=WRONG[mistake]):
        opened("test_own_data.Wrong", f"+data.dataset.mistake={mistake.replace(' ', chr(92) + ' ')}")


def mistakes(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Arguments for images in root/two, and what is said about them."""
    two, one, footwear = f"data.root={root / 'two'}", f"data.root={root / 'one'}", "{a: x}"
    return {
        "no root": (["data=folder"], ["data.root"]),
        "missing folder": (["data=folder", f"data.root={root / 'nowhere'}"], ["nowhere", "data.root"]),
        "empty folder": (["data=folder", f"data.root={root / 'empty'}"], ["empty", "no subfolders"]),
        "one class": (["data=folder", one], ["one class only, a"]),
        "broken image": (["data=folder", f"data.root={root / 'broken'}"], ["b/1.png", "data.skip_broken=true"]),
        "no labels": (["data=csv", two], ["data.labels"]),
        "labels that no one asked for": (["data=folder", two, "data.labels=x.csv"], ["data.labels=x.csv", "data=csv"]),
        "more folds than images": (["data=folder", two, "data.num_folds=99"], ["data.num_folds=99", "only"]),
        "fold beyond the last": (["data=folder", two, "data.num_folds=3", "data.fold=3"], ["data.fold=3", "0 to 2"]),
        "fold of no folds": (["data=folder", two, "data.fold=1"], ["data.fold=1", "data.num_folds"]),
        "size beyond all screens": (["data=folder", two, "data.image_size=100000"], ["data.image_size=100000"]),
        "endless alpha": (["data=folder", two, "data.mixup_alpha=inf"], ["data.mixup_alpha"]),
        "one fold": (["data=folder", two, "data.num_folds=1"], ["data.num_folds=1"]),
        "folds of what is divided": (
            ["data=folder", f"data.root={root / 'divided'}", "data.num_folds=2"],
            ["data.num_folds=2", "of its own"],
        ),
        "mapping that misses a class": (["data=folder", two, f"data.target_transform={footwear}"], ["'b'", "a, b"]),
        "mapping of no class": (["data=folder", two, "data.target_transform={a:x,b:y,c:x}"], ["'c'", "no class"]),
        "mapping to one class": (["data=folder", two, "data.target_transform={a:x,b:x}"], ["one class only, x"]),
        "size of three": (["data=folder", two, "data.image_size=[1,2,3]"], ["data.image_size"]),
        "size 0": (["data=folder", two, "data.image_size=0"], ["data.image_size=0"]),
        "resize unheard of": (["data=folder", two, "data.resize=squeeze"], ["data.resize=squeeze", "crop"]),
        "cache in a file": (["data=folder", two, f"data.cache_dir={root / 'two/a/0.png'}"], ["data.cache_dir"]),
        "alpha below 0": (["data=folder", two, "data.mixup_alpha=-1"], ["data.mixup_alpha=-1"]),
        "padding beyond the image": (
            ["data=folder", two, "data/augment=[crop]", "data.augment.crop.padding=0"],
            ["data.augment.crop.padding=0"],
        ),
        "padding that leaves nothing": (
            ["data=folder", two, "data/augment=[crop]", "data.augment.crop.padding=1000000"],
            ["data.augment", "padding=1000000", "12 x 12"],
        ),
        "paint of another colour": (
            ["data=folder", two, "data/augment=[erasing]", "data.augment.erasing.value=[0,0.5]"],
            ["data.augment", "2 values", "1 channel"],
        ),
        "images too small for the network": (
            ["data=folder", two, "data.image_size=1"],
            ["model: CNN", "(2, 1, 1, 1)", "data.image_size"],
        ),
        "too many workers": (["data=folder", two, "data.num_workers=100000"], ["data.num_workers=100000", "512"]),
        "cache among the images": (["data=folder", two, f"data.cache_dir={root / 'two/c'}"], ["data.cache_dir"]),
        "empty root": (["data=folder", "data.root=''"], ["data.root"]),
        "unknown augmentation": (["data=folder", two, "data/augment=[flop]"], ["flop"]),
        "no dataset": (["data=dataset"], ["data.dataset._target_"]),
        "dataset that is not there": (
            ["data=dataset", "data.dataset._target_=nowhere.Images"],
            ["data.dataset._target_=nowhere.Images", "cannot be imported"],
        ),
        "two constants, one channel": (["data=folder", two, "data.std=[0.1,0.2]", "data.mean=[0.5]"], ["data.std"]),
    }


def test_a_dataset_without_a_length_is_told() -> None:
    with pytest.raises(UserError, match=r"Endless does not tell how many images it has.* no len"):
        opened("test_own_data.Endless")


class Endless(Dataset[tuple[Tensor, int]]):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 8, 8), index % 2


@pytest.mark.parametrize("mistake", mistakes(Path()))
def test_a_mistake_with_one_s_own_data_ends_in_one_line_and_exit_code_2(
    command: Command, tmp_path: Path, mistake: str
) -> None:
    write_images(
        tmp_path,
        *(f"two/{name}/{i}.png" for name in "ab" for i in range(10)),
    )
    write_images(
        tmp_path, *(f"divided/{split}/{name}/{i}.png" for split in ("train", "val") for name in "ab" for i in range(10))
    )
    write_images(tmp_path, "broken/a/0.png", "broken/a/2.png", "broken/b/1.png", "broken/b/2.png")
    (tmp_path / "broken" / "b" / "1.png").write_bytes((tmp_path / "broken/b/1.png").read_bytes()[:50])
    write_images(tmp_path, "one/a/0.png", "one/a/1.png")
    (tmp_path / "empty").mkdir()
    arguments, told = mistakes(tmp_path)[mistake]
    answer = command(*arguments, "trainer=cpu", "name=wrong")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1, answer.err
    for words in told:
        assert words in answer.err
    assert not (tmp_path / "outputs" / "wrong").exists()
