"""The logits of the LightningModule, with and without test-time augmentation."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pytorch_intro.models.cnn import CNN
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.tta import tta_logits


@pytest.mark.parametrize("tta_flip", [False, True])
@pytest.mark.parametrize("tta_shift", [0, 1, 2])
def test_logits_are_averaged_over_all_views_of_an_image(tta_flip: bool, tta_shift: int) -> None:
    """Views: the image itself first, every shift with replicated border, and the horizontal flip of each."""
    torch.manual_seed(0)
    network = CNN((1, 12, 12), 10, width=4, poolings=2).eval()
    classifier = Classifier(network, 10, None, None, tta_flip=tta_flip, tta_shift=tta_shift).eval()  # type: ignore[arg-type]
    images = torch.rand(3, 1, 12, 12)
    views = []
    for top, left in itertools.product(range(2 * tta_shift + 1), repeat=2):
        shifted = pad(images, [tta_shift] * 4, mode="replicate")[..., top : top + 12, left : left + 12]
        views += [shifted, shifted.flip(-1)] if tta_flip else [shifted]
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), torch.stack([network(view) for view in views]).mean(dim=0))
        assert classifier.tta_logits(images).shape == (len(views), 3, 10)
        torch.testing.assert_close(classifier.tta_logits(images)[0], network(images))
        torch.testing.assert_close(classifier.train()(images), network(images))


def test_the_views_are_kept_if_each_call_of_the_network_overwrites_its_output() -> None:
    """As with compile=reduce-overhead, where CUDA graphs write each output to the same memory."""
    output = torch.empty(4, 10)

    class Graph(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return output.copy_(images.flatten(1)[:, :10])

    images = torch.rand(4, 1, 8, 8)
    logits = tta_logits(Graph(), images, flip=True, shift=0)
    assert torch.equal(logits[0], images.flatten(1)[:, :10])
    assert torch.equal(logits[1], images.flip(-1).flatten(1)[:, :10])
