"""Heat maps: which parts of an image a network's output for a class comes from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.analysis.plots import plot_image_grid, to_pil_images
from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.load import Predictor
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.tta import TTANetwork

MAX_PREFIX = 8  # tokens before those of the patches: class, distillation, registers
BATCH = 16  # images per backward pass
COLORS = "turbo"  # color map of Matplotlib: blue is little, red is most of the evidence
STRENGTH = 0.6  # opacity of the colors where the map is 1


def heat_maps(predictor: Predictor, images: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return where in each image the evidence for a class is, from 0 (none) to 1 (most): float32 (N, H, W) on the CPU.

    H and W are those of the network's input, the center crop of the images; network_view returns what they cover. Not
    for concurrent calls with the same predictor.

    Example:
        predictor = Predictor(load_run("outputs/first"))
        heat = heat_maps(predictor, torch.from_numpy(predictor.decoder(image))[None])

    Args:
        images: Decoded images, uint8 (N, C, H, W).
        classes: Class of each image to explain, (N,) int64; None: the predicted one, as in predict.py.

    Raises:
        UserError: If the network has no spatial feature map.
    """
    device = next(predictor.parameters()).device
    maps = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH].to(device)
        if classes is None:
            with torch.no_grad():  # with test-time augmentation, unlike the map
                chosen = predictor(batch).argmax(dim=1)
        else:
            chosen = classes[start : start + BATCH].to(device)
        maps.append(network_heat_maps(predictor.network, predictor.normalize(predictor.center_crop(batch)), chosen))
    return torch.cat(maps)


def network_view(predictor: Predictor, images: Tensor) -> Tensor:
    """Return the part of decoded images, uint8 (N, C, H, W), that the network sees, uint8 on the CPU."""
    return predictor.center_crop(images.cpu()).round().clamp(0, 255).byte()


class Grid(NamedTuple):
    """How a module's output is a map of features.

    Attributes:
        layout: NCHW, NHWC, or NTC for tokens.
        height, width: Number of positions.
    """

    layout: str
    height: int
    width: int

    def to_map(self, values: Tensor) -> Tensor:
        """Sum values in the shape of the output over its features: (N, height, width)."""
        if self.layout == "NTC":
            return values[:, -self.height * self.width :].sum(dim=2).unflatten(1, (self.height, self.width))
        return values.sum(dim=1 if self.layout == "NCHW" else 3)


