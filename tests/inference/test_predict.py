"""src/predict.py classifies image files of any kind, with a run's folder alone."""

import csv
import glob
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command, sample_datamodule, write_images
from explained import ABOVE_0, BOOLEAN, UNKNOWN, WRONG_VALUE, assert_explained
from PIL import Image, ImageOps

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.ingest.decoder import Decoder, Resize
from pytorch_intro.data.ingest.find_files import find_files
from pytorch_intro.inference.load import Predictor, load_run
from pytorch_intro.inference.predict import Preprocessor


@pytest.mark.parametrize(("resize", "inverted"), [("crop", True), ("stretch", True), ("pad", False)])
def test_auto_invert_looks_at_the_border_of_the_image_not_at_padding(resize: Resize, inverted: bool) -> None:
    """The image is wide, and dark on light."""
    preprocessor = Preprocessor(Decoder((28, 28), 1, resize), "auto", trained_border=0.0)
    picture = Image.new("L", (300, 120), 255)
    picture.paste(0, (100, 40, 200, 80))
    assert preprocessor(picture)[1] is inverted


@pytest.fixture(scope="module")
def saved_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save 12 test images of the sample as PNG files, named by their number."""
    folder = tmp_path_factory.mktemp("pictures")
    datamodule = sample_datamodule()
    assert datamodule.test_set
    images, _ = datamodule.test_set.__getitems__(range(12))
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def pictures(saved_pictures: Path, tmp_path: Path) -> Path:
    """Return a copy of the 12 images, which the test may change."""
    return Path(shutil.copytree(saved_pictures, tmp_path / "pictures"))


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((run / "predictions.csv").read_text(encoding="utf-8"))))


def test_predictions_for_files_equal_those_for_the_same_pixels(script: Command, run_copy: Path, pictures: Path) -> None:
    """All probabilities are compared, for test images saved as PNG files."""
    answer = script("predict", f"run={run_copy}", f"images={pictures}", "top_k=10")
    assert answer.code == 0, answer.err
    run = load_run(run_copy)
    datamodule = sample_datamodule()
    assert datamodule.test_set
    with torch.no_grad():
        expected = Predictor(run)(datamodule.test_set.__getitems__(range(12))[0])
    for row, probabilities in zip(rows(run_copy), expected, strict=True):
        found = {row["label"]: row["probability"]} | {row[f"label_{k}"]: row[f"probability_{k}"] for k in range(2, 11)}
        assert [float(found[name]) for name in run.classes] == pytest.approx(probabilities.tolist(), abs=2e-6)
        assert row["label"] == run.classes[int(probabilities.argmax())]
        assert row["label"] in answer.out


def test_a_prediction_imports_neither_lightning_nor_torchvision(run_copy: Path, pictures: Path) -> None:
    """Their import takes longer than the rest; a new process, since this one has imported them."""
    code = "import sys; sys.modules.update(dict.fromkeys(['lightning', 'torchvision', 'matplotlib.figure'])); "
    code += f"from pytorch_intro.commands.predict import main; main(['run={run_copy}', 'images={pictures}/01.png'])"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(PROJECT / "src")})
    assert len(rows(run_copy)) == 1


def test_predictions_csv_has_the_documented_columns(script: Command, run_copy: Path, pictures: Path) -> None:
    assert script("predict", f"run={run_copy}", f"images={pictures}").code == 0
    assert (run_copy / "predictions.csv").read_text().startswith("path,label,probability\n")
    assert script("predict", f"run={run_copy}", f"images={pictures}", "top_k=2").code == 0
    first = (run_copy / "predictions.csv").read_text().splitlines()[0]
    assert first == "path,label,probability,label_2,probability_2"


def test_predictions_go_to_another_file_on_request(
    script: Command, run_copy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier predictions stay, and no file of another kind is replaced."""
    monkeypatch.chdir(pictures)
    Image.new("L", (8, 8)).save("monday.png")
    (pictures / "labels.csv").write_text("path,label\n00.png,Bag\n")
    before = {name: (pictures / name).read_bytes() for name in ("monday.png", "labels.csv")}
    for _ in range(2):
        answer = script("predict", f"run={run_copy}", "images=00.png", "output=monday.csv")
        assert answer.code == 0, answer.err
        assert answer.out.endswith("written: monday.csv, monday_predictions.png\n")
    assert len((pictures / "monday.csv").read_text().splitlines()) == 2
    assert not (run_copy / "predictions.csv").exists()
    for output, problem in (
        ("labels.csv", "has no predictions"),
        ("monday.txt", "not a CSV file"),
        ("a/b.csv", "a is"),
    ):
        answer = script("predict", f"run={run_copy}", "images=00.png", f"output={output}")
        assert answer.code == 2
        assert_explained(answer.err, [], [f"output={output}"], problem, "; use ")
    assert before == {name: (pictures / name).read_bytes() for name in before}


