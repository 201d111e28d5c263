"""Batch norms folded into convolutions: the same output, or the network as it is."""

import pytest
import timm
import torch
import torchvision
from timm.layers.std_conv import StdConv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pytorch_intro.pretrained.batchnorm_folding import fold_batch_norms

SHAPE = (3, 64, 64)


def with_statistics(network: nn.Module) -> nn.Module:
    """Return the network in evaluation mode, with batch norms that are not the identity."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval().to(memory_format=torch.channels_last)


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


@pytest.mark.parametrize(
    ("library", "name", "left"),
    [
        (timm.create_model, "test_efficientnet", 0),  # batch norms with an activation
        (timm.create_model, "resnet18", 0),
        (timm.create_model, "resnetv2_50", 17),  # those before the first convolution of a block
        (timm.create_model, "convnext_atto", 0),  # has none
        (torchvision.models.get_model, "mobilenet_v2", 0),
        (torchvision.models.get_model, "shufflenet_v2_x0_5", 0),
    ],
)
def test_a_folded_network_has_the_same_output_without_batch_norms(library: object, name: str, left: int) -> None:
    """The network itself keeps its batch norms, and convolutions keep the memory format."""
    network = with_statistics(library(name))  # type: ignore[operator]
    before, count = {key: value.clone() for key, value in network.state_dict().items()}, batch_norms(network)
    folded, number = fold_batch_norms(network, SHAPE)
    assert (number, batch_norms(folded)) == (count - left, left)
    images = torch.randn(3, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(folded(images), network(images), rtol=1e-3, atol=1e-4)
    assert batch_norms(network) == count
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for module in folded.modules():
        assert not isinstance(module, nn.Conv2d) or module.weight.is_contiguous(memory_format=torch.channels_last)


class OneBlock(nn.Module):
    """A convolution and a batch norm; subclasses use them in unusual ways."""

    def __init__(self, track_running_stats: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, track_running_stats=track_running_stats)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images))


class OtherUse(OneBlock):
    def forward(self, images: Tensor) -> Tensor:
        images = self.conv(images)
        return self.norm(images) + images


class TwoUses(OneBlock):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(images)))


class ParametrizedWeight(OneBlock):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.conv)


class StandardizedWeight(OneBlock):
    def __init__(self) -> None:
        super().__init__()
        self.conv = StdConv2d(3, 3, 3, padding=1)


def test_a_batch_norm_after_a_convolution_is_folded() -> None:
    """The other networks of this kind are not."""
    assert fold_batch_norms(with_statistics(OneBlock()), SHAPE)[1] == 1


@pytest.mark.parametrize(
    "network",
    [OtherUse(), TwoUses(), ParametrizedWeight(), StandardizedWeight(), OneBlock(track_running_stats=False)],
)
def test_a_network_that_would_change_is_returned_as_it_is(network: nn.Module) -> None:
    """The output of the convolution or the batch norm has another use; the weight or the statistics are computed."""
    assert fold_batch_norms(with_statistics(network), SHAPE) == (network, 0)
