"""Your own image files are found with their labels, in the same order wherever the labels come from."""

import csv
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_images
from explained import assert_facts

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.image_folder import ImageFolder, LabeledImages


def write_csv(file: Path, rows: list[dict[str, str]]) -> str:
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def test_each_subfolder_is_a_class(tmp_path: Path) -> None:
    """Including nested folders, without hidden files and files of the operating system."""
    write_images(tmp_path, "cat/1.png", "cat/more/2.png", "dog/3.jpg", "dog/a.b.webp")
    for litter in ("cat/.DS_Store", "cat/Thumbs.db", ".cache/x/images.npy", "dog/.trash/old.png"):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / litter).touch()
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    assert [*files.paths] == ["cat/1.png", "cat/more/2.png", "dog/3.jpg", "dog/a.b.webp"]
    assert files.targets == [0, 0, 1, 1]
    assert set(files.splits) == {""}
    image, label = files[2]
    with image:
        assert (image.format, label) == ("JPEG", 1)


def test_images_are_sorted_folder_by_folder(tmp_path: Path) -> None:
    """By the names of the folders, not by the text of the paths, in which a blank comes before the separator."""
    write_images(tmp_path, "a/b/1.png", "a/b c/1.png", "a/b.png", "a b/1.png", "a-b/1.png")
    paths = list(ImageFolder(str(tmp_path)).paths)
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    assert paths != sorted(paths)


def test_a_list_of_many_files_takes_little_more_than_their_paths(tmp_path: Path) -> None:
    """Otherwise, ten million files would take gigabytes at each start; the files are links to one."""
    write_images(tmp_path, "a/original.png", "b/original.png")
    for number in range(1000):
        os.link(tmp_path / "a" / "original.png", tmp_path / "ab"[number % 2] / f"image_{number:08}.png")
    ImageFolder(str(tmp_path))
    tracemalloc.start()
    try:
        assert len(ImageFolder(str(tmp_path))) == 1002
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now / 1002 < 80
    assert peak / 1002 < 300


def test_numeric_class_names_are_sorted_numerically(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}/x.png" for number in range(12)))
    assert ImageFolder(str(tmp_path)).classes == [str(number) for number in range(12)]


def test_pipes_and_devices_are_ignored(tmp_path: Path) -> None:
    """Reading a named pipe would never end."""
    write_images(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    assert [*ImageFolder(str(tmp_path)).paths] == ["a/1.png", "b/1.png"]


def test_file_names_need_not_be_utf_8(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")
    os.link(tmp_path / "a" / "1.png", os.fsencode(tmp_path / "a") + b"/\xe9.png")
    assert ImageFolder(str(tmp_path)).hash_files()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("train", "valid"), ("train", "test"), ("train",)])
def test_train_val_and_test_folders_define_the_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_images(tmp_path, *(f"{split}/{name}/1.png" for split in names for name in ("cat", "dog")))
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    expected = {"valid": "val"}
    assert sorted(set(files.splits)) == sorted(expected.get(name, name) for name in names)
    for path, split in zip(files.paths, files.splits, strict=True):
        assert path.startswith(split)


def test_split_folders_may_be_capitalized(tmp_path: Path) -> None:
    write_images(tmp_path, "Train/cat/1.png", "Train/dog/1.png", "Test/cat/2.png", "Test/dog/2.png")
    files = ImageFolder(str(tmp_path))
    assert files.classes == ["cat", "dog"]
    assert sorted(files.splits) == ["test", "test", "train", "train"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """To files elsewhere; a circular link is not followed, and a dangling link is a file that cannot be read."""
    write_images(tmp_path, "images/a/1.png", "images/b/1.png", "elsewhere/2.png")
    (tmp_path / "images" / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "images" / "a" / "loop").symlink_to(tmp_path / "images" / "a")
    (tmp_path / "images" / "b" / "nothing.png").symlink_to(tmp_path / "nothing.png")
    files = ImageFolder(str(tmp_path / "images"))
    assert [*files.paths] == ["a/1.png", "a/link.png", "b/1.png", "b/nothing.png"]
    assert files.hash_files()


def test_a_link_to_the_folder_above_gives_no_images_of_other_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, "images/a/1.png", "images/a/more/2.png", "images/b/1.png")
    (tmp_path / "images" / "a" / "more" / "above").symlink_to(tmp_path / "images")
    assert [*ImageFolder(str(tmp_path / "images")).paths] == ["a/1.png", "a/more/2.png", "b/1.png"]
    assert f"skipped {tmp_path / 'images/a/more/above'}: a link to {tmp_path / 'images'}" in caplog.text