@pytest.mark.parametrize("stem", ["predictions", "mon"])
@pytest.mark.parametrize("name", ["predictions.png", "explanations.png"])
def test_pictures_next_to_the_output_replace_only_those_of_predict(
    script: Command, run_copy: Path, pictures: Path, stem: str, name: str
) -> None:
    """A rerun replaces its own pictures; a user's picture, text or folder of that name stays."""
    picture = pictures / (name if stem == "predictions" else f"{stem}_{name}")
    table = pictures / f"{stem}.csv"
    arguments = [f"run={run_copy}", f"images={pictures / '00.png'}", f"output={table}", "explain=true"]
    for _ in range(2):
        assert script("predict", *arguments).code == 0
    for content in (b"", b"some text", (pictures / "00.png").read_bytes(), None):
        picture.unlink()
        picture.mkdir() if content is None else picture.write_bytes(content)
        before = table.stat().st_mtime_ns
        answer = script("predict", *arguments)
        assert answer.code == 2
        assert_explained(
            answer.err, [], [f"output={table}: ", picture.name], "exists and is not from", "use another name"
        )
        assert content is None or picture.read_bytes() == content
        assert table.stat().st_mtime_ns == before
    if name == "explanations.png":
        assert script("predict", *arguments, "explain=false").code == 0, "they are not written"


def test_improbable_labels_are_unsure(script: Command, run_copy: Path, pictures: Path) -> None:
    assert script("predict", f"run={run_copy}", f"images={pictures}").code == 0
    plain = rows(run_copy)
    limit = sorted(float(row["probability"]) for row in plain)[4] + 1e-5
    answer = script("predict", f"run={run_copy}", f"images={pictures}", f"min_probability={limit}")
    assert answer.code == 0, answer.err
    for row, before in zip(rows(run_copy), plain, strict=True):
        assert row["label"] == ("unsure" if float(row["probability"]) < limit else before["label"])
        assert row["probability"] == before["probability"]
    assert f"unsure: 5 of 12 images, below min_probability={limit}" in answer.out
    answer = script("predict", f"run={run_copy}", f"images={pictures}", "min_probability=1.5")
    assert (answer.code, "min_probability=1.5: invalid value" in answer.err) == (2, True)


def test_settings_may_come_from_the_environment(
    script: Command, run_copy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "2")
    answer = script("predict", f"run={run_copy}", f"images={pictures}", "top_k=${oc.env:K}")
    assert answer.code == 0, answer.err
    assert "label_2" in (run_copy / "predictions.csv").read_text()


