"""What training promises on every device: each test runs on the CPU, and on CUDA where there is a GPU."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, TWO_SHORT_EPOCHS, Command, WholeRuns, compose, killed_run, sample_datamodule
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from test_resume import assert_same_run

from pytorch_intro.data.augment.pipeline import Augmentation
from pytorch_intro.data.seeding import seed_all_rngs
from pytorch_intro.training.hardware import resolve_hardware
from pytorch_intro.training.lightning_internals import callbacks
from pytorch_intro.training.setup import build_experiment

WARM_UP = 2  # steps, which allocate memory and choose kernels
BARE = ["callbacks=none", "logger=none", "trainer.enable_progress_bar=false", "trainer.limit_val_batches=0"]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU"))])  # fmt: skip
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    torch.use_deterministic_algorithms(False)
    if request.param == "cuda":
        torch.cuda.set_sync_debug_mode("default")


def arguments_for(device: str) -> list[str]:
    """Return the arguments of a short training on this device."""
    common = [argument for argument in TWO_SHORT_EPOCHS if argument != "trainer=cpu"]
    return [*common, f"trainer.accelerator={device}", "trainer.threads=1"]


def test_a_killed_run_resumes_to_the_same_bits_with_deterministic_algorithms(
    device: str, command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    arguments = [*arguments_for(device), "trainer.deterministic=true", *NO_PICTURES]
    arguments += ["data/augment=[flip,crop,erasing]", "callbacks.checkpoint.every_n_minutes=1e-9"]
    whole = whole_runs(*arguments)
    run = shutil.copytree(killed_run(whole, 8), tmp_path / "outputs" / "killed")
    answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert_same_run(whole, run)


class Observer(Callback):
    """Records where batches are, before they are moved; on CUDA, a wait of the host in a later step is an error."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        transfer = datamodule.on_before_batch_transfer

        def observed(batch: Any, dataloader_idx: int) -> Any:
            self.places.append(batch[0].device.type)
            return transfer(batch, dataloader_idx)

        datamodule.on_before_batch_transfer = observed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP and pl_module.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        if batch_idx + 1 == trainer.num_training_batches and pl_module.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def test_batches_are_gathered_on_the_device_and_no_step_waits_for_it(device: str) -> None:
    config = compose(*arguments_for(device), *BARE)
    datamodule, classifier, trainer = build_experiment(config, resolve_hardware(config))
    callbacks(trainer).append(observer := Observer())
    trainer.fit(classifier, datamodule)
    assert observer.places == [device] * 12
    assert observer.steps == 12


def test_random_augmentations_depend_on_seed_and_step_alone(device: str) -> None:
    datamodule = sample_datamodule("data/augment=[flip,crop,erasing,brightness_contrast]")
    images = datamodule.train_set.__getitems__(range(32))[0].to(device)
    assert isinstance(datamodule.augment, Augmentation)

    def augmented(step: int) -> torch.Tensor:
        seed_all_rngs(torch.device(device), "step", 0, 0, step)
        return datamodule.augment(images)

    first = augmented(5)
    torch.rand(3, device=device)
    assert torch.equal(augmented(5), first)
    assert not torch.equal(augmented(6), first)
