"""What else lies in a folder of images, and what else a CSV file contains, is left out or explained, with a word."""

import unicodedata
from pathlib import Path

import pytest
from conftest import Command, write_images
from explained import assert_explained

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.csv_labels import read_labels
from pytorch_intro.data.ingest.data_root import checked_root
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.reader import DatasetReader
from pytorch_intro.data.ingest.relabel import warn_about_similar

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=none"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    write_images(root, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)))
    return root


@pytest.mark.parametrize("folder", [".", "outputs"])
@pytest.mark.parametrize("is_named", [True, False])
def test_runs_in_the_folder_of_images_are_no_class(
    command: Command, tmp_path: Path, folder: str, is_named: bool
) -> None:
    """Neither the run itself, whose folder is empty when images are read, nor earlier ones."""
    root = tmp_path / folder
    write_images(root, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)))
    for seed in (0, 1):
        names = [f"name=run{seed}"] if is_named else []
        answer = command("data=folder", f"data.root={root}", *SHORT, f"seed={seed}", *names)
        assert answer.code == 0, answer.err
        assert "2 classes; " in answer.out
        assert "results of runs, no images" in answer.out


def test_sweeps_in_the_folder_of_images_are_no_class(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)))
    for seeds in ("0,1", "2,3"):
        answer = command("-m", "data=folder", f"data.root={tmp_path}", f"seed={seeds}", f"name=s{seeds[0]}", *SHORT)
        assert answer.code == 0, answer.err
        assert answer.out.count("2 classes; ") == 2


