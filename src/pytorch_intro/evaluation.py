"""What src/eval.py tells of a run: eval.json, a picture of the confusion matrix, a table."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import DictConfig, ListConfig

from pytorch_intro.atomic import write_atomically
from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.paths import shown_path
from pytorch_intro.result import finite
from pytorch_intro.run_folder import CONFUSION, CONFUSION_OF_OTHERS
from pytorch_intro.scores import scores_of, worst_confusion

Evaluation = dict[str, Any]


def force_single_device(trainer: DictConfig, given: Sequence[str]) -> None:
    """Let one device test, the first of those that trained: several would count some images twice.

    Args:
        trainer: The run's settings, which are changed.
        given: Keys of what the command line says; the run's limit holds for its own images, unless that says otherwise.
    """
    devices = trainer.devices
    trainer.devices = [devices[0]] if isinstance(devices, ListConfig) and devices else 1
    trainer.num_nodes, trainer.strategy = 1, "auto"
    if trainer.limit_test_batches == 0 or ("data" in given and "trainer.limit_test_batches" not in given):
        trainer.limit_test_batches = 1.0


def evaluation_of(run: FinishedRun, trainer: Trainer, datamodule: DataModule) -> Evaluation:
    """The content of eval.json, of a trainer that has tested the run's weights on the data's test images.

    Of more than MOST_CLASSES classes, without what is told of each.
    """
    classifier = cast(Classifier, trainer.lightning_module)
    assert datamodule.test_set
    scores = scores_of(classifier.measured, datamodule.classes) if classifier.measured else {}
    images = min(len(datamodule.test_set), int(sum(trainer.num_test_batches)) * datamodule.batch_size)
    metrics = {name: finite(value.item()) for name, value in trainer.callback_metrics.items()}
    return {
        "run": run.result["name"],
        "data": datamodule.source.name,
        "images": images,
        **{name: value for name, value in metrics.items() if name.startswith("test/")},
        **scores,
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "command": shlex.join(["python", "src/eval.py", *HydraConfig.get().overrides.task]),
    }


def record(evaluation: Evaluation, folder: Path, is_other: bool) -> None:
    """Write eval.json and the confusion matrix into the run's folder, and say so.

    Args:
        is_other: Whether other images than the run's own were scored, of which its model card shows the matrix.
    """
    from pytorch_intro.pictures import save
    from pytorch_intro.report import confusion_of

    written = ["eval.json"]
    if "confusion_matrix" in evaluation:
        matrix = torch.tensor(evaluation["confusion_matrix"])
        written.append(CONFUSION_OF_OTHERS if is_other else CONFUSION)
        save(confusion_of(matrix, list(evaluation["classes"]), evaluation["data"]), folder / written[-1])
    write_atomically(folder / "eval.json", json.dumps(evaluation, indent=2) + "\n")
    print(f"\nwritten: {', '.join(shown_path(folder / name) for name in written)}")


def show(evaluation: Evaluation) -> None:
    """Print the scores of each class and of all."""
    classes = evaluation.get("classes", {})
    width = max(map(len, (*classes, "test/accuracy")))
    print(f"\n{evaluation['run']} on {evaluation['images']:,} images of {evaluation['data']}")
    if classes:
        print(f"  {'':<{width}}  precision  recall      f1  support")
    for name, scores in classes.items():
        precision, recall, f1, support = (scores[score] for score in ("precision", "recall", "f1", "support"))
        print(f"  {name:<{width}}  {precision:>9.2%}{recall:>8.2%}{f1:>8.2%}  {support:>7,}")
    print(f"\n  {'test/accuracy':<{width}}  {evaluation['test/accuracy']:.2%}")
    loss = evaluation["test/loss"]
    print(f"  {'test/loss':<{width}}  {'infinite, or no number' if loss is None else f'{loss:.4f}'}")
    if classes:
        print(f"  {'ece':<{width}}  {evaluation['ece']:.4f}  (how far probabilities are from what they promise)")
        print(f"  {worst_confusion(evaluation)}")
