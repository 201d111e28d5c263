"""Networks of timm (PyTorch Image Models) by name."""

import inspect
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError, check_installed, first_lines
from pytorch_intro.pretrained.network import Choice, PretrainedNetwork, class_arguments, nearest
from pytorch_intro.training.weights import head_tensors, match, mismatch

log = logging.getLogger(__name__)

# Arguments that this class sets, and those that make timm read a file.
RESERVED = {"in_chans", "num_classes", "img_size", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "device"}


class TimmNetwork(PretrainedNetwork):
    """A network of timm, such as resnet50 or resnet50.a1_in1k, whose tag a1_in1k names its weights."""

    @classmethod
    def find(cls, name: str) -> tuple[str, str | None, list[str]]:
        check_installed("model=timm", ["timm"], "photos")
        import timm

        base, _, tag = name.partition(".")
        known = timm.list_models()
        tagged = timm.list_pretrained()
        if base not in known or (tag and name not in tagged):
            names = [other for other in tagged if other.startswith(f"{base}.")] or known
            remedy = nearest(name, names) if name else "use a name such as resnet50, or see timm.list_models()"
            raise UserError(f"model.name={name}: no such network in timm; {remedy}")
        tags = [other.partition(".")[2] for other in tagged if other.partition(".")[0] == base]
        cfg = timm.get_pretrained_cfg(base)
        return base, tag or (cfg.tag if cfg else None), tags

    @classmethod
    def accepted_arguments(cls, name: str) -> set[str]:
        import timm

        with torch.device("meta"):  # the factory of a network does not say what its class takes
            network_class = type(timm.create_model(name))
        return class_arguments(network_class, RESERVED | set(inspect.signature(timm.create_model).parameters))

    @classmethod
    def library_settings(cls, choice: Choice) -> dict[str, Any]:
        import timm
        from timm.data.config import resolve_data_config

        cfg = timm.get_pretrained_cfg(choice.full_name)
        if cfg is None:
            return {}
        values = resolve_data_config(pretrained_cfg=cfg.to_dict())
        _, height, width = values["input_size"]
        settings = {
            "image_size": height if height == width else [height, width],
            "mean": list(values["mean"]),
            "std": list(values["std"]),
            "crop_pct": values["crop_pct"],
        }
        if values["interpolation"] in ("bilinear", "bicubic", "lanczos"):
            settings["interpolation"] = values["interpolation"]
        return settings

    @classmethod
    def library_origin(cls, choice: Choice) -> str:
        import timm

        cfg = timm.get_pretrained_cfg(choice.full_name)
        if cfg is None:
            return f"{choice.full_name} of timm"
        source = f"huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.origin_url or cfg.url
        return f"{choice.full_name} of timm ({source}), license: {cfg.license or 'unknown'}"

    def build(
        self, choice: Choice, image_shape: tuple[int, int, int], num_classes: int, arguments: Mapping[str, Any]
    ) -> nn.Module:
        import timm

        call = {"num_classes": num_classes, **input_arguments(choice, image_shape), **arguments}
        self.library_call = {"library": "timm", "name": choice.full_name, "arguments": call}
        network = timm.create_model(choice.full_name, **call)
        check_patches(network, image_shape, self.name)
        return network

    def download(
        self, choice: Choice, image_shape: tuple[int, int, int], arguments: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the tensors of timm's weights, with position embeddings resampled to the image size."""
        import timm

        name = choice.full_name
        disable_retries_offline()
        try:
            donor = timm.create_model(name, pretrained=True, **input_arguments(choice, image_shape), **arguments)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise self.download_error(choice, error) from error
            settings = ", ".join(f"model.kwargs.{key}={value}" for key, value in arguments.items()) or "model.weights"
            raise UserError(
                f"{settings}: the weights of {name} do not fit ({first_lines(error)[:300]}); leave it out, or use "
                "model.weights=null"
            ) from error
        except Exception as error:  # any kind: of several HTTP libraries
            raise self.download_error(choice, error) from error
        return donor.state_dict()

    def download_error(self, choice: Choice, error: Exception) -> UserError:
        import timm

        cfg = timm.get_pretrained_cfg(choice.full_name)
        where = f"{cfg.hf_hub_id} of the Hugging Face hub" if cfg and cfg.hf_hub_id else (cfg and cfg.url) or "timm"
        reason = first_lines(error).split(". ")[0][:200]
        return UserError(
            f"model.weights={choice.tag}: cannot download {where} ({reason}); connect to the network, or copy its "
            "model.safetensors here and set model.weights=FILE"
        )

    def head_names(self, network: nn.Module) -> list[str]:
        names = getattr(network, "pretrained_cfg", {}).get("classifier") or []
        return [names] if isinstance(names, str) else list(names)

    def convert(
        self,
        tensors: dict[str, Tensor],
        network: nn.Module,
        heads: Sequence[str],
        choice: Choice,
        image_shape: tuple[int, int, int],
        arguments: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Let timm rename tensors and resample position embeddings if they do not fit unchanged."""
        import timm

        expected = network.state_dict()
        in_heads = head_tensors(expected, heads)
        if not mismatch(match(tensors, expected, in_heads)[0], expected, in_heads):
            return tensors
        cfg = timm.get_pretrained_cfg(choice.full_name)
        weight = tensors.get(f"{heads[0]}.weight")
        classes = len(weight) if weight is not None else cfg.num_classes if cfg else 1000
        logging.getLogger("timm.models._builder").setLevel(logging.WARNING)  # load_state logs what is loaded
        overlay = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": 0, "custom_load": False}
        try:
            donor = timm.create_model(
                choice.full_name,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                num_classes=classes,
                **input_arguments(choice, image_shape),
                **arguments,
            )
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError):
            return tensors  # load_state reports what differs
        return donor.state_dict()

    def depths(self) -> dict[str, int]:
        """Return the depth of each parameter of the body, by name, as timm defines it."""
        from timm.models import group_parameters

        matcher = getattr(self.body, "group_matcher", None)
        if matcher is None:
            return super().depths()
        depths = group_parameters(self.body, matcher(coarse=False), reverse=True)
        return {f"body.{name}": depth for name, depth in depths.items()}


def input_arguments(choice: Choice, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the arguments for the image shape; networks with position embeddings are built for one image size."""
    import timm

    channels, *size = image_shape
    cfg = timm.get_pretrained_cfg(choice.full_name)
    is_fixed = cfg is not None and cfg.fixed_input_size
    return {"in_chans": channels} | ({"img_size": tuple(size)} if is_fixed else {})


def disable_retries_offline() -> None:
    """Let huggingface_hub use only its cache if its host is unknown; it would retry each request for a minute."""
    import huggingface_hub
    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname
    if getproxies() or host is None:
        return  # a proxy resolves the name
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        log.info("weights: no connection to %s, using the cache of huggingface_hub only", host)
        constants.HF_HUB_OFFLINE = True
        huggingface_hub.close_session()


def check_patches(network: nn.Module, image_shape: tuple[int, int, int], name: str) -> None:
    """Raise a UserError if the patch size of a vision transformer does not divide the image size."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if not getattr(network, "pretrained_cfg", {}).get("fixed_input_size") or patch is None:
        return
    sides = patch if isinstance(patch, (tuple, list)) else (patch, patch)
    for side, step in zip(image_shape[1:], sides, strict=True):
        if side % step:
            lower, higher = side // step * step, -(-side // step) * step
            sizes = f"{lower} or {higher}" if lower else f"{higher}"
            raise UserError(
                f"data.image_size={side}: {name} divides images into patches of {step} pixels; use "
                f"data.image_size={sizes}"
            )
