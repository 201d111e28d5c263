"""Images stored larger than the network's input, and images that are decoded in every epoch."""

import io
import json
import logging
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import Command, run_here, write_images
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import datasets
from torchvision.transforms.v2 import functional

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.augment.basic import RandomHorizontalFlip
from pytorch_intro.data.augment.crops import RandomResizedCrop
from pytorch_intro.data.datamodule import DataModule, stored_size
from pytorch_intro.data.ingest.decoder import Decoder
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.uncached import CropDecoder, UncachedDataset
from pytorch_intro.data.resize import CenterCrop
from pytorch_intro.inference.load import load_run


def photograph(seed: int, width: int = 60, height: int = 45) -> Image.Image:
    """Return a smooth picture, which JPEG files keep."""
    noise = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    pixels = interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0]
    return functional.to_pil_image(pixels)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two classes with ten photographs each."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(20):
        file = root / ("cat", "dog")[number % 2] / f"{number:02}.jpg"
        file.parent.mkdir(exist_ok=True)
        photograph(number).save(file, quality=95)
    return root


def opened(root: Path, **options: Any) -> DataModule:
    cache = str(root.parent / "cache")
    values: dict[str, Any] = {"image_size": 16, "decode_size": 20, "batch_size": 4, "cache_dir": cache}
    datamodule = DataModule(ImageFolder, str(root), **values | options)
    datamodule.setup("fit")
    datamodule.setup("test")
    return datamodule


def epoch(datamodule: DataModule, number: int = 0, completed: int = 0) -> list[Tensor]:
    datamodule.position = {"epoch": number, "completed_batches": completed}
    return [images for images, _ in datamodule.train_dataloader()]


@pytest.mark.parametrize(
    ("image_size", "decode_size", "crop_pct", "stored"),
    [
        (None, None, None, None),
        (None, 256, 0.875, 256),
        (224, None, None, 224),
        (224, None, 0.875, 256),
        (224, 256, None, 256),
        (224, 256, 0.5, 256),
        ([48, 64], None, None, [48, 64]),
        ([48, 64], None, 0.8, [60, 80]),
        ([48, 64], 60, None, [60, 80]),
    ],
)
def test_stored_size_follows_from_the_arguments(image_size: Any, decode_size: Any, crop_pct: Any, stored: Any) -> None:
    assert stored_size(image_size, decode_size, crop_pct) == stored


@pytest.mark.parametrize("crop_pct", [0.5, 0.8, 0.875, 0.9, 0.95, 0.965, 1.0])
def test_the_center_crop_of_the_stored_size_is_the_image_size(crop_pct: float) -> None:
    """So that evaluation resizes only where both sizes are given."""
    for side in range(1, 400):
        stored = stored_size(side, None, crop_pct)
        assert isinstance(stored, int)
        assert round(stored * crop_pct) == side


@pytest.mark.parametrize(
    ("options", "shape", "stored"),
    [
        ({}, (3, 16, 16), [20, 20]),
        ({"decode_size": None, "crop_pct": 0.8}, (3, 16, 16), [20, 20]),
        ({"image_size": None}, (3, 20, 20), [20, 20]),
        ({"image_size": None, "crop_pct": 0.5}, (3, 10, 10), [20, 20]),
        ({"image_size": [15, 16]}, (3, 15, 16), [20, 21]),
    ],
)
def test_the_network_gets_image_size_and_the_checkpoint_describes_both(
    photos: Path, options: dict[str, Any], shape: tuple[int, ...], stored: list[int]
) -> None:
    datamodule = opened(photos, **options)
    assert datamodule.image_shape == shape
    assert datamodule.hparams["image_shape"] == list(shape)
    assert datamodule.hparams["decoded_size"] == stored
    assert list(datamodule.train_set[0][0].shape) == [3, *stored]
    assert datamodule.hparams["interpolation"] == "bilinear"
    images, _ = datamodule.on_after_batch_transfer(next(iter(datamodule.val_dataloader())), 0)
    assert images.shape[1:] == shape


def test_cached_images_have_channels_last_and_networks_get_them_contiguous(photos: Path) -> None:
    """The layout that crops are fastest with; networks may call view."""
    for augment in ({}, {"crop": RandomResizedCrop()}, {"flip": RandomHorizontalFlip()}):
        datamodule = opened(photos, augment=augment)
        images, _ = next(iter(datamodule.train_dataloader()))
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(images, torch.stack([datamodule.train_set[row][0] for row in first_rows(datamodule)]))
        for is_training in (False, True):
            assert datamodule.preprocess(images, augment=is_training).is_contiguous()


