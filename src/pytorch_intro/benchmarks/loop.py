"""Overhead of the training loop: an epoch of this project and of a plain PyTorch loop over the same images."""

import tempfile
import time
from collections.abc import Sequence

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import PositiveInt
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, quiet
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.lightning_internals import callbacks
from pytorch_intro.training.setup import build_classifier, build_datamodule


def measure_loop(
    context: BenchmarkContext, rounds: PositiveInt, epochs: PositiveInt, batch_sizes: Sequence[PositiveInt]
) -> Figures:
    """Train the same network with both loops, alternately; return seconds per epoch of both.

    Args:
        rounds: Number of rounds of both, for each batch size.
        epochs: Number of epochs per round.
        batch_sizes: Batch sizes to measure.
    """
    datamodule = build_datamodule(context.config)
    figures: Figures = {}
    for batch_size in batch_sizes:
        datamodule.batch_size = batch_size
        plain: list[float] = []
        ours: list[float] = []
        for _ in tqdm(range(rounds), "rounds", leave=False):
            plain += plain_epochs(build_classifier(context.config, datamodule), datamodule, context.device, epochs)
            with tempfile.TemporaryDirectory() as folder:
                classifier = build_classifier(context.config, datamodule)
                ours += lightning_epochs(classifier, datamodule, context.build_trainer(folder))
        print(f"an epoch, batches of {batch_size}")
        figures[f"batches of {batch_size}"] = print_comparison("seconds", "s", plain=plain, lightning=ours)
    return figures


def plain_epochs(classifier: Classifier, datamodule: DataModule, device: str, epochs: int) -> list[float]:
    """Train the network of a classifier with a minimal loop; return seconds per epoch.

    Batches are slices of one uint8 tensor on the device, shuffled every epoch and normalized there.
    """
    images, targets = (
        tensor.to(device) for tensor in datamodule.train_set.__getitems__(range(len(datamodule.train_set)))
    )
    network = classifier.network.to(device).train()
    optimizer = classifier.optimizer(network.parameters())
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(images)).to(device).split(datamodule.batch_size):
            loss = cross_entropy(network(datamodule.normalize(datamodule.center_crop(images[rows]))), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds


def lightning_epochs(classifier: Classifier, datamodule: DataModule, trainer: Trainer) -> list[float]:
    """Train with Lightning; return seconds from the start of each epoch to the start of the next one."""
    clock = EpochClock()
    callbacks(trainer).append(clock)
    with quiet():
        trainer.fit(classifier, datamodule)
    return [end - start for start, end in zip(clock.times, clock.times[1:], strict=False)]


class EpochClock(Callback):
    """Records when epochs start, and when the last one ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())