@pytest.mark.parametrize("target", ["b", ".", "b/more"])
def test_a_link_that_makes_a_class_of_another_one_is_an_error(tmp_path: Path, target: str) -> None:
    write_images(tmp_path, "b/more/1.png", "c/1.png")
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=f"{tmp_path}/link: a link by which the classes .* and .*; remove one"):
        ImageFolder(str(tmp_path))


def test_a_split_may_be_a_link_to_another(tmp_path: Path) -> None:
    write_images(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png")
    (tmp_path / "test").symlink_to("val")
    assert len(ImageFolder(str(tmp_path))) == 6


def test_a_folder_named_train_next_to_class_folders_is_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, "train/1.png", "bus/2.png")
    assert ImageFolder(str(tmp_path)).classes == ["bus", "train"]


def test_a_csv_of_a_folder_gives_the_same_dataset(tmp_path: Path) -> None:
    """In any order of lines, with a byte order mark, spaces, other columns, or ./ in the paths."""
    write_images(tmp_path, "a/2.png", "a/1.png", "a-b/1.png", "b/9.png")
    lines = "﻿path, label, photographer\nb/9.png, b, me\n./a-b/1.png,a-b,me\na/1.png,a,me\na/x/../2.png,a,me\n"
    (tmp_path / "labels.csv").write_text(lines, encoding="utf-8")
    folder = ImageFolder(str(tmp_path))
    listed = LabeledImages(str(tmp_path), str(tmp_path / "labels.csv"))
    for attribute in ("paths", "targets", "classes", "splits"):
        assert [*getattr(folder, attribute)] == [*getattr(listed, attribute)], attribute
    assert folder.hash_files() == listed.hash_files()