def first_rows(datamodule: DataModule) -> list[int]:
    """Return the rows of the first training batch."""
    return list(next(iter(datamodule.train_dataloader().batch_sampler)))  # type: ignore[arg-type]


def test_center_crop_equals_torchvision() -> None:
    images = torch.randint(256, (2, 3, 21, 32), dtype=torch.uint8)
    for size in ((15, 22), (15, 23), (21, 32)):
        crop = CenterCrop(size, 0.7 if size != (21, 32) else 1.0)
        if size == (15, 22):
            assert torch.equal(crop(images), functional.center_crop(images, list(size)))
        else:
            height, width = (round(crop.crop_pct * side) for side in (21, 32))
            center = functional.center_crop(images, [height, width]).float()
            expected = interpolate(center, size, mode="bilinear", antialias=True)
            torch.testing.assert_close(crop(images).float(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_interpolation_is_that_of_pillow_and_has_its_own_cache(photos: Path, interpolation: Any) -> None:
    image = photograph(0)
    pixels = Decoder((20, 20), 3, "stretch", interpolation=interpolation)(image)
    expected = image.resize((20, 20), Image.Resampling[interpolation.upper()])
    assert np.array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))
    stored = opened(photos, interpolation=interpolation, resize="stretch").train_set.dataset
    file = photos / "cat" / "00.jpg"
    with Image.open(file) as opened_file:
        assert np.array_equal(stored[0][0], Decoder((20, 20), 3, "stretch", 16, interpolation)(opened_file))


@pytest.mark.parametrize("crop", [False, True])
def test_cached_and_uncached_evaluation_see_the_same_pixels(photos: Path, crop: bool) -> None:
    augment = {"crop": RandomResizedCrop()} if crop else {}
    batches = []
    for cache in ("decoded", "none"):
        datamodule = opened(photos, cache=cache, augment=dict(augment), num_workers=0, crop_pct=0.6)
        loaders = datamodule.val_dataloader(), datamodule.test_dataloader()
        batches.append([datamodule.on_after_batch_transfer(batch, 0)[0] for loader in loaders for batch in loader])
    assert len(batches[0]) == 2
    assert all(torch.equal(cached, uncached) for cached, uncached in zip(*batches, strict=True))


def test_uncached_crops_are_cut_from_the_original_image(photos: Path) -> None:
    """The whole height of 45 pixels of the file, not of the 20 that are stored."""
    augment = {"flip": RandomHorizontalFlip(1.0), "crop": RandomResizedCrop((1, 1), (1, 1))}
    datamodule = opened(photos, cache="none", augment=augment, image_size=24, decode_size=26, num_workers=0)
    assert isinstance(datamodule.train_set.dataset, UncachedDataset)
    assert [type(module) for module in datamodule.augment] == [RandomHorizontalFlip]
    rows = next(iter(cast(Any, datamodule.train_dataloader().batch_sampler)))
    for image, row in zip(epoch(datamodule)[0], datamodule.train_set.indices[rows], strict=True):
        with Image.open(photos / ImageFolder(str(photos)).paths[row]) as file:
            original = functional.pil_to_tensor(file)
        crop = functional.resized_crop(original, 0, 7, 45, 45, [24, 24])  # the largest box of this ratio
        assert (image.int() - crop.int()).abs().max() <= 1


