"""Small pictures, a small network, five classic mistakes and a real run, for the last chapters and the exercises."""

import atexit
import contextlib
import functools
import io
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pytorch_intro.cli.python_api import call
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.tour.sample import SAMPLE

MISTAKES = (
    "no zero_grad",
    "softmax before cross-entropy",
    "learning rate 100 times too high",
    "labels not shuffled with the pictures",
    "no eval",
)


@dataclass
class Record:
    """What a training shows: the mean loss and the test accuracy of each epoch."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def load_pictures() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, labels, test images and labels; images are (N, 1, 28, 28) float32, normalized."""
    parts = []
    for is_training in (True, False):
        dataset = FashionMNISTSample(str(SAMPLE), is_training)
        images, labels = dataset.__getitems__(range(len(dataset)))
        parts += [(images.float() / 255 - 0.286) / 0.353, labels]
    train_images, train_labels, test_images, test_labels = parts
    return train_images, train_labels, test_images, test_labels


def make_network() -> nn.Module:
    """Return a small network, the same one each time; dropout makes training and use differ."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))


def train_with(mistake: str | None, epochs: int = 4) -> Record:
    """Train the small network with one of MISTAKES, or without."""
    images, labels, test_images, test_labels = load_pictures()
    network = make_network()
    rate = 10.0 if mistake == "learning rate 100 times too high" else 0.1
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    record = Record()
    for _ in range(epochs):
        losses = []
        for rows in torch.randperm(len(images)).split(64):
            is_mixed = mistake == "labels not shuffled with the pictures"
            targets = labels[torch.randperm(len(labels))[: len(rows)]] if is_mixed else labels[rows]
            outputs = network(images[rows])
            if mistake == "softmax before cross-entropy":
                outputs = outputs.softmax(dim=1)
            loss = cross_entropy(outputs, targets)
            if mistake != "no zero_grad":
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        record.losses.append(sum(losses) / len(losses))
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # the test does not change the training
            network.train(mistake == "no eval")
            answers = network(test_images).argmax(dim=1)
            network.train()
        record.accuracies.append((answers == test_labels).float().mean().item())
    return record


# Leave out what takes time and is not needed here: pictures, logs for TensorBoard, calibration.
ONLY_THE_NETWORK = (
    "callbacks.report=null", "callbacks.tensorboard=null", "calibrate=false", "logger=none",
    "trainer.enable_progress_bar=false",
)  # fmt: skip


@functools.cache
def run_on_clothes() -> Path:
    """Train this project's network on the sample, with `python src/train.py data=sample trainer.max_epochs=2`.

    Returns:
        The run folder, which exists until the program ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="tour-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = ["data=sample", "trainer.max_epochs=2", f"outputs={folder}", "name=clothes", *ONLY_THE_NETWORK]
    run_command("train", settings)
    return folder / "clothes"


def run_command(name: str, settings: Sequence[str]) -> str:
    """Run `python src/NAME.py SETTINGS…` in this process, and return what it prints."""
    command = import_module(f"pytorch_intro.commands.{name}").main
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call(command, name, settings)
    return printed.getvalue().strip()