def network_heat_maps(classifier: TTANetwork | Classifier, inputs: Tensor, classes: Tensor) -> Tensor:
    """Return heat maps of normalized images (N, C, H, W), as heat_maps does.

    The map is the sum over the features of feature times gradient of the class's log odds, where positive (HiResCAM,
    Draelos & Carin 2020, arXiv:2011.08891). Before global average pooling this is Grad-CAM; before maximum pooling and
    in transformers, where the gradient differs between positions, the positions keep their own. The features are those
    of the last module whose output is a map that the logits depend on: a vision transformer that reads its class token
    has them before its last attention.

    The image itself is explained, without test-time augmentation and temperature.
    """
    network = classifier.network
    size = (inputs.shape[-2], inputs.shape[-1])
    outputs: list[tuple[Grid, Tensor]] = []

    def record(module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and (grid := find_grid(output, size)):
            outputs.append((grid, output))

    hooks = [module.register_forward_hook(record) for module in modules_outside_attention(network)]
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
            logits = network(inputs.clone().requires_grad_())
            score = log_odds(logits.float(), classes.clone()).sum()
            maps = [output for _, output in outputs]
            gradients = torch.autograd.grad(score, maps, allow_unused=True) if maps else ()
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        raise UserError(
            f"explain=true: {type(network).__name__} has no map of features whose positions are places in the image; "
            "use a convolutional network or a vision transformer, or explain=false"
        )
    heat = torch.zeros(len(inputs), 1, *size)
    for (grid, output), gradient in zip(reversed(outputs), reversed(gradients), strict=True):
        if gradient is not None and grid.to_map(gradient.abs()).count_nonzero():
            heat = grid.to_map((output.detach() * gradient).float()).relu()[:, None]
            break
    heat = interpolate(heat, size, mode="bilinear")[:, 0]
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).cpu()


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of the probability p of a class of each row; with one class, its logit."""
    is_class = torch.nn.functional.one_hot(classes, logits.shape[1]).bool()
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[is_class] - logits.masked_fill(is_class, -torch.inf).logsumexp(dim=1)


def modules_outside_attention(network: nn.Module) -> list[nn.Module]:
    """Return the modules in which a position still is a place: in attention, queries and keys have similar shapes."""
    found = [network]
    for child in network.children():
        found += [child] if "attention" in type(child).__name__.lower() else modules_outside_attention(child)
    return found


def find_grid(output: Tensor, size: tuple[int, int]) -> Grid | None:
    """Return how a module's output is a map of an image of this size, smaller than the image; None if it is none."""
    if output.ndim == 4:
        channels_first, channels_last = (output.shape[2], output.shape[3]), (output.shape[1], output.shape[2])
        if is_reduced(channels_first, size):
            return Grid("NCHW", *channels_first)
        return Grid("NHWC", *channels_last) if is_reduced(channels_last, size) else None
    if output.ndim == 3:
        for prefix in range(MAX_PREFIX + 1):
            patches = output.shape[1] - prefix
            height = round((patches * size[0] / size[1]) ** 0.5) if patches > 0 else 0
            if height and patches % height == 0 and is_reduced((height, patches // height), size):
                return Grid("NTC", height, patches // height)
    return None


def is_reduced(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether a grid of more than one position has the proportions of an image of this size, or nearly."""
    (height, width), (image_height, image_width) = grid, size
    if min(grid) < 2 or height >= image_height or width >= image_width:
        return False
    return abs(height - width * image_height / image_width) <= 1


def check_explainable(predictor: Predictor) -> None:
    """Raise a UserError if the network has no spatial feature map."""
    decoder = predictor.decoder
    heat_maps(predictor, torch.zeros(1, decoder.channels, *decoder.size, dtype=torch.uint8))


def overlay(picture: Image.Image, heat: Tensor) -> Image.Image:
    """Return a picture in gray with a heat map (H, W) over it, in the size of the picture."""
    from matplotlib import colormaps

    colors = (colormaps[COLORS](heat.numpy())[..., :3] * 255).astype(np.uint8)
    opacity = Image.fromarray((heat.numpy() ** 0.5 * STRENGTH * 255).astype(np.uint8))
    layer = Image.fromarray(colors).resize(picture.size, Image.Resampling.BILINEAR)
    gray = picture.convert("L").convert("RGB")
    return Image.composite(layer, gray, opacity.resize(picture.size, Image.Resampling.BILINEAR))


def plot_predictions(
    predictor: Predictor, images: Tensor, classes: Tensor, names: Sequence[str], captions: Sequence[str]
) -> Image.Image:
    """Plot images as the network sees them, each next to the heat map of its class.

    Args:
        images: Decoded images, uint8 (N, C, H, W).
        classes: Class of each image, (N,) int64.
        names: Text above each image.
        captions: Text above each heat map.
    """
    heat = heat_maps(predictor, images, classes)
    tiles, texts = list[Image.Image](), list[str]()
    for row, picture in enumerate(to_pil_images(network_view(predictor, images))):
        tiles += [picture, overlay(picture, heat[row])]
        texts += [names[row], captions[row]]
    return plot_image_grid(tiles, texts)


def plot_mistakes(predictor: Predictor, errors: dict[str, Tensor], classes: Sequence[str]) -> Image.Image:
    """Plot the result of TopErrors.compute: each image next to the heat maps of its predicted and its true class."""
    names = to_display_names(classes)
    inputs, predicted, targets = (errors[name] for name in ("images", "predicted", "targets"))
    inputs = inputs.float()
    tiles, texts = list[Image.Image](), list[str]()
    if len(inputs):
        maps = [
            torch.cat(
                [
                    network_heat_maps(predictor.network, batch, labels)
                    for batch, labels in zip(inputs.split(BATCH), chosen.split(BATCH), strict=True)
                ]
            )
            for chosen in (predicted, targets)
        ]
        for row, picture in enumerate(to_pil_images(predictor.normalize.denormalize(inputs))):
            wrong, right = names[int(predicted[row])], names[int(targets[row])]
            tiles += [picture, *(overlay(picture, heat[row]) for heat in maps)]
            texts += [f"is {right}", f"{wrong} {errors['confidences'][row]:.0%}", f"evidence for\n{right}"]
    title = "the most confident errors: evidence for the predicted and the true class" if tiles else "no errors"
    return plot_image_grid(tiles, texts, title, columns=9)