@pytest.mark.parametrize("way", ["file", "folder", "glob", "stdin", "file with special characters"])
def test_images_can_be_a_file_a_folder_a_glob_or_paths_on_stdin(
    script: Command, run_copy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Folders and globs include subfolders; hidden files are ignored."""
    deep = pictures / "a" / "b"
    deep.mkdir(parents=True)
    (pictures / "00.png").rename(deep / "00.png")
    (pictures / ".hidden").write_text("not an image")
    file = deep / "00.png"
    if way == "file with special characters":
        file = file.rename(deep / "my (1), ${x} = 'é'.png")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{file}\n\n{pictures / '01.png'}\n"))
    images = {"folder": pictures, "glob": pictures / "**" / "*.png", "stdin": "-"}.get(way, file)
    answer = script("predict", f"run={run_copy}", f"images={images}")
    assert answer.code == 0, answer.err
    found = rows(run_copy)
    assert len(found) == {"folder": 12, "glob": 12, "stdin": 2}.get(way, 1)
    assert str(file) in [row["path"] for row in found]


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "**/*.png",
        "./**/*.png",
        "a/**",
        "*/**/*.png",
        "**/b/**/*",
        "**/**",
        "**.png",
        "[[]x]/**/*",
        "no/**",
        "ROOT/**",
    ],
)
def test_a_glob_finds_the_files_of_pythons_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    write_images(tmp_path, "0.png", "a/1.png", "a/b/2.png", "a/b/c/3.png", "a/.hidden/4.png", ".5.png", "[x]/6.png")
    monkeypatch.chdir(tmp_path)
    pattern = pattern.replace("ROOT", str(tmp_path))
    expected = {path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()}  # noqa: PTH207
    if not expected:
        with pytest.raises(UserError, match="no file matches"):
            find_files(pattern, [])
    else:
        assert find_files(pattern, []) == sorted(expected)


@pytest.mark.parametrize("rest", ["", "/*", "/*.png", "/**/*.png"])
def test_a_glob_follows_links_and_finds_each_picture_once(tmp_path: Path, rest: str) -> None:
    """Two links back: Python's glob would follow each combination of them."""
    root = tmp_path / "photos"
    write_images(root, "a.png", "sub/b.png")
    write_images(tmp_path, "elsewhere/c.png")
    for name, target in (
        ("loop", root),
        ("sub/loop", root),
        ("sub/again", root / "sub"),
        ("z", tmp_path / "elsewhere"),
    ):
        (root / name).symlink_to(target)
    assert find_files(f"{root}/**{rest}", []) == [f"{root}/{name}" for name in ("a.png", "sub/b.png", "z/c.png")]


def test_all_image_formats_are_classified_like_the_gray_png(script: Command, run_copy: Path, tmp_path: Path) -> None:
    """JPEG rotated by EXIF, palette, 16 bits, CMYK, alpha, RGB, 1 x 1 and 4004 x 4004."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    datamodule = sample_datamodule()
    assert datamodule.test_set
    gray = Image.fromarray(datamodule.test_set[0][0][0].numpy())
    gray.save(folder / "gray.png")
    gray.convert("RGB").save(folder / "rgb.webp", lossless=True)
    gray.quantize(256).save(folder / "palette.png")
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(folder / "sixteen.png")
    gray.convert("RGB").convert("CMYK").save(folder / "cmyk.tif")
    gray.convert("RGBA").save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it by 90 degrees clockwise
    gray.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif, quality=100)
    gray.resize((56, 56), Image.Resampling.NEAREST).save(folder / "double.png")
    gray.resize((4004, 4004), Image.Resampling.NEAREST).save(folder / "large.png")
    Image.new("L", (1, 1)).save(folder / "tiny.png")
    answer = script("predict", f"run={run_copy}", f"images={folder}", "invert=false")
    assert answer.code == 0, answer.err
    found = {Path(row["path"]).stem: row for row in rows(run_copy)}
    assert len(found) == 10
    plain, double = found.pop("gray"), found.pop("double")  # resizing smooths this one and the large one
    found.pop("tiny")
    large = found.pop("large")
    assert large["label"] == double["label"]
    assert float(large["probability"]) == pytest.approx(float(double["probability"]), abs=0.02)
    for name, row in found.items():
        assert row["label"] == plain["label"], name
        assert float(row["probability"]) == pytest.approx(float(plain["probability"]), abs=0.02), name


def test_unreadable_files_are_listed_and_the_others_classified(
    script: Command, run_copy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text, a truncated file, an empty file, a decompression bomb, a missing path on stdin: exit code 1."""
    (pictures / "note").write_text("not an image")
    (pictures / "empty.png").touch()
    whole = (pictures / "00.png").read_bytes()
    (pictures / "half.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "bomb.pbm").write_bytes(b"P4 20000 20000\n")
    os.truncate(pictures / "bomb.pbm", 50_000_015)  # all pixels are 0
    answer = script("predict", f"run={run_copy}", f"images={pictures}")
    assert answer.code == 1
    assert len(rows(run_copy)) == 12
    for name in ("note", "empty.png", "half.png", "bomb.pbm"):
        assert f"failed to read {pictures / name}: " in answer.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"nowhere.png\n{pictures / '01.png'}\n"))
    answer = script("predict", f"run={run_copy}", "images=-")
    assert answer.code == 1
    assert "failed to read nowhere.png" in answer.err
    assert len(rows(run_copy)) == 1