def test_files_of_other_kinds_in_a_class_are_left_out_but_not_photographs(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Notes and the files of labeling tools are counted; a photograph that Pillow does not read stays an error."""
    for name in ("cat/notes.txt", "cat/1.xml", "dog/2.XML", "dog/3.json"):
        (photos / name).write_text("not an image")
    assert len(ImageFolder(str(photos))) == 24
    assert "data: skipped 4 file(s) that are not images: 2 .xml, 1 .txt, 1 .json" in caplog.text
    (photos / "dog" / "phone.HEIC").write_text("a photograph")
    assert len(ImageFolder(str(photos))) == 25
    (photos / "dog" / "two.heic").write_text("a photograph")
    with pytest.raises(UserError, match=r"phone\.HEIC: .*; convert it to JPEG, and 1 other \.heic file\(s\), or use"):
        DatasetReader(8, "crop", None, None, False, 0).read(ImageFolder(str(photos)))
    (photos / "fish").mkdir()
    (photos / "fish" / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match="fish: no images in this folder; remove it"):
        ImageFolder(str(photos))


def test_a_run_within_a_class_is_left_out(photos: Path) -> None:
    write_images(photos, "cat/first/curves.png", "cat/more/1.png")
    assert "cat/first/curves.png" in ImageFolder(str(photos)).paths
    (photos / "cat" / "first" / "config.yaml").touch()
    (photos / "cat" / "first" / "result.json").touch()
    images = ImageFolder(str(photos))
    assert "cat/more/1.png" in images.paths
    assert not [path for path in images.paths if "first" in path]


def test_runs_next_to_splits_are_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "test/dog/3.png")
    (tmp_path / "outputs" / "first").mkdir(parents=True)
    (tmp_path / "outputs" / "first" / "train.log").touch()
    assert ImageFolder(str(tmp_path)).classes == ["cat", "dog"]


def test_a_config_alone_does_not_make_a_run(photos: Path) -> None:
    (photos / "config.yaml").touch()
    (photos / "cat" / "config.yaml").touch()
    assert len(ImageFolder(str(photos))) == 24


def test_images_next_to_the_class_folders_are_counted_in_a_warning(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ImageFolder(str(photos))
    assert not caplog.messages
    write_images(photos, "1.png", "2.JPG", "3.tiff")
    (photos / "notes.txt").touch()
    (photos / "more.png").mkdir()
    write_images(photos, "more.png/1.png")
    assert ImageFolder(str(photos)).classes == ["cat", "dog", "more.png"]
    (message,) = caplog.messages
    assert message.startswith(f"data: ignored 3 image(s) next to the class folders in {photos}; move them")


def test_images_next_to_the_classes_of_a_split_are_counted_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/2.png", "val/cat/2.png", "val/2.png", "0.png")
    ImageFolder(str(tmp_path))
    assert [message.partition(" in ")[2].partition(";")[0] for message in caplog.messages] == [
        str(tmp_path), str(tmp_path / "train"), str(tmp_path / "val"),
    ]  # fmt: skip


@pytest.mark.parametrize("similar", ["Cat", "cat ", "CAT", " cat", "c\N{LATIN SMALL LETTER A}t  "])
def test_classes_that_differ_in_case_or_blanks_only_are_reported(
    photos: Path, caplog: pytest.LogCaptureFixture, similar: str
) -> None:
    write_images(photos, f"{similar}/1.png")
    DatasetReader(None, "crop", None, None, False, 0).read(ImageFolder(str(photos)))
    (message,) = (message for message in caplog.messages if "differ" in message)
    assert repr(similar) in message
    assert "'cat'" in message
    assert "data.target_transform" in message


def test_classes_that_differ_in_the_encoding_of_accents_only_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """As macOS and Linux store the same name."""
    names = [unicodedata.normalize(form, "\N{LATIN SMALL LETTER E WITH ACUTE}") for form in ("NFC", "NFD")]
    warn_about_similar([*names, "other"], "rename one")
    assert [message.endswith("; rename one") for message in caplog.messages] == [True]


def test_classes_that_are_merged_are_not_reported(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(photos, "Cat/1.png")
    mapping: dict[str, str | int] = {"cat": "cat", "Cat": "cat", "dog": "dog"}
    DatasetReader(None, "crop", None, None, False, 0, mapping).read(ImageFolder(str(photos)))
    assert not [message for message in caplog.messages if "differ" in message]


def test_predict_reports_similar_classes(command: Command, script: Command, photos: Path, tmp_path: Path) -> None:
    write_images(photos, *(f"Cat/{number}.png" for number in range(12)))
    answer = command("data=folder", f"data.root={photos}", *SHORT[:2], "name=first")
    assert answer.out.count("the classes 'Cat', 'cat' differ in case or blanks only") == 1
    answer = script("predict", f"run={tmp_path / 'outputs' / 'first'}", f"images={photos}", "trainer.accelerator=cpu")
    assert (answer.out + answer.err).count("the classes 'Cat', 'cat' differ in case or blanks only") == 1


@pytest.mark.parametrize("line", [",", ",,", " , ", ",,,,", '"",""'])
def test_lines_without_values_in_a_csv_are_skipped(photos: Path, tmp_path: Path, line: str) -> None:
    """Spreadsheets append them."""
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\ncat/1.png,cat\n{line}\ndog/1.png,dog\n{line}\n")
    assert read_labels(str(file), str(photos)) == {"cat/1.png": ("cat", ""), "dog/1.png": ("dog", "")}


@pytest.mark.parametrize("line", [",cat", " ,cat", ",,note"])
def test_an_empty_path_in_a_csv_is_an_error_of_its_own(photos: Path, tmp_path: Path, line: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label,note\ncat/1.png,cat,\n{line}\n")
    with pytest.raises(UserError, match=r"line 3: the path is empty; fill it in, or remove the line"):
        read_labels(str(file), str(photos))


def test_an_archive_as_data_root_is_to_be_unpacked(command: Command, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK")
    answer = command("data=folder", f"data.root={archive}")
    assert answer.code == 2
    assert_explained(
        answer.err, [f"data.root={archive}"], [f"data.root={archive}"], "is a file", r"unpack.*data\.root=DIR"
    )
    with pytest.raises(UserError, match="no such folder; create it"):
        checked_root(str(tmp_path / "missing"))