def test_the_csv_column_split_defines_the_splits(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png", "3.png", "4.png")
    rows = [{"path": f"{i}.png", "label": "ab"[i % 2], "split": split} for i, split in
            enumerate(["train", "Training", "val", "TEST"], start=1)]  # fmt: skip
    files = LabeledImages(str(tmp_path), write_csv(tmp_path / "labels.csv", rows))
    assert files.splits == ["train", "train", "val", "test"]
    assert files.targets == [1, 0, 1, 0]


def test_the_fingerprint_of_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")

    def fingerprint() -> str:
        return ImageFolder(str(tmp_path)).hash_files()

    first = fingerprint()
    assert fingerprint() == first
    os.utime(tmp_path / "a/1.png", ns=(1, 1))
    touched = fingerprint()
    write_images(tmp_path, "b/2.png")
    assert len({first, touched, fingerprint()}) == 3


def test_the_fingerprint_changes_with_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    """As after cp -p, or after two files have changed places."""
    write_images(tmp_path, "a/1.bmp", "b/1.bmp", "new.bmp")
    folder = ImageFolder(str(tmp_path))
    file, before = tmp_path / "a/1.bmp", folder.hash_files()
    status = file.stat()
    while file.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of the file system may be coarse
        file.write_bytes((tmp_path / "new.bmp").read_bytes())
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert folder.hash_files() != before


Damage = Callable[[Path], Any]


YOURS = "the folder of your images|data.root=DIR"
LAYOUT = "cat/1.jpg.*data=csv data.labels=FILE"


def folder_mistakes() -> dict[str, tuple[Damage, str, str]]:
    """Changes of the folder, and regular expressions of the message's problem and remedy."""
    return {
        "missing": (lambda root: None, "No such file|does not exist", YOURS),
        "empty": (lambda root: root.mkdir(), "no subfolders", LAYOUT),
        "a file": (lambda root: root.touch(), "Not a directory", YOURS),
        "no subfolders": (lambda root: write_images(root, "1.png"), "no subfolders", LAYOUT),
        "an empty class": (
            lambda root: write_images(root, "a/1.png", "b/.hidden.png"),
            "images/b: (there is )?no image",
            r"\bremove\b",
        ),
        "no training": (
            lambda root: write_images(root, "val/a/1.png", "test/a/1.png"),
            r"no train/.* test and val",
            r"\badd\b",
        ),
        "a folder beside the splits": (
            lambda root: write_images(root, "train/a/1.png", "test/a/1.png", "models/1.png"),
            r"\bmodels\b.* test and train",
            r"\bmove\b",
        ),
        "a folder beside train/": (
            lambda root: write_images(root, "train/a/1.png", "train/b/1.png", "models/1.png"),
            r"\bmodels\b.* train",
            r"\bmove\b",
        ),
        "a class that is not trained": (
            lambda root: write_images(root, "train/a/1.png", "train/b/1.png", "test/c/9.png"),
            r"test/c/9\.png.* 'c'.*without training images",
            r"\ba, b\b",
        ),
    }


@pytest.mark.parametrize(("damage", "problem", "remedy"), folder_mistakes().values(), ids=folder_mistakes())
def test_a_folder_with_another_layout_is_an_error(tmp_path: Path, damage: Damage, problem: str, remedy: str) -> None:
    folder = str(tmp_path / "images")
    damage(Path(folder))
    with pytest.raises(UserError) as error:
        ImageFolder(folder)
    assert_facts(str(error.value), [folder], [folder], problem, remedy)


HEADER = "first line"
BELOW_ROOT = r"data\.root=\S*/images"
# Of each: the content, the line that the message names, and regular expressions of its problem and its remedy.
CSV_MISTAKES: dict[str, tuple[str | bytes, int | None, str, str]] = {
    "no path": ("file,label\n1.png,a\n", None, "column path", f"{HEADER}.*'file, ?label'"),
    "no label": ("path,class\n1.png,a\n", None, "column label", f"{HEADER}.*'path, ?class'"),
    "two labels": (
        "path,label,label\n1.png,a,b\n",
        None,
        "column label occurs twice",
        f"{HEADER}.*'path, label, label'",
    ),
    "no end of quotes": ('path,label\n"1.png,a\n', None, "unexpected end", "save it as CSV in UTF-8"),
    "long field": (f"path,label\n{'x' * 200_000},a\n", None, "field larger", "save it as CSV in UTF-8"),
    "long path": (f"path,label\n{'x' * 5000},a\n", 2, "is not a file", "fix the path.*remove the line"),
    "semicolons": ("path;label\n1.png;a\n", None, "column path", f"{HEADER}.*'path;label'.*commas"),
    "no lines": ("path,label\n", None, "lists no images", r"\badd lines\b"),
    "empty file": ("", None, "column path", f"{HEADER}.*''"),
    "empty label": ("path,label\n1.png,a\n2.png,\n", 3, r"label of 2\.png is empty", r"\bfill it in\b.*\bremove\b"),
    "short line": ("path,label\n1.png\n", 2, r"label of 1\.png is empty", r"\bfill it in\b.*\bremove\b"),
    "no such file": ("path,label\n7.png,a\n", 2, r"images/7\.png is not a file", "fix the path.*remove the line"),
    "empty path": ("path,label\n,a\n", 2, "the path is empty", r"\bfill it in\b.*\bremove\b"),
    "a folder": ("path,label\n.,a\n", 2, r"images is not a file;", "fix the path.*remove the line"),
    "outside": ("path,label\n../outside.png,a\n", 2, r"path '\.\./outside\.png' is outside", BELOW_ROOT),
    "absolute": ("path,label\n/etc/passwd,a\n", 2, "path '/etc/passwd' is outside", BELOW_ROOT),
    "comma": ("path,label\n1.png,cat, black\n", 2, "more values than columns", "quote values"),
    "twice": ("path,label\n1.png,a\n2.png,b\n./1.png,a\n", 4, r"1\.png is (there|listed) twice", "leave|remove"),
    "unknown split": ("path,label,split\n1.png,a,exam\n", 2, "split 'exam'", "train, val or test"),
    "backslashes": ("path,label\na\\1.png,a\n", 2, r"a\\1\.png is not a file", "use / as the path separator"),
    "some splits": (
        "path,label,split\n1.png,a,train\n2.png,b,\n",
        None,
        "some lines lack a split",
        "every line a split, or none",
    ),
    "unknown label": (
        "path,label,split\n1.png,a,train\n2.png,b,val\n",
        None,
        r"2\.png.* 'b'.*without training images",
        r"\badd\b.*: a$",
    ),
    "no text": (b"path,label\n\xff\xfe.png,a\n", None, "utf-8.* 0xff in position 11", "save it as CSV in UTF-8"),
}


@pytest.mark.parametrize(("content", "line", "problem", "remedy"), CSV_MISTAKES.values(), ids=CSV_MISTAKES)
def test_a_csv_mistake_is_an_error_that_names_the_line(
    tmp_path: Path, content: str | bytes, line: int | None, problem: str, remedy: str
) -> None:
    write_images(tmp_path, "outside.png", "images/1.png", "images/2.png")
    file = tmp_path / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        LabeledImages(str(tmp_path / "images"), str(file))
    names = [str(tmp_path), *([] if line is None else [f"data.labels={file}", f"line {line}"])]
    assert_facts(str(error.value), [str(tmp_path)], names, problem, remedy)


def test_a_missing_csv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        LabeledImages(str(tmp_path), str(tmp_path / "nowhere.csv"))
    names = [f"data.labels={tmp_path / 'nowhere.csv'}"]
    assert_facts(str(error.value), [], names, "No such file", r"data\.labels=FILE")


def test_a_dangling_or_circular_symlink_is_not_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").symlink_to("c")
    (tmp_path / "d").symlink_to("nowhere")
    assert ImageFolder(str(tmp_path)).classes == ["a", "b"]