def test_other_files_in_a_folder_are_skipped_and_counted(
    script: Command, run_copy: Path, pictures: Path, tmp_path: Path
) -> None:
    """By their extension; named in another way, they fail."""
    for name in ("note.txt", "sub/sound.WAV", "sub/other.wav", "film.mpg"):
        (pictures / name).parent.mkdir(exist_ok=True)
        (pictures / name).write_text("not an image")
    (pictures / "00.png").rename(pictures / "without_extension")
    answer = script("predict", f"run={run_copy}", f"images={pictures}")
    assert answer.code == 0, answer.err
    (pictures / "phone.HEIC").write_text("a photograph that Pillow does not read")
    heic = script("predict", f"run={run_copy}", f"images={pictures}")
    assert heic.code == 1
    assert "phone.HEIC: not an image of a format that Pillow reads; convert it to JPEG\n" in heic.err
    (pictures / "phone.HEIC").unlink()
    assert "images: skipped 4 file(s) that are not images: 2 .wav, 1 .mpg, 1 .txt" in answer.out + answer.err
    assert len(rows(run_copy)) == 12
    answer = script("predict", f"run={run_copy}", f"images={pictures / '*'}")
    assert answer.code == 1
    assert f"failed to read {pictures / 'note.txt'}" in answer.err
    answer = script("predict", f"run={run_copy}", f"images={pictures / 'sub'}")
    assert answer.code == 2
    assert "no image in this folder; give a file" in answer.err


