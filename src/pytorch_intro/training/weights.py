"""Initial weights of a network, from a file or the folder of a finished run."""

import inspect
import logging
import os
import pickle
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError, check_installed, first_lines
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.signatures import has_kwargs
from pytorch_intro.data.ingest.find_files import is_regular
from pytorch_intro.runs.folder import BEST
from pytorch_intro.training.resume import read_checkpoint

log = logging.getLogger(__name__)

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")  # under which programs save a state dict
PREFIXES = ("module.", "_orig_mod.", "network.", "model.")  # of DataParallel, torch.compile and LightningModules
MAX_SHOWN = 3  # names in an error
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.bool)
COUNTER = "num_batches_tracked"  # buffer of batch norm, which old files lack


class SavedWeights(NamedTuple):
    """Tensors of a network by name, and the class names in the order of its outputs; None if not recorded."""

    tensors: dict[str, Tensor]
    classes: list[str] | None


def build_network(
    node: DictConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    load_weights: bool = True,
    classes: Sequence[str] | None = None,
) -> nn.Module:
    """Build the network of a model node, and load model.weights.

    A class with a parameter `weights` loads them itself; for all others, they are a file or the folder of a run.

    Args:
        load_weights: Whether to read the weights; False if those of a checkpoint replace them anyway.
        classes: Class names of the data; the head of a run has to be for the same.
    """
    parameters = model_parameters(node)
    values: dict[str, Any] = {"image_shape": image_shape, "num_classes": num_classes}
    if parameters is None or "weights" in parameters:
        if parameters is not None and "load_weights" in parameters:
            values["load_weights"] = load_weights
            if "classes" in parameters:
                values["classes"] = classes
        elif not load_weights and isinstance(node.get("weights"), str):
            values["weights"] = None
        network: nn.Module = instantiate(node, "model", **values)
        return network
    arguments = OmegaConf.masked_copy(node, [str(key) for key in node if key not in ("weights", "new_head")])
    network = instantiate(arguments, "model", **values)
    weights = node.get("weights")
    if load_weights and weights is not None:
        load_state(network, read_weights(weights), last_linear(network), weights, bool(node.get("new_head")), classes)
    return network


def model_parameters(node: DictConfig) -> set[str] | None:
    """Return the names of the parameters of a model; None if it takes any."""
    signature = inspect.signature(hydra.utils.get_object(node["_target_"]))
    return None if has_kwargs(signature) else set(signature.parameters)


def library_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with the names that the network has in its library, if it is one of timm or torchvision."""
    state: dict[str, Tensor] = getattr(network, "library_state_dict", network.state_dict)()
    return state


def input_settings(node: DictConfig) -> dict[str, Any]:
    """Return the preprocessing that the weights of a model node expect; {} if unknown.

    Returns:
        Any of DataModule's arguments image_size, mean, std, interpolation and crop_pct, and `source`, the name of the
        weights.
    """
    weights = node.get("weights")
    target = hydra.utils.get_object(node["_target_"])
    if hasattr(target, "input_settings"):
        values = OmegaConf.to_container(node, resolve=True)
        assert isinstance(values, dict)
        return target.input_settings(**{str(key): value for key, value in values.items() if key != "_target_"})
    path = find_weights(weights) if isinstance(weights, str) else None
    return run_input_settings(str(weights)) if path and path.is_dir() else {}


def run_input_settings(folder: str) -> dict[str, Any]:
    """Return the preprocessing settings of a finished run, and `source`; see input_settings."""
    return checkpoint_input_settings(read_run(folder), f"the run {folder}")


def checkpoint_input_settings(checkpoint: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the preprocessing settings in a checkpoint, and `source`; see input_settings."""
    inputs = checkpoint["datamodule_hyper_parameters"]
    _, height, width = inputs["image_shape"]
    size = height if height == width else [height, width]
    settings = {"image_size": size, "mean": inputs["mean"], "std": inputs["std"], "source": source}
    passed = inputs["arguments"]  # without the crop_pct that follows from the sizes
    return settings | {name: passed[name] for name in ("interpolation", "crop_pct") if passed[name]}


def find_weights(weights: str) -> Path | None:
    """Return the path of a file or folder, with ~ expanded; None if there is none."""
    path = os.path.expanduser(weights)  # noqa: PTH111, as pathlib raises an error for some text
    return Path(path) if os.path.exists(path) else None  # noqa: PTH110


