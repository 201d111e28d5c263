"""Datasets in the formats of the Hugging Face hub, from local files: columns, splits, labels, cache, mistakes."""

import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, compose
from PIL import Image

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.datamodule import DataModule

pytest.importorskip("datasets")

NAMES = ["boot", "sandal"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the Arrow files that `datasets` writes in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")


def write_parquet(folder: Path, split: str, labels: list[Any], named: bool = False, **columns: Any) -> None:
    """Write a Parquet file with embedded images, whose brightness is their index."""
    import datasets

    images = [Image.new("RGB", (12, 12), (index, index, index)) for index in range(len(labels))]
    data = datasets.Dataset.from_dict({"picture": images, "label": labels, **columns}, features=None).cast_column(
        "picture", datasets.Image()
    )
    if named:
        data = data.cast_column("label", datasets.ClassLabel(names=NAMES))
    folder.mkdir(exist_ok=True)
    data.to_parquet(str(folder / f"{split}-00000.parquet"))


def setup(tmp_path: Path, *overrides: str) -> DataModule:
    arguments = [f"data.path={tmp_path / 'set'}", f"data.root={tmp_path}", *overrides]
    datamodule: DataModule = instantiate(compose("data=huggingface", *arguments).data, "data")
    datamodule.setup("test")
    return datamodule


def test_class_labels_splits_and_embedded_images_are_read(tmp_path: Path) -> None:
    """The train, validation and test split of the dataset are used; images decode to their own pixels."""
    for split, count in (("train", 8), ("validation", 4), ("test", 6)):
        write_parquet(tmp_path / "set", split, [index % 2 for index in range(count)], named=True)
    datamodule = setup(tmp_path)
    assert datamodule.val_set is not None
    assert datamodule.test_set is not None
    assert [len(part) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [8, 4, 6]
    assert datamodule.classes == NAMES
    images, targets = datamodule.train_set.__getitems__([0, 3, 7])
    assert images.shape == (3, 3, 12, 12)
    assert images[:, 0, 0, 0].tolist() == [0, 3, 7]
    assert targets.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [
        (["shoe", "boot", "shoe", "boot"], ["boot", "shoe"], [1, 0, 1, 0]),
        ([5, 10, 5, 10], ["5", "10"], [0, 1, 0, 1]),
    ],
    ids=["texts", "numbers"],
)
def test_labels_without_names_become_classes(
    tmp_path: Path, labels: list[Any], classes: list[str], targets: list[int]
) -> None:
    write_parquet(tmp_path / "set", "train", labels)
    write_parquet(tmp_path / "set", "test", labels)
    datamodule = setup(tmp_path, "data.val_fraction=0")
    assert datamodule.classes == classes
    assert datamodule.train_set.targets.tolist() == targets


def test_a_folder_of_images_is_read_as_the_hub_reads_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (9 + index, 12)).save(tmp_path / "set" / name / f"{index}.png")
    datamodule = setup(tmp_path, "data.image_size=8")
    assert datamodule.classes == ["a", "b"]
    assert datamodule.image_shape == (3, 8, 8)


def test_decoded_images_are_cached_until_the_content_changes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", "train", [0, 1] * 10, named=True)
    before = setup(tmp_path).train_set.dataset
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / ".cache").rglob("*.npy")}
    again = setup(tmp_path).train_set.dataset
    assert files
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".cache").rglob("*.npy")} == files
    write_parquet(tmp_path / "set", "train", [0, 1] * 11, named=True)
    changed = setup(tmp_path).train_set.dataset
    assert (len(before), len(again), len(changed)) == (20, 20, 22)


def test_a_split_without_labels_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_parquet(tmp_path / "set", "train", [0, 1] * 10, named=True)
    write_parquet(tmp_path / "set", "test", [-1] * 4, named=True)
    with caplog.at_level(logging.INFO):
        datamodule = setup(tmp_path)
    assert "test has no labels and is not used" in caplog.text
    assert datamodule.test_set is not None  # taken from the training images
    assert len(datamodule.train_set) + len(datamodule.test_set) < 20


def test_training_and_evaluation_run_on_it(tmp_path: Path, command: Command) -> None:
    write_parquet(tmp_path / "set", "train", [0, 1] * 10, named=True)
    answer = command(
        "data=huggingface", f"data.path={tmp_path / 'set'}", f"data.root={tmp_path}", "data.batch_size=4",
        "data.num_workers=0", "model=mlp", "trainer=cpu", "trainer.max_epochs=1", "name=first",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert (tmp_path / "outputs" / "first" / "result.json").exists()


@pytest.mark.parametrize(
    ("columns", "labels", "overrides", "line"),
    [
        ({"label2": ["a"] * 4}, [0, 1, 0, 1], ["data.dataset.label_column=nope"], "label_column=nope: not a column"),
        ({}, [0, 1, 0, 1], ["data.dataset.image_column=label"], "image_column=label: not a column of images"),
        ({"class": ["a"] * 4}, [0, 1, 0, 1], [], "label_column: several columns may hold it: label, class; name one"),
        ({}, [0.5, 1.5, 0.5, 1.5], [], "neither class labels, whole numbers nor texts"),
        ({}, [0, None, 0, 1], [], "image 1 of train has no label"),
    ],
    ids=["unknown label column", "no image column", "two label columns", "fractions", "missing label"],
)
def test_columns_that_cannot_be_used_are_one_line(
    tmp_path: Path, columns: dict[str, Any], labels: list[Any], overrides: list[str], line: str
) -> None:
    write_parquet(tmp_path / "set", "train", labels, **columns)
    with pytest.raises(UserError, match=line):
        setup(tmp_path, *overrides)


def test_a_missing_or_wrong_path_is_one_line(tmp_path: Path, command: Command) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match=r"data\.path=.*set: cannot be loaded \(.*\); check its files"):
        setup(tmp_path)
    answer = command("data=huggingface", "trainer=cpu")
    assert answer.code == 2
    assert answer.err.startswith("error: data.path: required by data=huggingface")
    answer = command("data=sample", "data.path=x", "trainer=cpu")
    assert answer.err.startswith("error: data.path=x: not used by FashionMNISTSample; use data=huggingface, or data=f")
