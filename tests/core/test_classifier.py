"""The logits of the LightningModule, with and without test-time augmentation."""

import itertools

import pytest
import torch
from torch.nn.functional import pad

from pytorch_intro.models.cnn import CNN
from pytorch_intro.training.classifier import Classifier


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