def read_weights(weights: str) -> SavedWeights:
    """Read the tensors of a network from a file or from the folder of a finished run.

    No code in the file is executed. The names lose the prefixes of common wrappers.
    """
    path = find_weights(weights)
    if path is None:
        raise UserError(f"model.weights={weights}: no such file or folder; check the path")
    if path.is_dir():
        content: Any = read_run(weights)
    elif not is_regular(path):  # reading a pipe or a device might never end
        raise UserError(f"model.weights={weights}: not a regular file; use a .pt, .pth or .safetensors file")
    elif path.suffix == ".safetensors":
        content = read_safetensors(path, weights)
    else:
        content = read_pickle(path, weights)
    recorded = content.get("datamodule_hyper_parameters") if isinstance(content, Mapping) else None
    classes = recorded.get("classes") if isinstance(recorded, Mapping) else None
    for key in STATE_DICT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor) and not value.is_meta}
    if not tensors:
        raise UserError(
            f"model.weights={weights}: contains no state dict; save one with torch.save(model.state_dict(), FILE)"
        )
    # Other types are those of quantized networks, whose scales would be lost.
    if types := sorted({str(tensor.dtype) for tensor in tensors.values() if tensor.dtype not in DTYPES}):
        raise UserError(
            f"model.weights={weights}: contains tensors of type {', '.join(types).replace('torch.', '')}; use weights "
            "in floating point"
        )
    return SavedWeights(strip_prefixes(tensors), classes)


def read_run(weights: str) -> dict[str, Any]:
    """Return the best checkpoint of a finished run."""
    folder = find_weights(weights)
    if folder is None or not (folder / "result.json").exists():
        raise UserError(f"model.weights={weights}: not a finished run (no result.json); use another folder, or a file")
    checkpoint = read_checkpoint(folder / "checkpoints" / BEST)
    if checkpoint is None:
        raise UserError(f"model.weights={weights}: {BEST} is missing or corrupt; use another run")
    return checkpoint


def read_pickle(path: Path, weights: str) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start != b"PK" and start[:1] != b"\x80":  # neither a zip archive nor a pickle
            raise UserError(
                f"model.weights={weights}: not a PyTorch file (maybe a web page or an incomplete download); download "
                "it again, or use another .pt, .pth or .safetensors file"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript files, which are refused below
            return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise UserError(
                f"model.weights={weights}: not loaded, as it contains more than tensors and plain values and could run "
                "code; save only the state dict with torch.save(model.state_dict(), FILE)"
            ) from error
        reason = first_lines(error).split(". ")[0] or type(error).__name__
        raise UserError(
            f"model.weights={weights}: cannot be read ({reason}); copy it again, or use another .pt, .pth or "
            ".safetensors file"
        ) from error


def read_safetensors(path: Path, weights: str) -> Any:
    check_installed(f"model.weights={weights}", ["safetensors"], "photos")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"model.weights={weights}: cannot be read ({first_lines(error)}); copy it again") from error


def strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove those of PREFIXES that all names share."""
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def last_linear(network: nn.Module) -> list[str]:
    """Return the name of the last linear layer, the head, in a list; an empty list if there is none."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]


def load_state(
    network: nn.Module,
    saved: SavedWeights,
    heads: Sequence[str],
    weights: str,
    new_head: bool,
    classes: Sequence[str] | None = None,
) -> None:
    """Load all tensors into a network and log how; raise a UserError, and load none, if they do not fit.

    If no name matches, but the number of tensors and their shapes in order do, they are loaded in this order. The first
    convolution is adapted to another number of channels, and the head to another order of the same classes.

    Args:
        heads: Names of the modules that map features to classes.
        weights: Value of model.weights, for messages.
        new_head: Whether the heads keep their initial values.
        classes: Class names of the data; None if unknown.
    """
    expected = network.state_dict()
    in_heads = head_tensors(expected, heads)
    tensors, notes = match(saved.tensors, expected, in_heads)
    if differences := mismatch(tensors, expected, in_heads):
        raise UserError(
            f"model.weights={weights}: does not fit {type(network).__name__}, nothing was loaded ({differences}); use "
            "weights of this network, or the network of these weights"
        )
    if not new_head and saved.classes and classes and saved.classes != list(classes):
        check_same_classes(saved.classes, classes, weights)
        order = torch.tensor([saved.classes.index(name) for name in classes])
        tensors = {name: tensor[order] if name in in_heads else tensor for name, tensor in tensors.items()}
        notes += ", the outputs of the head in the order of the data's classes"
    loaded = {name: tensor for name, tensor in tensors.items() if not (new_head and name in in_heads)}
    if differences := mismatch(loaded, expected, in_heads if new_head else ()):
        raise UserError(
            f"model.weights={weights}: the head is for other classes ({differences}); set model.new_head=true to "
            "train a new one"
        )
    network.load_state_dict(expected | loaded)
    kept = f"; the head is new ({', '.join(heads)})" if new_head else ""
    log.info("weights: %d of %d tensors from %s%s%s", len(loaded), len(expected), weights, notes, kept)


