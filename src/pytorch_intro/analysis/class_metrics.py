"""Metrics of each class, and the most confident errors, collected by a callback.

Training does not depend on this module: without the callback, nothing here is computed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.analysis.reliability import Reliability, describe_calibration
from pytorch_intro.common.distributed import all_gather_object
from pytorch_intro.data.datamodule import datamodule_of
from pytorch_intro.data.dataset import Batch
from pytorch_intro.training.lightning_internals import callbacks

MAX_CLASSES = 2000  # the confusion matrix of more classes would take too much memory
NUM_THRESHOLDS = 127  # for the precision-recall curves, as many as TensorBoard plots
NUM_ERRORS = 32

Scores = dict[str, Any]


class PerClassMetrics(Reliability):
    """Confusion matrix, calibration error and precision-recall curves, over all images and ranks.

    torchmetrics computes the same (the tests compare), at a higher cost. MulticlassConfusionMatrix and the binned
    MulticlassPrecisionRecallCurve call torch.bincount, which waits for the GPU; on mps, and with deterministic
    algorithms, they compare all elements with all bins instead: 26 GB for 512 images of 10 classes. Here an update adds
    to sums of a fixed size.
    """

    confusion: Tensor
    histogram: Tensor
    thresholds: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("thresholds", torch.linspace(0, 1, NUM_THRESHOLDS, dtype=torch.float32), persistent=False)
        for name, size in (("confusion", num_classes**2), ("histogram", num_classes * 2 * NUM_THRESHOLDS)):
            self.add_state(name, torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits (N, num_classes) float, targets (N,) int64."""
        super().update(logits, targets)
        probabilities = logits.float().softmax(dim=1)
        predicted = probabilities.argmax(dim=1)
        self.confusion.index_add_(0, targets * self.num_classes + predicted, torch.ones_like(targets))
        classes = torch.arange(self.num_classes, device=targets.device)
        rows = 2 * classes + (classes == targets[:, None]).long()
        columns = torch.bucketize(probabilities, self.thresholds, right=True) - 1
        cells = (rows * NUM_THRESHOLDS + columns).flatten()
        self.histogram.index_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all images: those of Reliability, and two more.

        Returns:
            confusion_matrix: (num_classes, num_classes) int64; rows are true classes, columns predicted ones.
            positives: (num_classes, 2, NUM_THRESHOLDS) int64; false and true positives of each class at each threshold.
        """
        histogram = self.histogram.view(self.num_classes, 2, NUM_THRESHOLDS)
        return {
            **super().compute(),
            "confusion_matrix": self.confusion.view(self.num_classes, self.num_classes),
            "positives": histogram.flip(-1).cumsum(-1).flip(-1),
        }


class TopErrors:
    """The NUM_ERRORS wrong predictions with the highest probability, over all images and ranks.

    A torchmetrics Metric does not fit: it cannot gather images from a rank that had no batch, and it squeezes results
    of one element.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] = {}

    def update(self, images: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: images (N, C, H, W), logits (N, num_classes) float, targets (N,) int64."""
        confidences, predicted = logits.float().softmax(dim=1).max(dim=1)
        confidences = confidences.where(predicted != targets, -1.0)  # rank correct predictions below all errors
        batch = {"confidences": confidences, "predicted": predicted, "targets": targets, "images": images}
        self.rows = top_rows([self.rows, top_rows([batch])])

    def compute(self) -> dict[str, Tensor]:
        """Return the errors of all ranks, the most confident first, on the CPU; nothing if no rank had a batch.

        Returns:
            confidences: (K,) float32, probability of the wrong class.
            predicted, targets: (K,) int64.
            images: (K, C, H, W), as the network saw them.
        """
        rows = top_rows(all_gather_object({name: values.cpu() for name, values in self.rows.items()}))
        return {name: values[rows["confidences"] >= 0] for name, values in rows.items()}


def top_rows(tables: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the NUM_ERRORS rows of the highest confidence, in that order, out of tables of which some may be empty."""
    tables = [table for table in tables if table]
    if not tables:
        return {}
    merged = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
    order = merged["confidences"].topk(min(NUM_ERRORS, len(merged["confidences"]))).indices
    return {name: values[order] for name, values in merged.items()}


class ClassMetrics(Callback):
    """Collects per-class metrics of each validation and test, and the most confident errors of each test.

    The metrics of a test, and the errors, are those of the logits divided by the classifier's temperature. The
    calibration error and the negative log-likelihood with and without it are logged.

    Attributes:
        val, test: Metrics of the last validation and test, as PerClassMetrics.compute returns them; None if there was
            none, or with more than MAX_CLASSES classes.
        errors: Errors of the last test, as TopErrors.compute returns them; None if there was no test.
        reliability: Metrics of the last test with and without the temperature, as Reliability.compute returns them;
            empty if there was no test.
    """

    def __init__(self) -> None:
        self.val: dict[str, Tensor] | None = None
        self.test: dict[str, Tensor] | None = None
        self.errors: dict[str, Tensor] | None = None
        self.reliability: dict[str, dict[str, Tensor]] = {}
        self.per_class: PerClassMetrics | None = None
        self.top_errors = TopErrors()
        self.with_temperature, self.without = Reliability(), Reliability()

    def start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        num_classes = len(datamodule_of(trainer).classes)
        self.per_class = PerClassMetrics(num_classes).to(pl_module.device) if num_classes <= MAX_CLASSES else None
        self.top_errors = TopErrors()
        self.with_temperature, self.without = (Reliability().to(pl_module.device) for _ in range(2))

    on_validation_epoch_start = on_test_epoch_start = start

    def compute(self) -> dict[str, Tensor] | None:
        """Return the per-class metrics of all ranks; every rank has to call this."""
        if self.per_class is None:
            return None
        shape = 2 * [self.per_class.num_classes]
        metrics = self.per_class.compute()
        return {**metrics, "confusion_matrix": metrics["confusion_matrix"].view(shape)}  # a Metric squeezes one element

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        logits, targets = outputs["logits"], outputs["targets"]
        if trainer.testing:
            self.without.update(logits, targets)
            logits = logits / pl_module.temperature
            self.with_temperature.update(logits, targets)
            self.top_errors.update(batch[0], logits, targets)
        if self.per_class:
            self.per_class.update(logits, targets)

    on_validation_batch_end = on_test_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val = self.compute()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.test = self.compute()
        self.errors = self.top_errors.compute()
        self.reliability = {"": self.with_temperature.compute(), "_uncalibrated": self.without.compute()}
        for suffix, metrics in self.reliability.items():
            values = {f"test/{name}{suffix}": metrics[name] for name in ("ece", "nll")}
            pl_module.log_dict(values, on_step=False, on_epoch=True, sync_dist=True)

    def on_result(self, trainer: Trainer, result: dict[str, Any]) -> dict[str, str]:
        """Return rows for the printed table: calibration, and the pairs of classes that were confused most often."""
        rows = {"calibration": describe_calibration(result)}
        if self.test is not None:
            scores = per_class_scores(self.test, datamodule_of(trainer).classes)
            rows["confused"] = "\n".join(most_confused_pairs(scores, 3))
        return rows


def find_class_metrics(trainer: Trainer) -> ClassMetrics:
    """Return the trainer's ClassMetrics, or an empty one if it has none."""
    return next((callback for callback in callbacks(trainer) if isinstance(callback, ClassMetrics)), ClassMetrics())


def per_class_scores(metrics: dict[str, Tensor], classes: Sequence[str]) -> Scores:
    """Return precision, recall and F1 of each class as plain values.

    Args:
        metrics: Result of PerClassMetrics.compute.
        classes: Names of the classes; see to_display_names.

    Returns:
        ece: Expected calibration error over NUM_BINS bins.
        classes: Precision, recall, f1 (0 to 1) and support (images) of each class, by name. Recall and f1 of a class
            without images are None, and so is its precision if no image was taken for it.
        confusion_matrix: Images by true class (rows) and predicted class (columns).
    """
    matrix = metrics["confusion_matrix"].cpu()
    correct, support, predicted = matrix.diagonal().double(), matrix.sum(dim=1), matrix.sum(dim=0)
    columns = {
        "precision": correct / predicted.clamp(1),
        "recall": correct / support.clamp(1),
        "f1": 2 * correct / (support + predicted).clamp(1),
        "support": support,
    }
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    scores = [dict(zip(columns, row, strict=True)) for row in rows]
    for of_class, count in zip(scores, predicted.tolist(), strict=True):
        if not of_class["support"]:
            of_class |= {"recall": None, "f1": None} | ({} if count else {"precision": None})
    return {
        "ece": metrics["ece"].item(),
        "classes": dict(zip(to_display_names(classes), scores, strict=True)),
        "confusion_matrix": matrix.tolist(),
    }


def most_confused_pairs(scores: Scores, count: int) -> list[str]:
    """Return the pairs of classes that are confused most often, in either direction, one line per pair."""
    names, matrix = list(scores["classes"]), torch.tensor(scores["confusion_matrix"])
    support = matrix.sum(dim=1)
    both = (matrix + matrix.T).triu(diagonal=1)
    lines = []
    for index in both.flatten().argsort(descending=True, stable=True)[:count].tolist():
        a, b = divmod(index, len(names))
        if both[a, b]:
            lines.append(f"{names[a]} and {names[b]}: {both[a, b]:,} of {support[a] + support[b]:,}")
    return lines


def most_frequent_error(scores: Scores) -> str:
    """Return the most frequent error in one line."""
    names, matrix = list(scores["classes"]), torch.tensor(scores["confusion_matrix"])
    support = matrix.sum(dim=1)
    errors = matrix.fill_diagonal_(0)
    row, column = divmod(int(errors.argmax()), len(names))
    if not errors[row, column]:
        return "no image was mistaken for another class"
    return f"most often, {names[row]} is taken for {names[column]}: {errors[row, column]:,} of {support[row]:,}"