def test_nothing_is_written_if_no_file_can_be_read(script: Command, run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("not an image")
    before = sorted(run_copy.iterdir())
    answer = script("predict", f"run={run_copy}", f"images={tmp_path / 'note.txt'}")
    assert answer.code == 2
    assert "note.txt" in answer.err.splitlines()[0]
    given = f"error: images={tmp_path / 'note.txt'}: "
    assert_explained(
        answer.err.splitlines()[-1] + "\n", [], [given], "could be read|can be read", "use other image files"
    )
    assert sorted(run_copy.iterdir()) == before


def test_the_negative_of_a_training_image_is_inverted_automatically(
    script: Command, run_copy: Path, pictures: Path
) -> None:
    """Fashion-MNIST is light on black. The label of the negative is that of the original."""
    assert script("predict", f"run={run_copy}", f"images={pictures}", "invert=false").code == 0
    expected = [row["label"] for row in rows(run_copy)]
    for file in pictures.iterdir():
        ImageOps.invert(Image.open(file)).save(file)
    answer = script("predict", f"run={run_copy}", f"images={pictures}")
    lines = [next(line for line in answer.out.splitlines() if f"{number:02}.png" in line) for number in range(12)]
    inverted = [number for number, line in enumerate(lines) if "(inverted)" in line]
    assert re.search(rf"inverted: {len(inverted)} of 12 images", answer.out)
    assert len(inverted) >= 10  # one or two have light borders themselves
    found = [row["label"] for row in rows(run_copy)]
    assert [found[number] for number in inverted] == [expected[number] for number in inverted]
    assert script("predict", f"run={run_copy}", f"images={pictures}", "invert=true").code == 0
    assert [row["label"] for row in rows(run_copy)] == expected


@pytest.mark.pictures
def test_the_contact_sheet_shows_the_images_with_their_labels(script: Command, run_copy: Path, pictures: Path) -> None:
    """The contact sheet of 12 images has two rows."""
    assert script("predict", f"run={run_copy}", f"images={pictures}").code == 0
    with Image.open(run_copy / "predictions.png") as picture:
        width, height = picture.size
    assert width > 1000
    assert 300 < height < 500


GIVE_IMAGES = "a file, a folder, a glob, or -"
# Arguments, names that the message contains, and regular expressions of its problem and its remedy.
MISTAKES = [
    ([], ["images: "], "not set", f"{GIVE_IMAGES}.*images=photos"),
    (["PICTURES"], ["pictures: "], "not a setting", "use images=/.*--help"),
    (["images=nowhere"], ["images=nowhere"], "no such file|does not exist", GIVE_IMAGES),
    (["images=*.nothing"], ["images=*.nothing"], "no file matches", GIVE_IMAGES),
    (["images=EMPTY"], ["images=", "empty: "], "no image in this folder|folder is empty", GIVE_IMAGES),
    (["images=PICTURES", "top_k=11"], ["top_k=11"], "classes", r"\b10\b"),
    (["images=PICTURES", "top_k=0"], ["top_k=0"], WRONG_VALUE, ABOVE_0),
    (["images=PICTURES", "invert=maybe"], ["invert=maybe"], WRONG_VALUE, f"({BOOLEAN}).*auto"),
    (
        ["images=PICTURES", "trainer.accelerator=tpu"],
        ["trainer.accelerator=tpu"],
        ": not available",
        r"\bcpu\b.*trainer\.accelerator=auto\b",
    ),
    (["images=PICTURES", "batch=3"], ["batch"], UNKNOWN, "did you mean batch_size"),
]


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES)
def test_invalid_predict_arguments_give_a_one_line_error(
    script: Command,
    run_copy: Path,
    pictures: Path,
    tmp_path: Path,
    arguments: list[str],
    names: list[str],
    problem: str,
    remedy: str,
) -> None:
    (tmp_path / "empty").mkdir()
    named = [text.replace("PICTURES", str(pictures)).replace("EMPTY", str(tmp_path / "empty")) for text in arguments]
    answer = script("predict", f"run={run_copy}", *named)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not (run_copy / "predictions.csv").exists()


def test_photos_are_classified_after_the_training_data_is_gone(
    script: Command, command: Command, tmp_path: Path
) -> None:
    """The run was trained on RGB photos; the new photos have another size."""
    generator = np.random.default_rng(0)

    def photo(channel: int, height: int, width: int) -> Image.Image:
        pixels = generator.integers(0, 60, (height, width, 3), dtype=np.uint8)
        pixels[..., channel] += 150
        return Image.fromarray(pixels)

    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            photo(channel, 40, 50).save(tmp_path / "photos" / name / f"{number}.png")
    trained = command("data=folder", f"data.root={tmp_path / 'photos'}", "trainer=cpu", "trainer.max_epochs=10",
                      "data.batch_size=8", "data.image_size=24", "model.width=8", "name=photos")  # fmt: skip
    assert trained.code == 0, trained.err
    (tmp_path / "photos").rename(tmp_path / "gone")
    run = tmp_path / "outputs" / "photos"
    new = tmp_path / "new"
    new.mkdir()
    photo(0, 30, 70).save(new / "a.jpg", quality=95)
    photo(2, 70, 30).save(new / "b.png")
    answer = script("predict", f"run={run}", f"images={new}")
    assert answer.code == 0, answer.err
    assert [row["label"] for row in rows(run)] == ["red", "blue"]
