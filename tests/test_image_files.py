"""One's own images are found with their labels, in one order, wherever the labels come from."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_images

from pytorch_intro.errors import UserError
from pytorch_intro.image_files import ImageFolder, LabeledImages


def write_csv(file: Path, rows: list[dict[str, str]]) -> str:
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def test_a_folder_is_one_class_a_subfolder(tmp_path: Path) -> None:
    """Deeper folders belong to it; hidden files and what systems leave lying about do not."""
    write_images(tmp_path, "cat/1.png", "cat/more/2.png", "dog/3.jpg", "dog/a.b.webp")
    for litter in ("cat/.DS_Store", "cat/Thumbs.db", ".cache/x/images.npy", "dog/.trash/old.png"):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / litter).touch()
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    assert files.paths == ["cat/1.png", "cat/more/2.png", "dog/3.jpg", "dog/a.b.webp"]
    assert files.targets == [0, 0, 1, 1]
    assert set(files.splits) == {""}
    image, label = files[2]
    with image:
        assert (image.format, label) == ("JPEG", 1)


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}/x.png" for number in range(12)))
    assert ImageFolder(str(tmp_path)).classes == [str(number) for number in range(12)]


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    """A named pipe would be waited for, for ever."""
    write_images(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    assert ImageFolder(str(tmp_path)).paths == ["a/1.png", "b/1.png"]


def test_file_names_need_not_be_utf_8(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")
    os.link(tmp_path / "a" / "1.png", os.fsencode(tmp_path / "a") + b"/\xe9.png")
    assert ImageFolder(str(tmp_path)).fingerprint()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("train", "valid"), ("train", "test"), ("train",)])
def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_images(tmp_path, *(f"{split}/{name}/1.png" for split in names for name in ("cat", "dog")))
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    expected = {"valid": "val"}
    assert sorted(set(files.splits)) == sorted(expected.get(name, name) for name in names)
    for path, split in zip(files.paths, files.splits, strict=True):
        assert path.startswith(split)


def test_split_folders_may_be_capitalised(tmp_path: Path) -> None:
    write_images(tmp_path, "Train/cat/1.png", "Train/dog/1.png", "Test/cat/2.png", "Test/dog/2.png")
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    assert sorted(files.splits) == ["test", "test", "train", "train"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """To files elsewhere; one that leads back ends there, and one to nothing is a file that cannot be read."""
    write_images(tmp_path, "images/a/1.png", "images/b/1.png", "elsewhere/2.png")
    (tmp_path / "images" / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "images" / "a" / "loop").symlink_to(tmp_path / "images" / "a")
    (tmp_path / "images" / "b" / "nothing.png").symlink_to(tmp_path / "nothing.png")
    files = ImageFolder(str(tmp_path / "images"))
    assert files.paths == ["a/1.png", "a/link.png", "b/1.png", "b/nothing.png"]
    assert files.fingerprint()


def test_a_class_called_train_is_a_class_beside_others(tmp_path: Path) -> None:
    write_images(tmp_path, "train/1.png", "bus/2.png")
    assert ImageFolder(str(tmp_path)).classes == ["bus", "train"]


def test_a_csv_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    """Whatever the order of its lines, whoever wrote it: a byte order mark, spaces, other columns, ./ in the paths."""
    write_images(tmp_path, "a/2.png", "a/1.png", "a-b/1.png", "b/9.png")
    lines = "﻿path, label, photographer\nb/9.png, b, me\n./a-b/1.png,a-b,me\na/1.png,a,me\na/x/../2.png,a,me\n"
    (tmp_path / "labels.csv").write_text(lines, encoding="utf-8")
    folder = ImageFolder(str(tmp_path))
    listed = LabeledImages(str(tmp_path), str(tmp_path / "labels.csv"))
    for attribute in ("paths", "targets", "classes", "splits"):
        assert getattr(folder, attribute) == getattr(listed, attribute), attribute
    assert folder.fingerprint() == listed.fingerprint()


def test_a_csv_may_give_the_splits(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png", "3.png", "4.png")
    rows = [{"path": f"{i}.png", "label": "ab"[i % 2], "split": split} for i, split in
            enumerate(["train", "Training", "val", "TEST"], start=1)]  # fmt: skip
    files = LabeledImages(str(tmp_path), write_csv(tmp_path / "labels.csv", rows))
    assert files.splits == ["train", "train", "val", "test"]
    assert files.targets == [1, 0, 1, 0]


def test_the_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")

    def fingerprint() -> str:
        return ImageFolder(str(tmp_path)).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    os.utime(tmp_path / "a/1.png", ns=(1, 1))
    touched = fingerprint()
    write_images(tmp_path, "b/2.png")
    assert len({first, touched, fingerprint()}) == 3


Damage = Callable[[Path], Any]


def folder_mistakes() -> dict[str, tuple[Damage, str]]:
    return {
        "missing": (lambda root: None, "No such file"),
        "empty": (lambda root: root.mkdir(), "no subfolders.*one per class"),
        "a file": (lambda root: root.touch(), "Not a directory"),
        "no subfolders": (lambda root: write_images(root, "1.png"), "no subfolders.*data=csv"),
        "an empty class": (
            lambda root: write_images(root, "a/1.png", "b/.hidden.png"),
            "/b: no images in this folder; remove it",
        ),
        "no training": (
            lambda root: write_images(root, "val/a/1.png", "test/a/1.png"),
            "test and val without train; add the folder train/",
        ),
        "a folder beside the splits": (
            lambda root: write_images(root, "train/a/1.png", "test/a/1.png", "models/1.png"),
            "models lies next to test and train",
        ),
        "a folder beside train/": (
            lambda root: write_images(root, "train/a/1.png", "train/b/1.png", "models/1.png"),
            "models lies next to train",
        ),
        "a class that is not trained": (
            lambda root: write_images(root, "train/a/1.png", "train/b/1.png", "test/c/9.png"),
            r"test/c/9\.png is labeled 'c', a class without training images; .*classes: a, b",
        ),
    }


@pytest.mark.parametrize(("damage", "told"), folder_mistakes().values(), ids=folder_mistakes())
def test_a_folder_that_is_laid_out_otherwise_is_refused(tmp_path: Path, damage: Damage, told: str) -> None:
    damage(tmp_path / "images")
    with pytest.raises(UserError, match=told) as error:
        ImageFolder(str(tmp_path / "images"))
    assert str(tmp_path / "images") in str(error.value)


CSV_MISTAKES = {
    "no path": ("file,label\n1.png,a\n", "column path is missing"),
    "no label": ("path,class\n1.png,a\n", "column label is missing"),
    "semicolons": ("path;label\n1.png;a\n", "column path is missing.*is 'path;label'"),
    "no lines": ("path,label\n", "no line with an image"),
    "empty file": ("", "column path is missing"),
    "empty label": ("path,label\n1.png,a\n2.png,\n", r"line 3: the label of 2\.png is empty"),
    "short line": ("path,label\n1.png\n", r"line 2: the label"),
    "no such file": ("path,label\n7.png,a\n", r"line 2: .*7\.png is not a file; fix the path"),
    "empty path": ("path,label\n,a\n", r"line 2: the path '' is not below"),
    "a folder": ("path,label\n.,a\n", "line 2: .* is not a file"),
    "outside": ("path,label\n../outside.png,a\n", r"line 2: the path '\.\./outside\.png' is not below data\.root"),
    "absolute": ("path,label\n/etc/passwd,a\n", r"line 2: the path '/etc/passwd' is not below"),
    "comma": ("path,label\n1.png,cat, black\n", "line 2: more columns"),
    "twice": ("path,label\n1.png,a\n2.png,b\n./1.png,a\n", r"line 4: 1\.png is listed twice"),
    "unknown split": ("path,label,split\n1.png,a,exam\n", "line 2: the split 'exam' is unknown"),
    "backslashes": ("path,label\na\\1.png,a\n", "line 2: .* is not a file; write / between folders"),
    "some splits": ("path,label,split\n1.png,a,train\n2.png,b,\n", "give all or none"),
    "unknown label": ("path,label,split\n1.png,a,train\n2.png,b,val\n", "'b', a class without training images"),
    "no text": (b"path,label\n\xff\xfe.png,a\n", "cannot be read as CSV"),
}


@pytest.mark.parametrize(("content", "told"), CSV_MISTAKES.values(), ids=CSV_MISTAKES)
def test_a_csv_with_a_mistake_is_refused_with_its_line(tmp_path: Path, content: str | bytes, told: str) -> None:
    write_images(tmp_path, "outside.png", "images/1.png", "images/2.png")
    file = tmp_path / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told):
        LabeledImages(str(tmp_path / "images"), str(file))


def test_a_csv_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        LabeledImages(str(tmp_path), str(tmp_path / "nowhere.csv"))
