"""Fine-tuning: an epoch of all layers compared with a plain PyTorch loop, and the steps of the features of the head."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, quiet, time_alternately
from pytorch_intro.benchmarks.loop import lightning_epochs
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.pretrained.batchnorm_folding import fold_batch_norms
from pytorch_intro.pretrained.features import FeatureCache
from pytorch_intro.pretrained.network import PretrainedNetwork
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.setup import build_classifier, build_datamodule


def measure_finetuning(
    context: BenchmarkContext,
    rounds: PositiveInt,
    epochs: NonNegativeInt,
    num_workers: Sequence[NonNegativeInt],
    images: PositiveInt,
) -> Figures:
    """Measure the features of finetune=head, then epochs of all layers.

    Args:
        rounds: Number of rounds of all variants.
        epochs: Number of counted epochs per round; 0: the features only.
        num_workers: Numbers of DataLoader workers of the plain loop.
        images: Largest number of images whose features are computed.
    """
    datamodule = build_datamodule(context.config)
    figures: Figures = {"features": measure_features(context, datamodule, rounds, images)}
    if epochs:
        figures["epochs"] = measure_epochs(context, datamodule, rounds, epochs, num_workers)
    return figures


def measure_features(context: BenchmarkContext, datamodule: DataModule, rounds: int, images: int) -> Figures:
    """Time each step of computing the features alone, and all of them; return images per second.

    Each image is decoded once, in this measurement by one process. The other steps are for one augmented view of it.
    """
    subset = datamodule.train_set.take(torch.arange(min(images, len(datamodule.train_set))))
    batches = torch.arange(len(subset)).split(datamodule.batch_size)
    with quiet():
        changes = {"data": {"cache": "none", "num_workers": 0}}
        uncached = build_datamodule(cast(DictConfig, OmegaConf.merge(context.config, changes)))
        network = build_classifier(context.config, datamodule).network.to(context.device).eval()
    assert isinstance(network, PretrainedNetwork)
    folded, count = fold_batch_norms(network.body, datamodule.image_shape)
    with tempfile.TemporaryDirectory() as folder:
        trainer = context.build_trainer(folder)
    first, _ = subset.__getitems__(batches[0])
    first = datamodule.preprocess(first.to(context.device), augment=False)

    def decode() -> None:
        for rows in batches:
            uncached.train_set.__getitems__(rows)

    def compute_view(extract: Callable[[Tensor], Tensor]) -> None:
        FeatureCache(Path(folder), trainer, datamodule, extract).compute_view(subset, view=1, first_row=0)

    @torch.no_grad()
    def forward(body: nn.Module) -> None:
        for rows in batches:
            with trainer.precision_plugin.forward_context():
                body(first[: len(rows)])

    variants: dict[str, Callable[[], None]] = {
        "network": partial(forward, network.body),
        "network, folded": partial(forward, folded),
        "decoding": decode,
        "augmentation": partial(compute_view, lambda images: images.flatten(1)[:, :1]),
        "features": partial(compute_view, folded),
    }
    seconds = time_alternately(variants, 1 + rounds)
    side = datamodule.image_shape[1]
    print(f"features of {len(subset):,} images, {side} pixels, in {trainer.precision}, {count} batch norms folded")
    speeds = {name: [len(subset) / value for value in values[1:]] for name, values in seconds.items()}
    return print_comparison("images_per_second", "images/s", **speeds)


def measure_epochs(
    context: BenchmarkContext, datamodule: DataModule, rounds: int, epochs: int, num_workers: Sequence[int]
) -> Figures:
    """Train the same network on the same images with both, alternately; return seconds per epoch.

    Both take random resized crops, flip, change colors as data/augment=photos_light does, normalize, and use the same
    batch size, optimizer and precision. The first epoch of a round, in which processes start, is not counted.
    """
    seconds: dict[str, list[float]] = {f"plain with {workers} workers": [] for workers in num_workers}
    seconds["ours"] = []
    for _ in tqdm(range(rounds), "rounds", leave=False):
        for workers in num_workers:
            classifier = build_classifier(context.config, datamodule)
            loader = plain_loader(context, datamodule, workers)
            seconds[f"plain with {workers} workers"] += plain_epochs(classifier, loader, context, epochs + 1)[1:]
        with tempfile.TemporaryDirectory() as folder:
            classifier = build_classifier(context.config, datamodule)
            seconds["ours"] += lightning_epochs(classifier, datamodule, context.build_trainer(folder))[1:]
    print(f"an epoch of {len(datamodule.train_set):,} images, {datamodule.image_shape[1]} pixels")
    return print_comparison("seconds", "s", **seconds)


def plain_loader(context: BenchmarkContext, datamodule: DataModule, num_workers: int) -> DataLoader:
    """Build the loader of a plain PyTorch program: torchvision's dataset and transforms, one image at a time."""
    crop, colors = context.config.data.augment.resized_crop, context.config.data.augment.color_jitter
    assert datamodule.mean is not None
    assert datamodule.std is not None
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(datamodule.image_shape[1:], tuple(crop.scale), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(colors.brightness, colors.contrast, colors.saturation, colors.hue),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(datamodule.mean, datamodule.std),
        ]
    )
    images = VisibleFolders(Path(context.config.data.root), transform)
    return DataLoader(
        images, datamodule.batch_size, shuffle=True, num_workers=num_workers, persistent_workers=num_workers > 0
    )


class VisibleFolders(ImageFolder):
    """torchvision's ImageFolder, which would take the folder .cache of this project for a class."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        return classes, {name: number for number, name in enumerate(classes)}


def plain_epochs(classifier: Classifier, loader: DataLoader, context: BenchmarkContext, epochs: int) -> list[float]:
    """Train the network of a classifier with a minimal loop; return seconds per epoch."""
    device, is_mixed = context.device, context.hardware["precision"] == "bf16-mixed"
    network = classifier.network.to(device).train()
    optimizer = classifier.optimizer(network.parameters())
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for images, targets in loader:
            images, targets = images.to(device, memory_format=torch.channels_last), targets.to(device)
            with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
                loss = cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds
