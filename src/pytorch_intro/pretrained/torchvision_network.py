"""Networks of torchvision.models by name."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.pretrained.network import Choice, PretrainedNetwork, class_arguments, nearest

RESERVED = {"num_classes", "image_size", "input_size", "aux_logits", "transform_input", "init_weights"}
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that help to train Inception and GoogLeNet from scratch


class TorchvisionNetwork(PretrainedNetwork):
    """A classifier of torchvision.models, such as resnet18; its weights are IMAGENET1K_V1 and the like."""

    @classmethod
    def find(cls, name: str) -> tuple[str, str | None, list[str]]:
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise UserError(f"model.name={name}: no such network in torchvision.models; {nearest(name, known)}")
        weights = torchvision.models.get_model_weights(name)
        return name, weights["DEFAULT"].name, [member.name for member in weights]

    @classmethod
    def accepted_arguments(cls, name: str) -> set[str]:
        return class_arguments(network_class(name), RESERVED)

    @classmethod
    def library_settings(cls, choice: Choice) -> dict[str, Any]:
        transforms = torchvision.models.get_model_weights(choice.name)[choice.tag or "DEFAULT"].transforms()
        size = transforms.crop_size[0]
        return {
            "image_size": size,
            "mean": list(transforms.mean),
            "std": list(transforms.std),
            "interpolation": transforms.interpolation.value,
            "crop_pct": size / transforms.resize_size[0],
        }

    @classmethod
    def library_origin(cls, choice: Choice) -> str:
        weights = torchvision.models.get_model_weights(choice.name)[choice.tag or "DEFAULT"]
        source = weights.meta.get("recipe", weights.url)
        terms = weights.meta.get("license", "not stated (torchvision itself: BSD-3-Clause)")
        return f"{choice.name}.{weights.name} of torchvision ({source}), license: {terms}"

    def build(
        self, choice: Choice, image_shape: tuple[int, int, int], num_classes: int, arguments: Mapping[str, Any]
    ) -> nn.Module:
        channels, *size = image_shape
        parameters = inspect.signature(network_class(choice.name)).parameters
        settings = {
            "aux_logits": False,
            "transform_input": channels == 3 and choice.tag is not None,  # its weights expect another normalization
            "init_weights": True,
            "image_size": size[0],
            "input_size": tuple(size),
        }
        settings = {name: value for name, value in settings.items() if name in parameters}
        if "image_size" in settings and size[0] != size[1]:
            raise ValueError("it needs square images")
        call = {"num_classes": num_classes, **settings, **arguments}
        self.library_call = {"library": "torchvision", "name": choice.name, "arguments": call}
        network = torchvision.models.get_model_builder(choice.name)(weights=None, **call)
        return with_channels(network, channels)

    def download(
        self, choice: Choice, image_shape: tuple[int, int, int], arguments: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the tensors of torchvision's weights, with position embeddings resampled to the image size."""
        weights = torchvision.models.get_model_weights(choice.name)[choice.tag or "DEFAULT"]
        try:
            donor = torchvision.models.get_model(choice.name, weights=weights, progress=False)
        except OSError as error:  # no network connection, or a full disk
            raise UserError(
                f"model.weights={choice.tag}: cannot download {weights.url} ({first_lines(error)}); connect to the "
                "network, or copy this file here and set model.weights=FILE"
            ) from error
        return resample(without_auxiliary_heads(donor.state_dict()), donor, image_shape)

    def head_names(self, network: nn.Module) -> list[str]:
        layers = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        return layers[-1:]

    def convert(
        self,
        tensors: dict[str, Tensor],
        network: nn.Module,
        heads: Sequence[str],
        choice: Choice,
        image_shape: tuple[int, int, int],
        arguments: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        return resample(without_auxiliary_heads(tensors), network, image_shape)


def network_class(name: str) -> type:
    """Return the class that a factory of torchvision returns."""
    return get_type_hints(torchvision.models.get_model_builder(name))["return"]


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution by one for another number of input channels."""
    name, conv = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels != channels:
        parent, _, child = name.rpartition(".")
        new = nn.Conv2d(
            channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
        setattr(network.get_submodule(parent), child, new)
    return network


def without_auxiliary_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY)}


def resample(tensors: dict[str, Tensor], network: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return the tensors of a vision transformer with position embeddings for the image size."""
    if not isinstance(network, VisionTransformer) or "encoder.pos_embedding" not in tensors:
        return tensors
    return dict(interpolate_embeddings(image_shape[1], network.patch_size, tensors))