def test_uncached_epochs_have_every_image_once_with_new_crops(photos: Path) -> None:
    datamodule = opened(photos, cache="none", augment={"crop": RandomResizedCrop()}, num_workers=0)
    seen = torch.cat([targets for _, targets in datamodule.train_dataloader()])
    assert sorted(seen.tolist()) == sorted(datamodule.train_set.targets.tolist())
    datamodule.shuffle = False
    first, second = (torch.cat(epoch(datamodule, number)) for number in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("workers", [1, 2])
def test_uncached_crops_depend_on_seed_epoch_and_image_alone(photos: Path, workers: int) -> None:
    """Not on the number of workers, nor on the batches before: a resumed epoch goes on with the same bits."""
    augment = {"crop": RandomResizedCrop()}
    whole = epoch(opened(photos, cache="none", augment=dict(augment), num_workers=0), 3)
    resumed = epoch(opened(photos, cache="none", augment=dict(augment), num_workers=workers), 3, completed=2)
    assert len(whole) == 4
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], resumed, strict=True))
    other_seed = epoch(opened(photos, cache="none", augment=dict(augment), num_workers=0, seed=1, shuffle=False), 3)
    same_order = epoch(opened(photos, cache="none", augment=dict(augment), num_workers=0, shuffle=False), 3)
    assert not torch.equal(other_seed[0], same_order[0])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_of_large_jpeg_files_are_decoded_at_a_reduced_size(orientation: int, channels: int) -> None:
    """Close to those of the whole image, upright, and with as many pixels as the result or more."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    photograph(1, 640, 480).save(buffer, "JPEG", quality=95, exif=exif)
    upright = np.asarray(functional.pil_to_tensor(photograph(1, 640, 480)))
    turned = np.rot90(upright, {1: 0, 3: 2, 6: 3, 8: 1}[orientation], axes=(1, 2))
    decoder, box = Decoder((16, 16), channels), (33, 70, 33 + 256, 70 + 300)
    image = Image.open(buffer)
    pixels = decoder.load_box(image, box, (30, 64))
    assert max(image.size) == 160  # a quarter
    assert 64 <= pixels.shape[1] <= 65
    size = [30, 64]
    ours = functional.resize(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1), size)
    expected = functional.resized_crop(torch.from_numpy(turned.copy()), 70, 33, 300, 256, size)
    expected = expected if channels == 3 else functional.rgb_to_grayscale(expected)
    assert (ours.int() - expected.int()).abs().float().mean() < 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_boxes_of_every_kind_of_image_are_converted(mode: str) -> None:
    """Gray, palette, transparent and 16 bits; arrays and tensors too."""
    gray = Image.fromarray(np.full((30, 40), 60, np.uint8))
    image = Image.fromarray(np.full((30, 40), 60 * 256, np.uint16)) if mode == "I;16" else gray.convert(mode)
    decode = CropDecoder(Decoder((8, 8), 3), RandomResizedCrop(size=(5, 6)))
    for picture in (image, np.full((30, 40), 60, np.uint8), torch.full((3, 30, 40), 60 / 255)):
        pixels = decode(picture)
        assert pixels.shape == (3, 5, 6)
        assert np.abs(pixels.astype(int) - 60).max() <= 1


def test_torchvision_folders_are_not_loaded_for_their_labels(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(path: str) -> Image.Image:
        loaded.append(path)
        with Image.open(path) as file:
            return file.convert("RGB")

    options: dict[str, Any] = {"image_size": 16, "cache": "none", "mean": [0.5] * 3, "std": [0.2] * 3}
    values: dict[str, Any] = {"root": str(photos), "val_fraction": 0, "test_fraction": 0}
    monkeypatch.setattr("pytorch_intro.data.ingest.introspect.evenly_spaced_indices", lambda *_: [0, 1])
    monkeypatch.setattr("pytorch_intro.data.ingest.reader.evenly_spaced_indices", lambda *_: [0, 1])
    datamodule = DataModule(lambda root: datasets.ImageFolder(root, loader=load), **values | options)
    datamodule.setup("fit")
    assert datamodule.train_set.targets.tolist() == [0] * 10 + [1] * 10
    assert len(loaded) < 20


def test_broken_images_are_skipped_or_reported_when_they_are_decoded(photos: Path, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{name}/{number}.png" for name in ("a", "b") for number in range(6)), size=(24, 24))
    (tmp_path / "a" / "3.png").write_text("no image")
    options: dict[str, Any] = {"cache": "none", "test_fraction": 0, "val_fraction": 0, "mean": [0.5], "std": [0.2]}
    assert len(opened(tmp_path, **options, skip_broken=True).train_set) == 11
    with pytest.raises(UserError, match=r"a/3\.png: cannot be read .*; fix it, then rerun .*data\.skip_broken=true"):
        epoch(opened(tmp_path, **options, num_workers=0))


def test_workers_are_chosen_for_uncached_images_only(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pytorch_intro.data.datamodule.usable_cores", lambda: 3)
    caplog.set_level(logging.INFO)
    assert opened(photos).choose_num_workers(training=True) == 0
    assert "worker" not in caplog.text
    assert opened(photos, cache="none").choose_num_workers(training=True) == 3
    assert "3 worker process(es), since data.cache=none decodes images in every epoch" in caplog.text
    assert opened(photos, cache="none", num_workers=1).choose_num_workers(training=True) == 1


ERRORS = {
    "image larger than stored": (["data.image_size=32", "data.decode_size=20"], r"data\.decode_size=20: smaller than "),
    "stored too large": (
        ["data.image_size=400", "data.crop_pct=0.01"],
        r"data\.crop_pct=0\.01: .*larger data\.crop_pct",
    ),
    "no crop": (["data.crop_pct=0"], r"data\.crop_pct=0: .*greater than 0"),
    "crop above 1": (["data.crop_pct=1.5"], r"data\.crop_pct=1\.5: .*less than or equal to 1"),
    "interpolation": (["data.interpolation=cubic"], r"data\.interpolation=cubic: .*bicubic"),
    "cache": (["data.cache=disk"], r"data\.cache=disk: .*none"),
    "on device": (["data.cache=none", "data.on_device=true"], r"data\.on_device=true: .*use data\.cache=decoded"),
    "in memory": (["data.cache=none", "data.in_memory=true"], r"data\.in_memory=true: .*use data\.cache=decoded"),
    "crop limits": (
        ["data.cache=none", "data/augment=[resized_crop]", "data.augment.resized_crop.scale=[0.9,0.1]"],
        r"data\.augment\.resized_crop: scale=\[0\.9, 0\.1\]",
    ),
}


@pytest.mark.parametrize(("arguments", "problem"), ERRORS.values(), ids=ERRORS)
def test_contradictory_sizes_are_user_errors(
    command: Command, photos: Path, arguments: list[str], problem: str, tmp_path: Path
) -> None:
    options = ["data=folder", f"data.root={photos}", f"data.cache_dir={tmp_path}", "trainer=cpu"]
    answer = command(*options, *arguments)
    assert answer.code == 2
    (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert re.search(problem, line)


def test_datasets_in_memory_have_nothing_to_decode(command: Command) -> None:
    answer = command("data=sample", "data.cache=none", "trainer=cpu")
    assert answer.code == 2
    assert "error: data.cache=none: " in answer.err
    assert "use data.cache=decoded" in answer.err


@pytest.mark.parametrize("cache", ["decoded", "none"])
def test_every_command_crops_as_in_training(photos: Path, tmp_path: Path, cache: str) -> None:
    """Training, eval, predict and export, where the crop is also resized."""
    options = ["data=folder", f"data.root={photos}", f"data.cache_dir={tmp_path / 'cache'}", f"data.cache={cache}"]
    sizes = ["data.image_size=16", "data.decode_size=20", "data.crop_pct=0.7", "data/augment=[flip,resized_crop]"]
    short = ["trainer=cpu", "trainer.max_epochs=1", "model=mlp", "data.batch_size=4", "data.num_workers=0"]
    run_here("train", *options, *sizes, *short, "name=run", f"outputs={tmp_path}")
    run, results = tmp_path / "run", []
    for other in ([], ["data=folder", f"data.root={photos}"]):
        run_here("eval", f"run={run}", *other)
        results.append(json.loads((run / "eval.json").read_text()))
    tested = json.loads((run / "result.json").read_text())
    assert results[0]["test/loss"] == pytest.approx(tested["test/loss"], rel=1e-3)
    assert results[1]["images"] == 20
    network, classes, transforms = load_run(run)
    file = photos / "cat" / "02.jpg"
    with torch.inference_mode(), Image.open(file) as image:
        probabilities = network(transforms(image)[None]).softmax(dim=1)[0]
    run_here("predict", f"run={run}", f"images={file}")
    row = (run / "predictions.csv").read_text().splitlines()[1].split(",")
    assert row[1] == classes[int(probabilities.argmax())]
    assert float(row[2]) == pytest.approx(probabilities.max().item(), abs=1e-3)
    if cache == "decoded":
        out = run_here("export", f"run={run}", "formats=[pt2]")
        assert "model.pt2   agrees with PyTorch" in out
        labels = json.loads((run / "export" / "labels.json").read_text())
        assert labels["input"]["shape"] == ["N", 3, 20, 20]
        assert labels["input"]["center_crop"] == [16, 16]
