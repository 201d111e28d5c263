"""What src/eval.py tells of a run: eval.json, a picture of the confusion matrix, a table."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer

from pytorch_intro.datamodule import DataModule
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.result import finite
from pytorch_intro.run_folder import write_atomically
from pytorch_intro.scores import scores_of, worst_confusion

Evaluation = dict[str, Any]


def evaluation_of(run: FinishedRun, trainer: Trainer, datamodule: DataModule) -> Evaluation:
    """The content of eval.json, of a trainer that has tested the run's weights on the data's test images."""
    classifier: Any = trainer.lightning_module
    scores = scores_of(classifier.test_scores, datamodule.classes)
    assert scores is not None
    metrics = {name: finite(value.item()) for name, value in trainer.callback_metrics.items()}
    return {
        "run": run.result["name"],
        "data": datamodule.source.name,
        "images": sum(map(sum, scores["confusion_matrix"])),
        **{name: value for name, value in metrics.items() if name.startswith("test/")},
        **scores,
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "command": shlex.join(["python", "src/eval.py", *HydraConfig.get().overrides.task]),
    }


def record(evaluation: Evaluation, folder: Path) -> None:
    """Write eval.json and confusion_matrix.png into the run's folder."""
    from pytorch_intro.pictures import draw_confusion_matrix

    draw_confusion_matrix(evaluation["confusion_matrix"], list(evaluation["classes"]), folder / "confusion_matrix.png")
    write_atomically(folder / "eval.json", json.dumps(evaluation, indent=2) + "\n")


def show(evaluation: Evaluation, run: FinishedRun) -> None:
    """Print the scores of each class and of all, and where they lie."""
    classes = evaluation["classes"]
    width = max(map(len, (*classes, "test/accuracy")))
    print(f"\n{evaluation['run']} on {evaluation['images']:,} images of {evaluation['data']}")
    print(f"  {'':<{width}}  precision  recall      f1  support")
    for name, scores in classes.items():
        precision, recall, f1, support = (scores[score] for score in ("precision", "recall", "f1", "support"))
        print(f"  {name:<{width}}  {precision:>9.2%}{recall:>8.2%}{f1:>8.2%}  {support:>7,}")
    print(f"\n  {'test/accuracy':<{width}}  {evaluation['test/accuracy']:.2%}")
    print(f"  {'test/loss':<{width}}  {evaluation['test/loss']:.4f}")
    print(f"  {'ece':<{width}}  {evaluation['ece']:.4f}  (how far probabilities are from what they promise)")
    print(f"  {worst_confusion(evaluation)}")
    folder = os.path.relpath(run.path)
    print(f"\nwritten: {folder}/eval.json, {folder}/confusion_matrix.png")
