"""Features of all images of a subset, computed once and cached in files until training ends."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor
from tqdm import tqdm

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_write
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import ImageSubset, InMemoryImageDataset, Storage, identity_collate
from pytorch_intro.data.ingest.workers import WorkerDataLoader, init_worker
from pytorch_intro.data.seeding import seed_all_rngs
from pytorch_intro.pretrained.linear_head import Features

ROWS_PER_FILE = 2048


class FeatureDataset(InMemoryImageDataset):
    """Features (N, D) float32 instead of images; DataModule and Classifier pass them on to the head as they are."""

    storage: Storage = "in memory"

    def __init__(self, features: Features, classes: list[str]) -> None:
        self.images, self.targets = features
        self.classes = classes
        self.image_shape = (self.images.shape[1], 1, 1)


class FeatureCache:
    """Computes features and caches them in files, so that an interrupted run does not start over.

    The processes of a distributed run share the work: each computes some of the files, and all read all of them.

    Args:
        folder: Folder of the files.
        extract: Function from normalized images, (N, C, H, W) float, to features, (N, D).
    """

    def __init__(
        self, folder: Path, trainer: Trainer, datamodule: DataModule, extract: Callable[[Tensor], Tensor]
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.datamodule = datamodule
        self.extract = extract

    def compute(self, subset: ImageSubset, name: str, views: int = 1) -> Features:
        """Return the features of each view of the images: of the center crops, then of random augmentations.

        Args:
            subset: Images (N, C, H, W) uint8.
            name: Name of the subset, for the names of the files.
            views: Number of views of each image.

        Returns:
            Values (views N, D) float32 and targets (views N,), on the training device.
        """
        parts = [(view, rows) for view in range(views) for rows in torch.arange(len(subset)).split(ROWS_PER_FILE)]
        files = [self.folder / f"{name}-view-{view}-from-{int(rows[0])}.pt" for view, rows in parts]
        for number, ((view, rows), file) in enumerate(zip(parts, files, strict=True)):
            if number % self.trainer.world_size == self.trainer.global_rank and not file.exists():
                values = self.compute_view(subset.take(rows), view, int(rows[0]))
                self.folder.mkdir(parents=True, exist_ok=True)  # not before: a run that fails early leaves no folder
                with atomic_write(file) as opened:
                    torch.save(values, opened)
        self.trainer.strategy.barrier()
        device = self.trainer.strategy.root_device
        values = torch.cat([torch.load(file, weights_only=True, map_location=device) for file in files])
        return Features(values, subset.targets.to(device).repeat(views))

    @torch.no_grad()
    def compute_view(self, subset: ImageSubset, view: int, first_row: int) -> Tensor:
        """Return the features (N, D) float32 of one view of some images, on the CPU.

        The random numbers of a view depend on the seed, the view and the first row, not on the process.
        """
        device = self.trainer.strategy.root_device
        features = []
        bar = tqdm(
            self.iter_images(subset, view),
            desc=f"features, view {view}, from image {first_row}",
            total=math.ceil(len(subset) / self.datamodule.batch_size),
            disable=None if self.trainer.is_global_zero else True,  # None: unless on a terminal
            leave=False,
        )
        for number, images in enumerate(bar):
            seed_all_rngs(device, "features", self.datamodule.seed, view, first_row, number)
            images = self.datamodule.preprocess(images.to(device), augment=view > 0)
            with self.trainer.precision_plugin.forward_context():
                features.append(self.extract(images).float())
        values = torch.cat(features).cpu()
        if not values.isfinite().all():
            precision = self.trainer.precision
            remedy = "other model.weights" if precision.startswith(("32", "64")) else "trainer.precision=32-true"
            raise UserError(f"trainer.precision={precision}: features are NaN or inf; use {remedy}")
        return values

    def iter_images(self, subset: ImageSubset, view: int) -> Iterator[Tensor]:
        """Yield batches of images, uint8; their random numbers do not depend on the number of processes."""
        crop = self.datamodule.original_crop if view else None
        images = subset.dataset.seeded(self.datamodule.seed, torch.tensor(view), crop)
        num_workers = self.datamodule.choose_num_workers(training=False)
        loader = WorkerDataLoader(
            ImageSubset(images, subset.indices),  # its __getitems__ returns batches
            batch_sampler=torch.arange(len(subset)).split(self.datamodule.batch_size),
            num_workers=num_workers,
            collate_fn=identity_collate,
            worker_init_fn=init_worker,
            generator=torch.Generator().manual_seed(0),  # workers must not advance the global RNG
        )
        for batch in loader:
            yield batch[0]
