"""Measuring: an epoch of this project beside an epoch of a plain PyTorch loop over the same images."""

import contextlib
import io
import statistics
import time
from typing import Any, cast

import lightning
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.dataset import Batch
from pytorch_intro.hardware import device_name


def plain_epochs(classifier: Classifier, datamodule: DataModule, device: str, epochs: int) -> list[float]:
    """Train the classifier's network by a plain loop that does nothing else; seconds of each epoch.

    Its batches are slices of one uint8 tensor in a new random order each epoch, normalised on the device.
    """
    tensors = cast(Batch, datamodule.train_set.__getitems__(list(range(len(datamodule.train_set)))))
    network = classifier.network.to(device).train()
    optimizer = classifier.optimizer(network.parameters())
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(datamodule.train_set)).split(datamodule.batch_size):
            batch_images, batch_targets = (tensor[rows].to(device) for tensor in tensors)
            loss = cross_entropy(network(datamodule.normalize(batch_images)), batch_targets)
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
    with contextlib.redirect_stdout(io.StringIO()):  # the progress bar is drawn, but not into the figures
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


def compared(**seconds: list[float]) -> dict[str, Any]:
    """Print median and spread of each way, and its ratio to the first; the same as a dict."""
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    first = next(iter(medians.values()))
    for way, values in seconds.items():
        low, high = min(values), max(values)
        print(
            f"  {way:<10} {medians[way]:6.2f} s an epoch ({low:.2f} to {high:.2f}, n={len(values)})"
            f"   {medians[way] / first:.2f} x"
        )
    ratios = {way: median / first for way, median in medians.items()}
    return {"seconds": seconds, "medians": medians, "ratios": ratios}


def environment(accelerator: str) -> dict[str, str]:
    """Where the figures were measured."""
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    return {"device": f"{accelerator}, {device_name(accelerator)}", **versions}
