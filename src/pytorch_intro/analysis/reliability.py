"""Calibration metrics: expected calibration error (ECE) and negative log-likelihood (NLL)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import Metric

NUM_BINS = 15  # for the calibration error, as in Guo et al. 2017 (arXiv:1706.04599)
CONFIDENCE_SCALE = 2**24  # of the integers that confidences are summed as; a float32 below 1 has 24 bits


class Reliability(Metric):
    """Calibration error and negative log-likelihood, over all images and ranks.

    An update adds to sums of a fixed size, where torchmetrics' MulticlassCalibrationError, which computes the same,
    stores the confidence of every image.
    """

    full_state_update = False
    num_samples: Tensor
    num_correct: Tensor
    confidence_sum: Tensor
    loss_sum: Tensor
    bin_edges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bin_edges", torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float32), persistent=False)
        # Integers: a float32 sum of a million numbers is off by percents. The last bin is for a confidence of 1.
        for name in ("num_samples", "num_correct", "confidence_sum"):
            self.add_state(name, torch.zeros(NUM_BINS + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss_sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits (N, num_classes) float, targets (N,) int64."""
        logits = logits.float()
        confidences, predicted = logits.softmax(dim=1).max(dim=1)
        bins = torch.bucketize(confidences, self.bin_edges, right=True) - 1
        self.num_samples.index_add_(0, bins, torch.ones_like(targets))
        self.num_correct.index_add_(0, bins, (predicted == targets).long())
        self.confidence_sum.index_add_(0, bins, (confidences * CONFIDENCE_SCALE).long())
        self.loss_sum.add_(cross_entropy(logits, targets, reduction="sum"))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all images.

        Returns:
            ece: () float32, expected calibration error.
            nll: () float32, mean negative log-likelihood.
            num_samples, num_correct, confidence_sum: (NUM_BINS + 1,), of each bin of confidence.
        """
        total = self.num_samples.sum()
        confidence_sum = self.confidence_sum.float() / CONFIDENCE_SCALE
        return {
            "ece": (self.num_correct - confidence_sum).abs().sum() / total,
            "nll": self.loss_sum / total,
            "num_samples": self.num_samples,
            "num_correct": self.num_correct,
            "confidence_sum": confidence_sum,
        }


def describe_calibration(metrics: Mapping[str, Any]) -> str:
    """Return the calibration in one line, from temperature, test/ece, …; "" if it was not measured.

    Example:
        temperature 0.612, ECE 0.0093 (0.0890 without), NLL 0.2012 (0.2745 without)
    """
    if metrics.get("test/ece") is None:
        return ""
    is_calibrated = metrics["temperature"] != 1
    parts = [f"temperature {metrics['temperature']:.3g}"] if is_calibrated else []
    for name in ("ece", "nll"):
        before = metrics[f"test/{name}_uncalibrated"]
        without = f" ({before:.4f} without)" if is_calibrated and before is not None else ""
        value = metrics[f"test/{name}"]
        parts.append(f"{name.upper()} {'NaN or inf' if value is None else f'{value:.4f}'}{without}")
    return ", ".join(parts)