def check_same_classes(saved: Sequence[str], classes: Sequence[str], weights: str) -> None:
    """Raise a UserError if the class names of the weights and of the data differ; their order may."""
    lists = {"in the weights": sorted({*saved} - {*classes}), "in the data": sorted({*classes} - {*saved})}
    if any(lists.values()):
        differences = "; ".join(f"only {where}: {some_of(names)}" for where, names in lists.items() if names)
        raise UserError(
            f"model.weights={weights}: the head is for other classes ({differences}); set model.new_head=true to train "
            "a new one"
        )


def some_of(names: Sequence[str]) -> str:
    """Return the first names, as text."""
    return ", ".join(names[:MAX_SHOWN]) + ", …" * (len(names) > MAX_SHOWN)


def head_tensors(names: Iterable[str], heads: Sequence[str]) -> set[str]:
    """Return the names of the tensors in modules that map features to classes."""
    return {name for name in names if name.rpartition(".")[0] in heads}


def match(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], in_heads: set[str]
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors with the expected names and input channels, and a note on what was changed."""
    notes = ""
    first = next((name for name, tensor in expected.items() if tensor.ndim == 4), None)
    if not tensors.keys() & expected.keys():

        def are_alike(name: str, tensor: Tensor) -> bool:
            wanted, shape = list(expected[name].shape), list(tensor.shape)
            ignored = {0} if name in in_heads else {1} if name == first else set()
            return len(wanted) == len(shape) and all(
                dim in ignored or a == b for dim, (a, b) in enumerate(zip(wanted, shape, strict=True))
            )

        for names in (list(expected), [name for name in expected if not name.endswith(COUNTER)]):
            if len(names) == len(tensors) and all(map(are_alike, names, tensors.values())):
                tensors = dict(zip(names, tensors.values(), strict=True))
                notes = ", by their order (the names differ, number and shapes are the same)"
                break
    if first in tensors:
        weight, channels = tensors[first], expected[first].shape[1]
        if weight.ndim == 4 and weight.shape[1] != channels and weight.shape[2:] == expected[first].shape[2:]:
            tensors = tensors | {first: adapt_channels(weight, channels)}
            notes += f", {first} adapted from {weight.shape[1]} to {channels} channels"
    return tensors, notes


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Return convolution filters (out, in, H, W) for another number of input channels, as timm does.

    For one channel they are summed; for others repeated, and scaled to the same sum for equal channels.
    """
    count = weight.shape[1]
    if channels == 1:
        return weight.float().sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels) % count] * (count / channels)


def mismatch(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], ignored: Collection[str] = ()) -> str:
    """Return how names and shapes differ from the expected ones, except for `ignored` names; empty if they do not."""

    def describe(name: str) -> str:
        return f"{name} {tuple((tensors if name in tensors else expected)[name].shape)}"

    missing = [name for name in expected if name not in tensors and not name.endswith(COUNTER)]
    shared = [name for name in expected if name in tensors]
    kinds = {
        "missing": [describe(name) for name in missing if name not in ignored],
        "unexpected": [describe(name) for name in tensors if name not in expected and name not in ignored],
        "of another shape": [
            f"{describe(name)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if tensors[name].shape != expected[name].shape and name not in ignored
        ],
    }
    parts = []
    for kind, names in kinds.items():
        if names:
            parts.append(f"{len(names)} {kind}: {some_of(names)}")
    return "; ".join(parts)
