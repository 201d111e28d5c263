"""What won elsewhere, to be tried here: parts that bench=ablation puts into the default recipe. No recipe uses them."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, unfold

from pytorch_intro.classifier import Classifier
from pytorch_intro.dataset import Batch
from pytorch_intro.networks.cnn import CNN, convolution

Share = Annotated[float, Field(gt=0, le=1)]


def network_of(module: LightningModule) -> nn.Module:
    """The network of a Classifier, for callbacks, which Lightning hands any LightningModule."""
    return cast(Classifier, module).network


class WhitenedCNN(CNN):
    """The CNN, whose first convolution and pooling give way to a frozen whitening of patches.

    A patch of 4 x 4 pixels, every 2 pixels, becomes its principal components scaled to variance 1, and the negatives of
    those, so that the ReLU behind them loses nothing (Jordan 2024, arXiv:2404.00498; there 2 x 2, every pixel).
    Whitening, below, sets the filters.

    Args:
        image_shape, num_classes, width: As of CNN.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: PositiveInt = 16) -> None:
        super().__init__(image_shape, num_classes, width)
        components = 2 * 16 * image_shape[0]
        self.stem = nn.Conv2d(image_shape[0], components, 4, stride=2, padding=1, bias=False).requires_grad_(False)
        second = convolution(components, 2 * width, nn.MaxPool2d(2))
        self.layers = nn.Sequential(self.stem, nn.ReLU(), *second, *self.layers[2 * len(second) :])


class Whitening(Callback):
    """Sets the stem of a WhitenedCNN by the first training images."""

    def __init__(self, images: PositiveInt = 5000) -> None:
        self.images = images

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        count = min(self.images, len(datamodule.train_set))
        images = datamodule.normalize(datamodule.train_set.__getitems__(range(count))[0])
        stem = cast(WhitenedCNN, network_of(pl_module)).stem
        patches = unfold(images, kernel_size=4, stride=2).movedim(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T.cov())
        filters = (components / (variances + 1e-2).sqrt()).T.view(-1, *stem.weight.shape[1:])
        stem.weight.data.copy_(torch.cat([filters, -filters]))


class DiracInit(Callback):
    """Begins with convolutions that hand their input on, as far as there are channels for it (Jordan 2024)."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for module in network_of(pl_module).modules():
            if isinstance(module, nn.Conv2d) and module.out_channels >= module.in_channels > 1:
                nn.init.dirac_(module.weight[: module.in_channels])


class NormBiasRate(Callback):
    """A learning rate of their own for the biases of batch norms (Jordan 2024, where it is 64 times SGD's).

    Args:
        factor: Of the rate that they have otherwise.
    """

    def __init__(self, factor: Annotated[float, Field(gt=0)]) -> None:
        self.factor = factor

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizer, schedule = trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler
        norms = [module for module in network_of(pl_module).modules() if isinstance(module, nn.BatchNorm2d)]
        biases = [norm.bias for norm in norms if norm.affine]
        numbers = {id(bias) for bias in biases}
        (group,) = [group for group in optimizer.param_groups if numbers & set(map(id, group["params"]))]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in numbers]
        rates = {name: self.factor * group[name] for name in ("lr", "initial_lr")}
        optimizer.add_param_group({**group, "params": biases, **rates})
        schedule.base_lrs.append(rates["initial_lr"])
        schedule.lr_lambdas.append(schedule.lr_lambdas[0])  # type: ignore[union-attr]


class Lookahead(Callback):
    """Draws the weights back to a slow average of them, ever more, every few steps (Jordan 2024).

    Zhang et al. 2019 (arXiv:1907.08610). The average's decay grows with the cube of the training's progress up to
    0.95 to the power of the steps between.

    Args:
        every_n_steps: Steps between two of them.
    """

    def __init__(self, every_n_steps: PositiveInt = 5) -> None:
        self.every_n_steps = every_n_steps
        self.slow: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.slow = [value.clone() for value in floats(pl_module)]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps:
            return
        progress = trainer.global_step / trainer.estimated_stepping_batches
        decay = 0.95**self.every_n_steps * progress**3
        fast = floats(pl_module)
        torch._foreach_lerp_(self.slow, fast, 1 - decay)
        torch._foreach_copy_(fast, self.slow)


def floats(module: nn.Module) -> list[Tensor]:
    """Weights and running statistics: all values of a module but counts."""
    return [value for value in module.state_dict().values() if value.is_floating_point()]


class ProgressiveResizing(Callback):
    """Shows the network small images first.

    Args:
        sides: Of the images in each of the first epochs, in pixels; later ones keep their own size.
    """

    def __init__(self, sides: Sequence[Annotated[int, Field(ge=8)]]) -> None:
        self.sides = sides
        self.epoch = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network_of(pl_module).register_forward_pre_hook(self.resize)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch = trainer.current_epoch

    def resize(self, network: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
        if not network.training or self.epoch >= len(self.sides):
            return images
        side = self.sides[self.epoch]
        return (interpolate(images[0], (side, side), mode="bilinear", antialias=True, align_corners=False),)


class ChannelsFirst(Callback):
    """Keeps images and filters in torch's own order of memory."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network_of(pl_module).to(memory_format=torch.contiguous_format)


class HardImages(Classifier):
    """Trains on the images of each batch that it knows least, after the first epoch.

    As "selective backprop" (Jiang et al. 2019, arXiv:1910.00762), which draws them instead. It takes a forward pass
    over all, and spares the training on the others.

    Args:
        share: Of each batch's images.
    """

    def __init__(self, share: Share = 0.5, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.share = share

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, targets = batch
        if self.current_epoch > 0:
            with torch.no_grad():
                losses = cross_entropy(self(images), targets, reduction="none")
            hard = losses.topk(math.ceil(self.share * len(targets))).indices
            images, targets = images[hard], targets[hard]
        return super().training_step((images, targets), batch_idx)


class UnsureViews(Classifier):
    """Looks at the mirror image only where the image alone leaves it unsure.

    Args:
        margin: Sure is a probability of the likeliest class this far above that of the second.
    """

    def __init__(self, margin: Share = 0.5, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float to logits (N, num_classes)."""
        logits = self.network(images)
        if self.training:
            return logits
        logits = logits.float()
        best, second = logits.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
        unsure = best - second < self.margin
        logits[unsure] = (logits[unsure] + self.network(images[unsure].flip(-1)).float()) / 2
        return logits
