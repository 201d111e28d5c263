"""Results of src/eval.py: eval.json, a plot of the confusion matrix, a printed table."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from pytorch_intro.analysis.class_metrics import find_class_metrics, most_frequent_error, per_class_scores
from pytorch_intro.analysis.reliability import describe_calibration
from pytorch_intro.common.files import write_atomically
from pytorch_intro.common.text import to_displayable
from pytorch_intro.config.paths import command_line
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.operating_point import OperatingPoint
from pytorch_intro.runs.folder import (
    CONFUSION,
    CONFUSION_EXTERNAL,
    OPERATING_POINT,
    RELIABILITY,
    RELIABILITY_EXTERNAL,
    format_metric,
    shown_metrics,
)
from pytorch_intro.training.result import nan_to_none

MAX_NAME = 60  # characters of a class name in the printed table

KNOWN = ("training", "validation")  # see count_images_of_run

Evaluation = dict[str, Any]


def force_single_device(trainer: DictConfig, given: Sequence[str]) -> None:
    """Change the trainer's settings to test on one device: several devices would count some images twice.

    Args:
        trainer: Trainer settings of the run, modified in place.
        given: Keys set on the command line; trainer.limit_test_batches of the run applies only to its own images.
    """
    devices = trainer.devices
    trainer.devices = [devices[0]] if isinstance(devices, ListConfig) and devices else 1
    trainer.num_nodes, trainer.strategy = 1, "auto"
    if "trainer.threads" not in given:
        trainer.threads = "auto"
    if trainer.limit_val_batches == 0:  # of the training; a threshold may be chosen on validation images
        trainer.limit_val_batches = 1.0
    if trainer.limit_test_batches == 0 or ("data" in given and "trainer.limit_test_batches" not in given):
        trainer.limit_test_batches = 1.0


def summarize_evaluation(
    run: FinishedRun, trainer: Trainer, datamodule: DataModule, point: OperatingPoint | None = None
) -> Evaluation:
    """Return the content of eval.json, after the test; without per-class metrics if there are too many classes."""
    assert datamodule.test_set
    class_metrics = find_class_metrics(trainer).test
    scores = per_class_scores(class_metrics, datamodule.classes) if class_metrics else {}
    images = min(len(datamodule.test_set), int(sum(trainer.num_test_batches)) * datamodule.batch_size)
    metrics = {name: nan_to_none(value.item()) for name, value in trainer.callback_metrics.items()}
    return {
        "run": run.result["name"],
        "data": datamodule.source.name,
        "images": images,
        **{name: value for name, value in metrics.items() if name.startswith("test/")},
        "temperature": run.temperature,
        **(point.summary() if point else {}),
        **scores,
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "command": shlex.join([*command_line("eval"), *HydraConfig.get().overrides.task]),
    }


def record(
    evaluation: Evaluation,
    reliability: Mapping[str, Mapping[str, Tensor]],
    point: OperatingPoint | None,
    folder: Path,
    is_external: bool,
) -> list[Path]:
    """Write eval.json and the figures to the run folder, and return their paths.

    Args:
        reliability: Value of ClassMetrics.reliability.
        point: Operating point, if one was chosen.
        is_external: Whether the images are not those of the run. Then the figures that the model card shows are not
            overwritten.
    """
    from pytorch_intro.analysis.plots import plot_confusion, plot_operating_point, plot_reliability, save

    written = [folder / "eval.json"]
    write_atomically(written[0], json.dumps(evaluation, indent=2) + "\n")
    if "confusion_matrix" in evaluation:
        matrix = torch.tensor(evaluation["confusion_matrix"])
        written.append(folder / (CONFUSION_EXTERNAL if is_external else CONFUSION))
        save(plot_confusion(matrix, list(evaluation["classes"]), evaluation["data"]), written[-1])
    if reliability:
        written.append(folder / (RELIABILITY_EXTERNAL if is_external else RELIABILITY))
        save(plot_reliability(reliability, evaluation["temperature"]), written[-1])
    if point:
        written.append(folder / OPERATING_POINT)
        save(plot_operating_point(*point.evaluated, point.threshold, point.name), written[-1])
    return written


def format_score(score: float | None) -> str:
    """Return a score in percent, or a dash if it is undefined."""
    return "-" if score is None else f"{score:.2%}"


def show(evaluation: Evaluation) -> None:
    """Print the metrics of each class and of all images."""
    classes = [(to_displayable(name, MAX_NAME), scores) for name, scores in evaluation.get("classes", {}).items()]
    further = [name for name in shown_metrics(evaluation) if evaluation[name] is not None]
    width = max(map(len, [*(name for name, _ in classes), "test/accuracy", *further]))
    known = [f"{evaluation[f'{name}_images']:,} {name}" for name in KNOWN if f"{name}_images" in evaluation]
    used = f", {' and '.join(known)} images of the run among them" if known else ""
    print(f"\n{evaluation['run']} on {evaluation['images']:,} images of {to_displayable(evaluation['data'])}{used}")
    if classes:
        print(f"  {'':<{width}}  precision  recall      f1  support")
    for name, scores in classes:
        precision, recall, f1, support = (scores[score] for score in ("precision", "recall", "f1", "support"))
        cells = f"{format_score(precision):>9}{format_score(recall):>8}{format_score(f1):>8}"
        print(f"  {name:<{width}}  {cells}  {support:>7,}")
    print(f"\n  {'test/accuracy':<{width}}  {evaluation['test/accuracy']:.2%}")
    loss = evaluation["test/loss"]
    print(f"  {'test/loss':<{width}}  {'NaN or inf' if loss is None else f'{loss:.4f}'}")
    for name in further:
        print(f"  {name:<{width}}  {format_metric(name, evaluation[name])}")
    print(f"  {'calibration':<{width}}  {describe_calibration(evaluation)}")
    if classes:
        print(f"  {most_frequent_error(evaluation)}")
