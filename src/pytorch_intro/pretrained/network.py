"""A network of a library by name, split into its body and its linear head."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.signatures import get_parameters
from pytorch_intro.config.validate import check_value
from pytorch_intro.training.weights import (
    SavedWeights,
    find_weights,
    load_state,
    read_run,
    read_weights,
    run_input_settings,
)

RANDOM = "random weights"  # value of PretrainedNetwork.origin
FILE_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
DropRate = Annotated[float, Field(ge=0, lt=1)]
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Choice(NamedTuple):
    """A network and its weights, both checked.

    Attributes:
        name: Name of the network, without a tag.
        tag: Name of the library's weights, or of those whose settings the network has; None if it has none.
        path: File or folder of a finished run that the weights are read from, if not from the library.
    """

    name: str
    tag: str | None
    path: str | None

    @property
    def full_name(self) -> str:
        """Name of the network with the tag, such as resnet50.a1_in1k."""
        return f"{self.name}.{self.tag}" if self.tag else self.name


class PretrainedNetwork(nn.Module):
    """A network of a library, as head(body(images)).

    A network without one linear layer at its end, such as SqueezeNet, has `head` None and is all `body`.

    Args:
        image_shape: (C, H, W); the first convolution is adapted to C channels, and a vision transformer to H and W.
        name: Name of the network in the library.
        weights: default, the name of other weights of the library, a file, the folder of a finished run, or null for
            random ones.
        new_head: Whether a head in a file or run is replaced; with weights of the library, it always is.
        kwargs: Further arguments of the network's class; null values are left out.
        load_weights: Whether the weights are read; False if those of a checkpoint replace them anyway.
        classes: Class names of the data; a head that is kept has to be for the same.
    """

    head: nn.Linear | None
    origin: str  # source and license of the first weights, for the model card
    library_call: dict[str, Any]  # library, name and arguments that build the same network without this project

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        name: str,
        weights: str | None = "default",
        new_head: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        load_weights: bool = True,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        arguments = given(kwargs)
        choice = self.check(name, weights, arguments, load_weights)
        self.origin = RANDOM if weights is None else self.library_origin(choice)
        if choice.path:
            self.origin = f"{choice.path}, whose license is not recorded"
        try:
            network = self.build(choice, image_shape, num_classes, arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError, IndexError) as error:
            raise self.build_error(error, image_shape, arguments) from error
        try:
            head_name = find_linear_head(network, image_shape)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise self.build_error(error, image_shape, arguments) from error
        if weights is not None and load_weights:
            heads = self.head_names(network) or [head_name or ""]
            if choice.path is None:
                saved, new_head = SavedWeights(self.download(choice, image_shape, arguments), None), True
            else:
                read = read_weights(choice.path)
                tensors = with_library_names(read.tensors, head_name)
                tensors = self.convert(tensors, network, heads, choice, image_shape, arguments)
                saved = SavedWeights(tensors, read.classes)
            source = weights if choice.path else choice.full_name
            load_state(network, saved, heads, source, new_head, classes)
        self.head_name = head_name
        self.body, self.head = split_off(network, head_name)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float, or their features (N, D), to logits (N, num_classes)."""
        features = images if images.ndim == 2 else self.body(images)
        return features if self.head is None else self.head(features)

    def library_state_dict(self) -> dict[str, Tensor]:
        """Return the state dict with the names of the library's own network."""
        return with_library_names(self.state_dict(), self.head_name)

    def check_linear_head(self) -> None:
        """Raise a UserError if the network does not end with one linear layer."""
        if self.head is None or self.head.bias is None:
            raise UserError(
                f"model.name={self.name}: does not end with one linear layer with a bias, so that its head cannot be "
                "trained alone; use finetune=full, or another network"
            )

    def parameter_groups(self, layer_decay: NonNegativeFloat = 1.0) -> list[dict[str, Any]]:
        """Return groups of parameters by depth, from the input to the head, for an optimizer.

        Args:
            layer_decay: Factor of the learning rate per layer, from the head (1) to the input.

        Returns:
            Dicts with `params`, their `names`, and `lr_scale`, by which to multiply the learning rate.
        """
        depths = self.depths()
        if self.head is not None:
            last = max(depths.values(), default=-1) + 1
            depths |= {f"head.{name}": last for name, _ in self.head.named_parameters()}
        order = sorted(set(depths.values()))
        parameters = dict(self.named_parameters())
        groups = []
        for position, depth in enumerate(order):
            names = [name for name in parameters if depths[name] == depth]
            scale = layer_decay ** (len(order) - 1 - position)
            groups.append({"params": [parameters[name] for name in names], "names": names, "lr_scale": scale})
        return groups

    def depths(self) -> dict[str, int]:
        """Return the depth of each parameter of the body, by name: the number of its block."""
        blocks: list[str] = []

        def visit(name: str, module: nn.Module) -> None:
            # Encoder: that of torchvision's vision transformers
            is_container = type(module) in CONTAINERS or type(module).__name__ == "Encoder"
            if not is_container and name:
                if not (isinstance(module, NORMS) and blocks):  # a norm belongs to the layer before it
                    blocks.append(f"{name}.")
                return
            for child, submodule in module.named_children():
                visit(f"{name}.{child}".lstrip("."), submodule)

        for child, submodule in self.body.named_children():
            visit(child, submodule)
        depths, depth = {}, 0
        for name, _ in self.body.named_parameters():
            depth = next((number for number, block in enumerate(blocks) if name.startswith(block)), depth)
            depths[f"body.{name}"] = depth
        return depths

    @classmethod
    def input_settings(
        cls, name: str, weights: str | None = "default", kwargs: Mapping[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        """Return the preprocessing that the weights expect; raise a UserError if a setting is wrong.

        Returns:
            Any of image_size, mean, std, interpolation and crop_pct, with the name of the weights as `source`. Empty
            for random weights.
        """
        choice = cls.check(name, weights, given(kwargs))
        if weights is None:
            return {}
        if choice.path and Path(choice.path).is_dir():
            return run_input_settings(choice.path)
        source = f"the weights of {choice.full_name}" + (f", as {choice.path} has no settings" if choice.path else "")
        settings = cls.library_settings(choice)
        return settings | {"source": source} if settings else {}

    @classmethod
    def check(cls, name: str, weights: str | None, arguments: Mapping[str, Any], load_weights: bool = True) -> Choice:
        """Return the network and its weights; raise a UserError if a setting is wrong.

        A file or run is checked only if load_weights is true.
        """
        base, tag, tags = cls.find(name)
        path = None
        if weights not in (None, "default"):
            file = find_weights(weights)
            if weights in tags:
                tag = weights
            elif not load_weights or file:
                path = str(file or weights)
                if load_weights and file and file.is_dir() and not (file / "result.json").exists():
                    read_run(weights)
            else:
                is_path = Path(weights).suffix in FILE_SUFFIXES or len(Path(weights).parts) > 1
                known = f"; {name} has {', '.join(tags)}" if tags else f"; {name} has no weights in the library"
                problem = "no such file or folder" if is_path else f"neither a file, a run nor weights of {name}"
                raise UserError(f"model.weights={weights}: {problem}{'; check the path' if is_path else known}")
        if weights == "default" and not tags:
            raise UserError(f"model.weights=default: {name} has none; use model.weights=FILE, or model.weights=null")
        if arguments:
            accepted = cls.accepted_arguments(base) - {"self"}
            for argument in arguments:
                if argument not in accepted:
                    close = nearest(argument, sorted(accepted))
                    raise UserError(f"model.kwargs.{argument}: not an argument of {name}; {close}")
                if argument == "dropout" or ("drop" in argument and argument.endswith("_rate")):
                    # Some networks check their rates only in a training step.
                    check_value(f"model.kwargs.{argument}", arguments[argument], DropRate)
        return Choice(base, tag, path)

    def build_error(
        self, error: BaseException, image_shape: tuple[int, int, int], arguments: Mapping[str, Any]
    ) -> UserError:
        if isinstance(error, UserError):
            return error
        reason = first_lines(error) or type(error).__name__
        if arguments:
            settings = ", ".join(f"model.kwargs.{key}={value}" for key, value in arguments.items())
            return UserError(f"{settings}: {self.name} cannot be built ({reason}); use other values")
        channels, height, width = image_shape
        return UserError(
            f"data.image_size={height if height == width else [height, width]}: {self.name} does not accept images of "
            f"{height} x {width} pixels with {channels} channel(s) ({reason}); use another data.image_size, or another "
            "model.name"
        )

    @classmethod
    @abstractmethod
    def find(cls, name: str) -> tuple[str, str | None, list[str]]:
        """Return the name without its tag, the tag (that of the default weights if there is none) and all tags."""

    @classmethod
    @abstractmethod
    def accepted_arguments(cls, name: str) -> set[str]:
        """Return the names that kwargs may have."""

    @classmethod
    @abstractmethod
    def library_settings(cls, choice: Choice) -> dict[str, Any]:
        """Return the preprocessing that the library's weights were trained with."""

    @classmethod
    @abstractmethod
    def library_origin(cls, choice: Choice) -> str:
        """Return the name, source and license of the library's weights."""

    @abstractmethod
    def build(
        self, choice: Choice, image_shape: tuple[int, int, int], num_classes: int, arguments: Mapping[str, Any]
    ) -> nn.Module:
        """Build the network with random weights."""

    @abstractmethod
    def download(
        self, choice: Choice, image_shape: tuple[int, int, int], arguments: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the tensors of the library's weights, from its cache or downloaded."""

    def head_names(self, network: nn.Module) -> list[str]:
        """Return the names of the modules that map features to classes, if the library knows them."""
        return []

    def convert(
        self,
        tensors: dict[str, Tensor],
        network: nn.Module,
        heads: Sequence[str],
        choice: Choice,
        image_shape: tuple[int, int, int],
        arguments: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Convert the tensors of a file to those of the network, if the library can."""
        return tensors


def given(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {name: value for name, value in (kwargs or {}).items() if value is not None}


def nearest(name: str, names: Sequence[str]) -> str:
    """Return a suggestion for an unknown name: the nearest ones, or the first ones."""
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    more = ", …" if len(names) > 20 else ""
    return f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(names[:20])}{more}"


def class_arguments(network_class: type, reserved: set[str]) -> set[str]:
    """Return the names of all parameters of a class, those of its bases included, except for reserved ones."""
    return get_parameters(network_class) - reserved - {"args", "kwargs"}


def find_linear_head(network: nn.Module, image_shape: tuple[int, int, int]) -> str | None:
    """Return the name of the linear layer whose output is the network's output; None if there is none.

    Its input has to be one vector of features per image.
    """
    calls: list[tuple[str, Tensor, Tensor]] = []

    def record(layer: str) -> Any:
        return lambda _, inputs, output: calls.append((layer, inputs[0], output))

    hooks = [
        module.register_forward_hook(record(layer))
        for layer, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = network(torch.zeros(1, *image_shape))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    last = calls[-1:]
    return next((layer for layer, inputs, result in last if result is output and inputs.ndim == 2), None)


def split_off(network: nn.Module, head_name: str | None) -> tuple[nn.Module, nn.Linear | None]:
    """Return the network without its head, and the head."""
    if head_name is None:
        return network, None
    head = network.get_submodule(head_name)
    assert isinstance(head, nn.Linear)
    parent, _, child = head_name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network, head


def with_library_names(tensors: dict[str, Tensor], head_name: str | None) -> dict[str, Tensor]:
    """Return the tensors with the library's names if they are those of a PretrainedNetwork, as in a run."""
    if not all(name.startswith(("body.", "head.")) for name in tensors):
        return tensors
    return {
        name.removeprefix("body.") if name.startswith("body.") else f"{head_name}.{name.removeprefix('head.')}": tensor
        for name, tensor in tensors.items()
    }
