"""Batch norms folded into the convolutions before them, so that a forward pass reads and writes less memory."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 0.01  # of the norm of the output; bfloat16 deviates by more


@torch.no_grad()
def fold_batch_norms(network: nn.Module, image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """Return a copy whose convolutions also scale and shift their output as the batch norms after them do.

    Both are constant in evaluation mode. A forward pass of random images shows which batch norm follows which
    convolution, and a second one checks the copy, since the output of a convolution may have other uses, and its
    weight may be computed from the parameter.
    Activations within a batch norm, as in those of timm, are kept.

    Args:
        network: Network in evaluation mode.
        image_shape: (C, H, W).

    Returns:
        The copy, or the network itself if no batch norm can be folded; and the number of folded batch norms.
    """
    images = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(next(network.parameters()))
    expected, pairs = find_pairs(network, images)
    if not pairs:
        return network, 0
    folded = copy.deepcopy(network)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))  # type: ignore[arg-type, type-var]
        folded.set_submodule(norm_name, nn.Sequential(*norm.children()))
    is_same = (folded(images) - expected).norm() < TOLERANCE * expected.norm()
    return (folded, len(pairs)) if is_same else (network, 0)


def find_pairs(network: nn.Module, images: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """Return the network's output, and the names of each convolution and the batch norm that receives its output."""
    calls: list[tuple[str, Any, Tensor, Tensor]] = []

    def record(name: str) -> Any:
        return lambda module, inputs, output: calls.append((name, module, inputs[0], output))

    hooks = [
        module.register_forward_hook(record(name))
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, _BatchNorm))
    ]
    try:
        output = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for name, *_ in calls]
    pairs = [
        (conv_name, norm_name)
        for conv_name, conv, _, result in calls
        for norm_name, norm, received, _ in calls
        if received is result and isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm)
        if isinstance(conv.weight, nn.Parameter) and norm.running_mean is not None  # else computed in each pass
        if names.count(conv_name) == names.count(norm_name) == 1
    ]
    return output, pairs
