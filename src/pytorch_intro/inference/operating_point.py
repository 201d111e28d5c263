"""Two classes: from which probability of the positive class on an image counts as positive."""

import logging
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.text import to_displayable
from pytorch_intro.config.validate import check_value
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.inference.decision import Share, check_positive, positive_class, refuse_positive
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.lightning_internals import callbacks

log = logging.getLogger(__name__)


class Goal(NamedTuple):
    """The smallest precision or recall of the class `positive` (0 or 1) that a threshold has to reach."""

    positive: int
    metric: Literal["precision", "recall"]
    minimum: float


def check_goal(config: DictConfig, run: FinishedRun) -> Goal | None:
    """Return the goal of src/eval.py, None if there is none; raise a UserError for an invalid value."""
    settings = {"precision": config.min_precision, "recall": config.min_recall}
    for name, value in settings.items():
        check_value(f"min_{name}", value, Share | None)
    given = check_positive(config, run)
    goals = [(name, float(value)) for name, value in settings.items() if value is not None]
    if not goals:
        refuse_positive(given, "set min_precision or min_recall too, or leave it out")
        return None
    if len(goals) > 1:
        raise UserError(
            f"min_precision={config.min_precision}: one threshold cannot be chosen for min_recall={config.min_recall} "
            "as well; use one of them"
        )
    metric, minimum = goals[0]
    positive = positive_class(given, run, f"min_{metric}={minimum:g}")
    return Goal(positive, metric, minimum)  # type: ignore[arg-type]


class PositiveScores(Callback):
    """Collects the probability of the positive class of each image, and whether it is of that class."""

    def __init__(self, positive: int) -> None:
        self.positive = positive
        self.batches: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        probabilities = (outputs["logits"] / pl_module.temperature).float().softmax(dim=1)
        self.batches.append((probabilities[:, self.positive], outputs["targets"] == self.positive))

    on_validation_batch_end = on_test_batch_end

    def take(self) -> "Scores":
        """Return what was collected, on the CPU, and start again."""
        columns = zip(*self.batches, strict=True) if self.batches else ([torch.empty(0)], [torch.empty(0).bool()])
        self.batches = []
        scores, is_positive = (torch.cat(list(column)).cpu() for column in columns)
        return Scores(scores.double(), is_positive)


class Scores(NamedTuple):
    """Probability of the positive class, (N,) float64, and whether that is the true class, (N,) bool."""

    scores: Tensor
    is_positive: Tensor

    def rates(self, threshold: float) -> tuple[float | None, float | None]:
        """Return precision and recall at a threshold; None where there are no such images."""
        predicted = self.scores >= threshold
        correct = (predicted & self.is_positive).sum().item()
        counts = predicted.sum().item(), self.is_positive.sum().item()
        precision, recall = (correct / count if count else None for count in counts)
        return precision, recall


@dataclass
class OperatingPoint:
    """A threshold with the images that it was chosen on, and those that it is evaluated on.

    Attributes:
        name: Name of the positive class.
        source: Kind of the images in `chosen_on`.
    """

    name: str
    threshold: float
    source: str
    chosen_on: Scores
    evaluated: Scores

    def summary(self) -> dict[str, Any]:
        """Return the entries of eval.json; precision and recall are those of the evaluated images."""
        precision, recall = self.evaluated.rates(self.threshold)
        return {
            "threshold": self.threshold,
            "positive": self.name,
            "threshold_from": self.source,
            "precision_at_threshold": precision,
            "recall_at_threshold": recall,
        }

    def describe(self) -> str:
        """Return the operating point as two lines of text."""

        def text(scores: Scores) -> str:
            rates = zip(("precision", "recall"), scores.rates(self.threshold), strict=True)
            return ", ".join(f"{name} {'undefined' if rate is None else f'{rate:.2%}'}" for name, rate in rates)

        name, count = to_displayable(self.name, 60), f"{len(self.chosen_on.scores):,} {self.source}"
        lines = [f"{name} if its probability is at least {self.threshold}: chosen on {count} ({text(self.chosen_on)})"]
        if self.chosen_on is not self.evaluated:
            lines.append(f"on the {len(self.evaluated.scores):,} evaluated images: {text(self.evaluated)}")
        return "\n".join(f"  {line}" for line in lines)


def choose_threshold(scores: Scores, goal: Goal, name: str, source: str) -> float:
    """Return the threshold that reaches the goal with the best other metric; see Goal.

    Of all numbers between the scores of two images, it is one near the middle with few digits.

    Args:
        name: Name of the positive class.
        source: Kind of the images, for messages.

    Raises:
        UserError: If no threshold reaches the goal.
    """
    key = f"min_{goal.metric}={goal.minimum:g}"
    total = int(scores.is_positive.sum())
    if not total:
        raise UserError(f"{key}: the {len(scores.scores):,} {source} have none of class {name}; use other images")
    values, order = scores.scores.sort(descending=True)
    correct, predicted = scores.is_positive[order].double().cumsum(0), torch.arange(1, len(values) + 1).double()
    is_last = torch.cat([values[1:] != values[:-1], torch.tensor([True])])  # of equal scores
    values, precision, recall = values[is_last], (correct / predicted)[is_last], (correct / total)[is_last]
    wanted, other = (precision, recall) if goal.metric == "precision" else (recall, precision)
    reached = (wanted >= goal.minimum).nonzero().flatten().tolist()
    if not reached:
        best = max(range(len(values)), key=lambda row: (wanted[row].item(), other[row].item()))
        raise UserError(
            f"{key}: not reached on the {len(scores.scores):,} {source}; use at most "
            f"min_precision={math.floor(1e4 * wanted[best].item()) / 1e4:g}, which has a recall of {other[best]:.4f}"
        )
    row = max(reached, key=lambda row: (other[row].item(), wanted[row].item()))
    return short_number_between(values[row + 1].item() if row + 1 < len(values) else 0.0, values[row].item())


def short_number_between(lower: float, upper: float) -> float:
    """Return the middle of two numbers, with as few digits as it needs to be between them; else the upper one."""
    numbers = (round((lower + upper) / 2, digits) for digits in range(1, 17))
    return next((number for number in numbers if lower < number < upper), upper)


def evaluate_with_goal(
    goal: Goal | None,
    run: FinishedRun,
    trainer: Trainer,
    classifier: Classifier,
    data: DataModule,
    own: DataModule | None,
) -> OperatingPoint | None:
    """Test the classifier; with a goal, choose a threshold before that, on validation images if there are any.

    Args:
        data: Images to test on.
        own: The run's own data, whose validation images the threshold is chosen on; None if it is not available.
    """
    if goal is None:
        trainer.test(classifier, data, verbose=False)
        return None
    collected = PositiveScores(goal.positive)
    callbacks(trainer).append(collected)
    name, source = to_display_names(run.inputs["classes"])[goal.positive], "validation images"
    chosen_on = None
    if own is not None and own.val_set is not None:
        trainer.validate(classifier, own, verbose=False)
        chosen_on = collected.take()
        threshold = choose_threshold(chosen_on, goal, name, source)
    trainer.test(classifier, data, verbose=False)
    evaluated = collected.take()
    if chosen_on is None:
        chosen_on, source = evaluated, "evaluated images"
        log.warning("threshold: chosen on the evaluated images, without validation images; expect worse on others")
        threshold = choose_threshold(chosen_on, goal, name, source)
    return OperatingPoint(name, threshold, source, chosen_on, evaluated)
