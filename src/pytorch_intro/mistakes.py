"""The images of a test that were mistaken with the greatest confidence."""

import torch
from torch import Tensor
from torchmetrics import Metric

KEPT = 32


class ConfidentMistakes(Metric):
    """Keeps, of all images and over all processes, those whose wrong class was given the highest probability.

    As many as that, and no more: it does not grow with the number of images, and no step waits for it.
    """

    full_state_update = False
    confidences: list[Tensor]
    predicted: list[Tensor]
    targets: list[Tensor]
    images: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("confidences", "predicted", "targets", "images"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, images: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            images: (N, C, H, W).
            logits: (N, num_classes).
            targets: (N,) int64.
        """
        confidences, predicted = logits.float().softmax(dim=1).max(dim=1)
        confidences = confidences.where(predicted != targets, -1.0)  # not mistaken: below all others
        best = confidences.topk(min(KEPT, len(targets))).indices
        batch = {"confidences": confidences, "predicted": predicted, "targets": targets, "images": images}
        kept = {name: torch.cat([*getattr(self, name), values[best]]) for name, values in batch.items()}
        best = kept["confidences"].topk(min(KEPT, len(kept["confidences"]))).indices
        for name, values in kept.items():
            setattr(self, name, [values[best]])

    def compute(self) -> dict[str, Tensor]:
        """Up to 32 mistakes, the most confident first.

        Returns:
            confidences: (K,) float32, the probability of the wrong class.
            predicted, targets: (K,) int64.
            images: (K, C, H, W), as the network was shown them.
        """
        names = ("confidences", "predicted", "targets", "images")
        kept = {name: state if isinstance(state := getattr(self, name), Tensor) else torch.cat(state) for name in names}
        order = kept["confidences"].argsort(descending=True)[:KEPT]
        order = order[kept["confidences"][order] >= 0]
        return {name: values[order] for name, values in kept.items()}
