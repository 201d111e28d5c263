"""An epoch of this project beside an epoch of a plain PyTorch loop over the same images."""

import tempfile
import time
from collections.abc import Sequence

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import PositiveInt
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pytorch_intro.benchmarks.workbench import Figures, Workbench, compared, quiet
from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule


class LoopBenchmark:
    """Trains the same network in both ways, in turn.

    Args:
        rounds: Of both ways, for each size of batches.
        epochs: A round.
        batch_sizes: Images a batch.
    """

    def __init__(self, rounds: PositiveInt, epochs: PositiveInt, batch_sizes: Sequence[PositiveInt]) -> None:
        self.rounds = rounds
        self.epochs = epochs
        self.batch_sizes = batch_sizes

    def __call__(self, workbench: Workbench) -> Figures:
        """Seconds of each epoch of each way."""
        datamodule = workbench.make_datamodule()
        figures: Figures = {}
        for batch_size in self.batch_sizes:
            datamodule.batch_size = batch_size
            plain: list[float] = []
            ours: list[float] = []
            for _ in tqdm(range(self.rounds), "rounds", leave=False):
                classifier = workbench.make_classifier(datamodule)
                plain += plain_epochs(classifier, datamodule, workbench.device, self.epochs)
                with tempfile.TemporaryDirectory() as folder:
                    trainer = workbench.make_trainer(folder)
                    ours += lightning_epochs(workbench.make_classifier(datamodule), datamodule, trainer)
            print(f"an epoch, batches of {batch_size}")
            figures[f"batches of {batch_size}"] = compared("seconds", "s", plain=plain, lightning=ours)
        return figures


def plain_epochs(classifier: Classifier, datamodule: DataModule, device: str, epochs: int) -> list[float]:
    """Train the classifier's network by a plain loop that does nothing else; seconds of each epoch.

    Its batches are slices of one uint8 tensor on the device, in a new random order each epoch, normalised there.
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
            loss = cross_entropy(network(datamodule.normalize(images[rows])), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds


def lightning_epochs(classifier: Classifier, datamodule: DataModule, trainer: Trainer) -> list[float]:
    """Train by Lightning; seconds from the beginning of each epoch to that of the next, with all that lies between."""
    clock = EpochClock()
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    with quiet():
        trainer.fit(classifier, datamodule)
    return [end - start for start, end in zip(clock.times, clock.times[1:], strict=False)]


class EpochClock(Callback):
    """The times at which epochs begin, and at which the last one has ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())
