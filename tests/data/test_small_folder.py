"""A folder of few images trains long enough, augmented and with nothing cut off; settings that are given win."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from conftest import NO_PICTURES, Command, WholeRuns, compose, killed_run, write_images
from explained import assert_explained

from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.setup import choose_epochs

SMALL = ["data=folder", "trainer=cpu", "trainer.precision=32-true", "model.width=4", *NO_PICTURES, "logger=none"]
EIGHT_STEPS = [*SMALL, "data.min_steps=8"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two classes of eight images."""
    root = tmp_path_factory.mktemp("photos")
    write_images(root, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(8)), mode="RGB")
    return root


def opened(root: Path, *overrides: str) -> DataModule:
    datamodule: DataModule = instantiate(compose("data=folder", f"data.root={root}", *overrides).data, "data")
    datamodule.setup("fit")
    return datamodule


@pytest.mark.parametrize(
    ("images", "settings", "epochs"),
    [
        (1000, [], 19),  # of 16 steps
        (91, [], 100),  # of 2 steps
        (30_000, [], 6),
        (1000, ["data.min_steps=160"], 10),
        (1000, ["data.batch_size=32", "data.min_steps=320"], 10),
        (1000, ["trainer.accumulate_grad_batches=2", "data.min_steps=80"], 10),
        (91, ["model.weights=file.pt"], 6),
        (1000, ["trainer.max_epochs=3"], 3),
        (1000, ["trainer.max_steps=50"], -1),
    ],
)
def test_the_number_of_epochs_follows_from_the_number_of_images(images: int, settings: list[str], epochs: int) -> None:
    """At least data.min_steps, in 6 to 100 epochs; a number that is given wins, of epochs or steps."""
    config = compose("data=folder", *settings)
    data: Any = SimpleNamespace(
        epoch_size=images, batch_size=config.data.batch_size, min_steps=config.data.get("min_steps")
    )
    trainer: Any = SimpleNamespace(fast_dev_run=False, fit_loop=SimpleNamespace(max_epochs="unchanged"))
    is_given = config.trainer.max_epochs != "auto"
    choose_epochs(config, data, trainer)
    assert config.trainer.max_epochs == epochs
    assert trainer.fit_loop.max_epochs == ("unchanged" if is_given or epochs == -1 else epochs)


def test_only_folders_have_an_automatic_number_of_epochs(command: Command) -> None:
    numbers = {compose(*data).trainer.max_epochs for data in ([], ["data=sample"], ["data=cifar10"], ["data=csv"])}
    assert len(numbers) == 1
    assert isinstance(numbers.pop(), int)
    assert compose("data=folder").trainer.max_epochs == "auto"
    arguments = ["data=sample", "trainer.max_epochs=auto"]
    answer = command(*arguments)
    assert answer.code == 2
    assert_explained(answer.err, arguments, ["trainer.max_epochs=auto"], "needs data.min_steps", "set data.min_steps=")


def test_the_log_says_what_was_chosen_and_why(command: Command, photos: Path, tmp_path: Path) -> None:
    answer = command(*EIGHT_STEPS, f"data.root={photos}", "name=chosen")
    assert answer.code == 0, answer.err
    assert "epochs: 8, since 13 images are 1 step(s) per epoch (data.min_steps=8); trainer.max_epochs=N" in answer.out
    assert "pad_border (data.resize); training images: resized_crop, flip (data/augment)" in answer.out
    assert f"python src/train.py experiment=finetune data.root={photos}" in answer.out
    recorded = yaml.safe_load((tmp_path / "outputs" / "chosen" / "config.yaml").read_text())
    assert recorded["trainer"]["max_epochs"] == 8
    again = command(*EIGHT_STEPS, f"data.root={photos}", "name=chosen")
    assert again.code == 0
    assert "finished before" in again.out
    given = command(*EIGHT_STEPS, f"data.root={photos}", "trainer.max_epochs=1", "name=given")
    assert given.code == 0
    assert "epochs:" not in given.out
    assert "epoch 1/1:" in given.out


@pytest.mark.parametrize("batch", [0, 5])
def test_a_killed_run_resumes_with_the_same_number_of_epochs(
    command: Command, tmp_path: Path, photos: Path, whole_runs: WholeRuns, batch: int
) -> None:
    """And ends with the same bits."""
    arguments = [*EIGHT_STEPS, f"data.root={photos}"]
    whole = whole_runs(*arguments)
    run = shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / "killed")
    assert command(*arguments, "name=killed").code == 0
    weights = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for path in (whole, run)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_images_of_different_sizes_become_squares_of_96_pixels_and_small_ones_of_one_size_keep_it(
    photos: Path, tmp_path: Path
) -> None:
    assert opened(photos).image_shape == (3, 12, 12)
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    write_images(mixed, "cat/long.png", size=(200, 100), mode="RGB")
    assert opened(mixed).image_shape == (3, 96, 96)
    assert opened(mixed, "data.image_size=32").image_shape == (3, 32, 32)
    assert opened(mixed, "data.default_size=64").image_shape == (3, 64, 64)


def test_a_folder_is_augmented_and_padded_unless_other_settings_are_given(photos: Path) -> None:
    assert opened(photos).augment.names == ["resized_crop", "flip"]
    assert opened(photos).source.reader.resize == "pad_border"
    assert opened(photos, "data/augment=[]").augment.names == []
    assert opened(photos, "data.resize=crop").source.reader.resize == "crop"
