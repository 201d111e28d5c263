"""Grayscale files of 8 to 16 bits in 16-bit containers keep 8 bits of what they use, everywhere in the same way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from torch.utils.data import Dataset

from pytorch_intro.data.ingest.decoder import Decoder
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.reader import DatasetReader
from pytorch_intro.inference.load import load_run


def write_gray(root: Path, highest: int, count: int = 40, suffix: str = "png") -> None:
    """Write a dim and a bright class of 16-bit files with gradients; only the last file reaches the highest value."""
    for number in range(count):
        name = ("dim", "bright")[number % 2]
        top = highest // (8 if name == "dim" else 2) if number < count - 1 else highest
        values = np.linspace(0, top, 256).round().astype(np.uint16).reshape(16, 16)
        file = root / name / f"{number:02}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)


def read(root: Path, **options: Any) -> tuple[torch.Tensor, DatasetReader]:
    reader = DatasetReader(None, "crop", None, None, False, 0, **options)
    images: Any = reader.read(ImageFolder(str(root)))[0]
    return images.images, reader


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("highest", "bit_depth"),
    [(200, 8), (255, 8), (256, 10), (1023, 10), (4000, 12), (4095, 12), (9000, 14), (16384, 16), (65535, 16)],
)
def test_the_bits_used_by_the_dataset_are_scaled_to_8(
    tmp_path: Path, highest: int, bit_depth: int, suffix: str
) -> None:
    """Decided by the largest value of all files; at the first start and from the cache."""
    write_gray(tmp_path, highest, suffix=suffix)
    for _ in range(2):
        images, reader = read(tmp_path)
        assert reader.bit_depth == bit_depth
        assert int(images.max()) == highest >> (bit_depth - 8) >= 64


def test_files_of_8_bits_are_unchanged(tmp_path: Path) -> None:
    """Also dark ones, as masks are."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((9, 9), 3, np.uint8)).save(tmp_path / name / "1.png")
    images, reader = read(tmp_path)
    assert images.unique().tolist() == [3]
    assert reader.bit_depth == 16


def test_values_above_the_recorded_bits_become_white() -> None:
    image = Image.fromarray(np.array([[0, 16, 4095, 4096, 65535]], np.uint16))
    assert Decoder((1, 5), 1, bit_depth=12)(image).tolist() == [[[0, 1, 255, 255, 255]]]


class Microscope(Dataset[Any]):
    """Returns 12-bit PIL images."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        return Image.fromarray(np.full((8, 8), 4000 // (1 + index % 2), np.uint16)), index % 2


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_of_a_dataset_are_scaled_by_the_bits_that_they_use(in_memory: bool) -> None:
    reader = DatasetReader(None, "crop", None, in_memory, False, 0)
    images, _ = reader.read(Microscope())
    assert reader.bit_depth == 12
    assert images.__getitems__([0, 1])[0][:, 0, 0, 0].tolist() == [250, 125]


def test_prediction_evaluation_and_export_scale_as_training_did(
    command: Command, script: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dim images alone, which use fewer bits, are still recognized as dim."""
    root, run, other = tmp_path / "images", tmp_path / "outputs" / "first", tmp_path / "other"
    write_gray(root, 4095, count=120)
    answer = command("data=folder", f"data.root={root}", "trainer=cpu", "trainer.max_epochs=8", "name=first")
    assert answer.code == 0, answer.err
    assert "16-bit files use 12 bits, 0 to 4,095 become 0 to 255" in answer.out
    dim = root / "dim" / "00.png"
    network, classes, transforms = load_run(run)
    assert transforms.decoder.bit_depth == 12
    with torch.inference_mode():
        assert classes[network(transforms(Image.open(dim))[None]).argmax()] == "dim"
    assert script("predict", f"run={run}", f"images={root / 'dim'}", "trainer.accelerator=cpu").code == 0
    with (run / "predictions.csv").open() as file:
        assert {line.split(",")[1] for line in list(file)[1:]} == {"dim"}
    for name in ("dim", "bright"):
        (other / name).mkdir(parents=True)
        (other / name / "1.png").write_bytes(dim.read_bytes())
    evaluated = script("eval", f"run={run}", "data=folder", f"data.root={other}", "trainer.accelerator=cpu")
    assert evaluated.code == 0, evaluated.err
    assert json.loads((run / "eval.json").read_text())["test/accuracy"] == 0.5
    (cache,) = (path for path in (other / ".cache").iterdir() if path.is_dir())
    assert np.load(cache / "images.npy").max() == 4095 // 8 >> 4
