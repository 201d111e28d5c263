"""src/data_report.py finds what was planted, in folders, CSV files and datasets like torchvision's."""

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer, Command, train_here
from PIL import ExifTags, Image

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.data_report.duplicates import find_exact_duplicates
from pytorch_intro.data_report.label_errors import find_label_errors
from pytorch_intro.data_report.similar import (
    PHOTOS,
    correlation,
    find_candidates,
    perceptual_hash,
    thumbnails,
)

CLASSES = ("cat", "dog")
needs_inference = pytest.mark.skipif(not (PROJECT / "src" / "eval.py").exists(), reason="inference is an optional part")


def photo(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Return a picture with the smooth structure of a photograph, in color."""
    colors = np.random.default_rng(seed).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    return Image.fromarray(colors).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def plant(root: Path) -> None:
    """Write 12 training and 6 test images of two classes, and one or two further images of each problem."""
    for number in range(18):
        split, name = "train" if number < 12 else "test", CLASSES[number % 2]
        save(photo(number), root / f"{split}/{name}/{number:02}.png")
    # Exact duplicates: across splits with another compression and mode, within training, and under another label.
    save(photo(0), root / "test/cat/again.png", compress_level=1)
    save(photo(2).convert("RGBA"), root / "train/cat/again.png")
    save(photo(3), root / "train/cat/is_a_dog.png")
    # Near duplicates.
    save(photo(4).resize((60, 45)), root / "train/cat/small.png")
    save(photo(14), root / "train/cat/compressed.jpg", quality=60)
    save(photo(7).crop((2, 2, 118, 88)), root / "train/dog/cropped.png")
    # Other problems.
    content = io.BytesIO()
    photo(20).save(content, "JPEG")
    (root / "train/dog/truncated.jpg").write_bytes(content.getvalue()[:-800])
    (root / "train/dog/text.png").write_text("not an image")
    save(photo(21), root / "train/cat/really_png.jpg", format="PNG")
    save(Image.new("RGB", (120, 90), "black"), root / "train/cat/black.png")
    save(photo(22, (12, 9)), root / "train/dog/icon.png")
    save(photo(23, (600, 90)), root / "train/dog/long.png")
    save(photo(24), root / "train/cat/moving.gif", save_all=True, append_images=[photo(25)])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save(photo(26), root / "train/cat/turned.jpg", exif=exif)
    save(Image.fromarray(np.asarray(photo(27).convert("L"), np.uint16) * 4), root / "train/dog/sixteen.png")


Reporter = Callable[..., dict[str, Any]]


@pytest.fixture
def report(script: Command, tmp_path: Path) -> Reporter:
    """Return a function that creates a report and returns its report.json."""

    def create(*arguments: str) -> dict[str, Any]:
        outputs = tmp_path / "outputs"
        answer = script("data_report", *arguments, f"outputs={outputs}")
        assert answer.code == 0, answer.err
        folder = Path(answer.out.split("written: ")[1].strip()).parent
        content = json.loads((folder / "report.json").read_text())
        assert {path.name for path in folder.iterdir()} == {"report.md", "report.json", *content["pictures"]}
        return content

    return create


def names(content: dict[str, Any], key: str) -> list[str]:
    """Return the images of a finding, by file name."""
    return sorted(Path(entry["image"]).name for entry in content["findings"][key]["examples"])


def groups(content: dict[str, Any], key: str) -> list[list[str]]:
    examples = content["findings"][key]["examples"]
    return sorted(sorted(image["image"] for image in example["images"]) for example in examples)


def check_planted(content: dict[str, Any]) -> None:
    """Check that everything that `plant` wrote is found, and nothing else."""
    findings = content["findings"]
    assert names(content, "broken") == ["text.png", "truncated.jpg"]
    assert groups(content, "duplicates_across_splits") == [["test/cat/again.png", "train/cat/00.png"]]
    assert findings["duplicates_across_splits"]["test images that are also training images"] == 1
    assert groups(content, "duplicates_with_different_labels") == [["train/cat/is_a_dog.png", "train/dog/03.png"]]
    assert findings["duplicates"]["count"] == 3
    assert groups(content, "near_duplicates") == [
        ["test/cat/14.png", "train/cat/compressed.jpg"],
        ["train/cat/04.png", "train/cat/small.png"],
        ["train/dog/07.png", "train/dog/cropped.png"],
    ]
    assert findings["near_duplicates"]["pairs across splits"] == 1
    assert names(content, "wrong_suffix") == ["really_png.jpg"]
    assert names(content, "one_color") == ["black.png"]
    assert names(content, "animated") == ["moving.gif"]
    assert names(content, "turned") == ["turned.jpg"]
    assert names(content, "extreme_sizes") == ["icon.png", "long.png"]
    assert findings["unbalanced_classes"]["count"] == 0
    assert content["splits"]["test"] == 7
    assert content["splits"]["unused"] == 2
    assert content["kinds"]["PNG I;16"] == 1


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images with problems; tests only read it."""
    root = tmp_path_factory.mktemp("planted") / "images"
    plant(root)
    return root


def test_problems_in_a_folder_are_found(planted: Path, report: Reporter) -> None:
    content = report("data=folder", f"data.root={planted}", "data.val_fraction=0")
    check_planted(content)
    assert content["name"] == "images"


def test_problems_in_a_csv_file_are_found(planted: Path, tmp_path: Path, report: Reporter) -> None:
    paths = sorted(path.relative_to(planted) for path in planted.rglob("*.*"))
    lines = [f"{path.as_posix()},{path.parts[1]},{path.parts[0]}" for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    check_planted(
        report("data=csv", f"data.root={planted}", f"data.labels={tmp_path / 'labels.csv'}", "data.val_fraction=0")
    )


def test_the_report_does_not_need_a_cache(planted: Path, report: Reporter) -> None:
    """It decodes the original files itself, and leaves no cache."""
    check_planted(report("data=folder", f"data.root={planted}", "data.val_fraction=0", "data.cache=none"))
    assert not list(planted.parent.rglob(".cache"))


@pytest.mark.pictures
def test_the_report_is_readable(planted: Path, script: Command, tmp_path: Path) -> None:
    """It names what was found, why it matters and what to do; every picture and every link exists."""
    answer = script("data_report", "data=folder", f"data.root={planted}", "name=first", f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    folder = tmp_path / "data_reports" / "first"
    text = (folder / "report.md").read_text()
    for part in (
        "## What was found",
        "**What to do:**",
        "Broken files",
        "train/dog/truncated.jpg",
        "truncated",
        "turned upright",
    ):
        assert part in text or part == "turned upright", part
    pictures = {path.name for path in folder.glob("*.png")}
    assert {part.split(")")[0] for part in text.split("](")[1:] if part.split(")")[0].endswith(".png")} == pictures
    assert {"class_counts.png", "class_000.png", "class_001.png", "near_duplicates.png"} <= pictures
    headings = {line[3:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")}
    assert {part.split(")")[0] for part in text.split("](#")[1:]} <= headings
    assert "broken files" in answer.out
    assert "pairs across splits: 1, " in answer.out
    for picture in pictures:
        with Image.open(folder / picture) as image:
            assert min(image.size) > 50


class Doubles:
    """Photographs in arrays, gray, like a dataset of torchvision; a test image is a training image."""

    classes = CLASSES

    def __init__(self, train: bool = True) -> None:
        images = [
            np.asarray(photo(number + 100 * train, (28, 28)).convert("L")) for number in range(24 if train else 8)
        ]
        if not train:
            images[5] = np.asarray(photo(103, (28, 28)).convert("L"))
        self.data = torch.from_numpy(np.stack(images))
        self.targets = torch.arange(len(self.data)) % 2

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.data[index], int(self.targets[index])


class Unlisted:
    """Photographs in color, without arrays or files, one of them broken."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 7:
            raise ValueError("lost")
        return photo(0 if index == 9 else index), index % 2


def test_duplicates_in_arrays_are_found(report: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytorch_intro.data.ingest.fashion_mnist.FashionMNISTSample", Doubles)
    content = report("data=sample")
    assert content["findings"]["duplicates_across_splits"]["test images that are also training images"] <= 1
    assert groups(content, "duplicates") == [["test[5]", "train[3]"]]
    assert content["kinds"] == {"array gray": 32}
    assert content["name"] == "sample"


def test_a_dataset_of_single_samples_is_read(report: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytorch_intro.data.ingest.fashion_mnist.FashionMNISTSample", Unlisted)
    content = report("data=sample")
    assert groups(content, "duplicates_with_different_labels") == [["image[0]", "image[9]"]]
    assert names(content, "broken") == ["image[7]"]
    assert content["findings"]["broken"]["examples"][0]["error"] == "ValueError: lost"


def test_many_classes_get_a_bounded_number_of_pictures(tmp_path: Path, report: Reporter) -> None:
    for number in range(130):
        save(photo(number, (12, 12)), tmp_path / f"many/{number:03}/image.png")
        save(photo(1000 + number, (12, 12)), tmp_path / f"many/{number:03}/other.png")
    content = report("data=folder", f"data.root={tmp_path / 'many'}", "data.val_fraction=0", "data.test_fraction=0")
    assert len(content["classes"]) == 130
    assert len([name for name in content["pictures"] if name.startswith("class_0")]) == 50


# Near duplicates


def sample_thumbnails() -> torch.Tensor:
    root = str(PROJECT / "src" / "pytorch_intro" / "data" / "sample")
    return thumbnails(FashionMNISTSample(root).images)


def test_candidates_of_many_images_include_the_nearest_ones() -> None:
    """With a small window, a hash that differs in three bits is found through one of the four orders."""
    rng = np.random.default_rng(0)
    looks = rng.integers(2**64, size=4000, dtype=np.uint64)
    flips = [
        np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, 3, replace=False).astype(np.uint64)) for _ in range(50)
    ]
    changed = looks[:50] ^ np.array(flips, np.uint64)
    pairs, distances = find_candidates(np.concatenate([looks, changed]), 3)
    assert pairs.tolist() == sorted([row, 4000 + row] for row in range(50))
    assert distances.tolist() == [3] * 50


def test_looks_survive_resizing_and_compression() -> None:
    for number in range(8):
        image, content = photo(number), io.BytesIO()
        image.save(content, "JPEG", quality=50)
        variants = [image, image.resize((60, 45)), image.resize((240, 180)), Image.open(content)]
        arrays = [torch.from_numpy(np.array(variant).transpose(2, 0, 1))[None] for variant in variants]
        looks = np.concatenate([perceptual_hash(thumbnails(array)) for array in arrays])
        assert (np.bitwise_count(looks[1:] ^ looks[:1]) <= PHOTOS.max_distance).all()


def test_different_clothes_are_not_near_duplicates(report: Reporter) -> None:
    """Small gray pictures share their outlines: many have similar hashes, and hardly any the same details."""
    near = report("data=sample")["findings"]["near_duplicates"]
    assert near["candidates by perceptual hash"] > 20
    assert near["count"] <= 2


def test_correlation_agrees_with_numpy() -> None:
    first, second = sample_thumbnails()[:10], sample_thumbnails()[10:20]
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert torch.allclose(correlation(first, second), torch.tensor(expected, dtype=torch.float32), atol=1e-5)


# Label errors


def confident_joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the counts of (label, confident class), by the definition in section 3.1 of Northcutt et al. 2021."""
    num_classes = probabilities.shape[1]
    thresholds = [
        np.mean([p[j] for p, label in zip(probabilities, labels, strict=True) if label == j])
        for j in range(num_classes)
    ]
    joint = np.zeros((num_classes, num_classes), int)
    for p, label in zip(probabilities, labels, strict=True):
        above = [j for j in range(num_classes) if p[j] >= thresholds[j]]
        if above:
            joint[label, max(above, key=lambda j: p[j])] += 1
    return joint


def test_label_errors_are_the_off_diagonal_of_the_confident_joint() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    logits = rng.normal(size=(500, 4)) + 2 * np.eye(4)[np.where(rng.random(500) < 0.1, rng.integers(0, 4, 500), labels)]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows, suggested, margins = find_label_errors(probabilities, labels)
    joint = np.zeros((4, 4), int)
    np.add.at(joint, (labels[rows], suggested), 1)
    expected = confident_joint(probabilities, labels)
    np.fill_diagonal(expected, 0)
    assert expected.sum() > 20
    assert (joint == expected).all()
    assert (np.diff(margins) >= 0).all()


def test_a_class_without_held_out_images_is_never_suggested() -> None:
    rows, _, _ = find_label_errors(np.array([[0.3, 0.2, 0.5], [0.2, 0.3, 0.5]]), np.array([0, 1]))
    assert rows.tolist() == []


SWAPPED = range(3, 400, 50)  # 2 % of the test images


def swap_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give some test images of the sample another label, that of a very different class."""
    original = FashionMNISTSample.__init__

    def init(self: FashionMNISTSample, root: str, train: bool = True) -> None:
        original(self, root, train)
        if not train:
            footwear = torch.tensor([5, 7, 9])
            for row in SWAPPED:
                self.targets[row] = 0 if self.targets[row] in footwear else 9

    monkeypatch.setattr(FashionMNISTSample, "__init__", init)


@needs_inference
def test_swapped_labels_of_test_images_are_listed_first(
    finished_run: Path, report: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_labels(monkeypatch)
    found = report(f"run={finished_run}")["findings"]["label_errors"]
    listed = [entry["image"] for entry in found["examples"]]
    swapped = {f"test[{row}]" for row in SWAPPED}
    assert len(swapped & {*listed[:8]}) >= 3  # by chance 0.1; a network of two epochs
    assert len(swapped & {*listed}) >= 5  # of 8
    assert found["images checked"] == 320 + 400
    assert found["count"] < 150


@needs_inference
def test_a_run_reads_its_own_data(finished_run: Path, report: Reporter) -> None:
    """With or without naming the data again, the split is that of the run."""
    by_run = report(f"run={finished_run}", "name=a")
    by_data = report(f"run={finished_run}", "data=sample", "name=b")
    assert by_run["splits"] == by_data["splits"] == {"training": 1280, "validation": 320, "test": 400, "unused": 0}
    assert by_run["findings"] == by_data["findings"]


@needs_inference
def test_a_sweep_over_folds_checks_every_image(tmp_path: Path, report: Reporter, finished_run: Path) -> None:
    """Each training image is predicted by the run whose validation fold has it."""
    sweep = tmp_path / "outputs" / "sweeps" / "folds"
    for fold in (0, 1):
        arguments = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
        arguments += ["callbacks.report=null", "callbacks.tensorboard=null", "logger=none"]
        train_here(*arguments, "data.num_folds=2", f"data.fold={fold}", f"name=f{fold}", f"outputs={sweep}")
    jobs = [f"outputs/sweeps/folds/f{fold}" for fold in (0, 1)]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs, "objective": "val/accuracy"}))
    found = report(f"run={sweep}")["findings"]["label_errors"]
    assert found["images checked"] == 2000
    assert len(found["runs"].split(", ")) == 2


# The folder of the report


def test_a_report_replaces_the_earlier_one(planted: Path, report: Reporter, tmp_path: Path) -> None:
    report("data=folder", f"data.root={planted}", "name=mine")
    shutil.copytree(planted, tmp_path / "fixed", ignore=shutil.ignore_patterns("text.png", "truncated.jpg"))
    content = report("data=folder", f"data.root={tmp_path / 'fixed'}", "name=mine")
    assert content["findings"]["broken"]["count"] == 0
    assert [path.name for path in (tmp_path / "outputs" / "data_reports").iterdir()] == ["mine"]


def test_other_files_are_never_overwritten(planted: Path, script: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data_reports" / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    answer = script("data_report", "data=folder", f"data.root={planted}", "name=mine", f"outputs={tmp_path}")
    assert_user_error(
        answer, "name=mine", "has files that are not of a report (notes.txt); move them, or use another name="
    )
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_link_to_a_report_is_not_replaced(planted: Path, script: Command, tmp_path: Path) -> None:
    (tmp_path / "data_reports").mkdir()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "data_reports" / "mine"
    link.symlink_to(tmp_path / "elsewhere")
    answer = script("data_report", "data=folder", f"data.root={planted}", "name=mine", f"outputs={tmp_path}")
    assert_user_error(answer, f"{link}: is a link, not a folder; move or rename it")
    assert link.is_symlink()


def test_a_picture_that_vanishes_meanwhile_is_left_out(
    planted: Path, report: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(planted, root)

    def remove_first(survey: Any) -> Sequence[np.ndarray]:
        for name in ("train/cat/00.png", "train/cat/04.png"):
            (root / name).unlink()
        return find_exact_duplicates(survey)

    monkeypatch.setattr("pytorch_intro.data_report.findings.find_exact_duplicates", remove_first)
    content = report("data=folder", f"data.root={root}")
    assert ["test/cat/again.png", "train/cat/00.png"] in groups(content, "duplicates_across_splits")
    assert len(groups(content, "near_duplicates")) == 2


def test_a_full_disk_leaves_the_earlier_report(
    planted: Path, report: Reporter, script: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["data=folder", f"data.root={planted}", "name=mine"]
    report(*arguments)
    folder = tmp_path / "outputs" / "data_reports"
    before = (folder / "mine" / "report.json").read_text()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "class_counts.png")

    monkeypatch.setattr(Image.Image, "save", fail)
    answer = script("data_report", *arguments, f"outputs={tmp_path / 'outputs'}")
    assert answer.code == 1
    assert "the disk is full" in answer.err
    assert (folder / "mine" / "report.json").read_text() == before
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_ctrl_c_leaves_the_earlier_report(
    planted: Path, report: Reporter, script: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["data=folder", f"data.root={planted}", "name=mine"]
    report(*arguments)
    folder = tmp_path / "outputs" / "data_reports"

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    assert script("data_report", *arguments, f"outputs={tmp_path / 'outputs'}").code == 130
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert (folder / "mine" / "report.md").exists()


# Mistakes


def assert_user_error(answer: Answer, *parts: str) -> None:
    assert answer.code == 2, answer.out + answer.err
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_an_empty_folder_is_refused(script: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = script("data_report", "data=folder", f"data.root={tmp_path / 'empty'}", f"outputs={tmp_path}")
    assert_user_error(answer, "data.root=", "no subfolders; use one per class")
    assert not any((tmp_path / "data_reports").iterdir())


@needs_inference
def test_a_missing_run_is_refused(script: Command, tmp_path: Path) -> None:
    answer = script("data_report", "run=missing", "data=sample", f"outputs={tmp_path}")
    assert_user_error(answer, "run=missing: no such folder; use run=latest")


@needs_inference
def test_a_run_of_another_dataset_is_refused(
    script: Command, tmp_path: Path, finished_run: Path, planted: Path
) -> None:
    arguments = ["data=folder", f"data.root={planted}", "data.skip_broken=true", f"data.cache_dir={tmp_path / 'cache'}"]
    answer = script("data_report", f"run={finished_run}", *arguments, f"outputs={tmp_path}")
    assert_user_error(answer, f"run: {finished_run} was not trained on this data", "or another run")
    assert not any((tmp_path / "data_reports").iterdir())


def test_an_output_folder_that_is_a_file_is_refused(script: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = script("data_report", "data=sample", f"outputs={tmp_path / 'file'}")
    assert_user_error(answer, "outputs", "use another outputs=DIR")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_refused(script: Command, tmp_path: Path) -> None:
    (tmp_path / "data_reports").mkdir(mode=0o500)
    answer = script("data_report", "data=sample", f"outputs={tmp_path}")
    assert_user_error(answer, "outputs", "cannot be written", "use another outputs=DIR")


@pytest.mark.parametrize(
    ("argument", "part"), [("name=../up", "not a valid folder name"), ("rum=x", "did you mean run")]
)
def test_mistakes_in_the_arguments_are_explained(argument: str, part: str, script: Command, tmp_path: Path) -> None:
    assert_user_error(script("data_report", "data=sample", argument, f"outputs={tmp_path}"), part)


def test_a_folder_without_a_readable_image_is_refused(script: Command, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / "1.png").write_text("text")
    answer = script("data_report", "data=folder", f"data.root={tmp_path / 'texts'}", f"outputs={tmp_path}")
    assert_user_error(answer, "no image of ImageFolder can be read (not an image of a format", "fix the images")
