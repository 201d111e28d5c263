"""The README.md of a run's folder: what was trained, on what, how well it does, and how to use it."""

from pathlib import Path

import lightning
import torch
import torchvision
import yaml
from omegaconf import DictConfig

from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.run_folder import REPORT, Result
from pytorch_intro.scores import scores_of, worst_confusion
from pytorch_intro.tables import escape_cell, markdown_table

USE = """\
## Use it

In the project that made it, with the path of this folder in the place of `DIR`:

```bash
python src/predict.py run=DIR images=PATH   # what is in a picture, a folder of them, a glob
python src/eval.py run=DIR                  # every class's precision and recall, the confusion matrix
python src/export.py run=DIR                # ONNX and .pt2, which need nothing of the project
```

```python
from pytorch_intro import load_run

network, classes, transforms = load_run("DIR")
```
"""


def model_card(config: DictConfig, result: Result, classifier: Classifier, datamodule: DataModule) -> str:
    """Markdown with a front matter as the Hugging Face Hub reads it, of a run whose test is done."""
    channels, height, width = datamodule.image_shape
    kind = {1: "gray", 3: "RGB"}.get(channels, f"{channels}-channel")
    network = config.model["_target_"].rpartition(".")[2]
    rows = facts(result, classifier, datamodule)
    table = markdown_table(["", ""], rows.items())
    there = [name for name in REPORT if Path(config.run_dir, name).exists()]
    pictures = "".join(f"![{Path(name).stem.replace('_', ' ')}]({name})\n\n" for name in there)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, lightning {lightning.__version__}"
    return f"""\
---
{yaml.safe_dump(front_matter(result, datamodule.source.name), sort_keys=False).strip()}
---

# {result["name"]}

A {network} of {result["parameters"]:,} parameters that tells apart, in {kind} images of {height} x {width} pixels:
{escape_cell(", ".join(datamodule.classes))}.

{table}

{pictures}{USE}
## How it was made

```bash
{result["command"]}
```

At commit {result["git_commit"] or "unknown"}, with {versions}. The whole config is in `config.yaml`.
"""


def percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"


def facts(result: Result, classifier: Classifier, datamodule: DataModule) -> dict[str, str]:
    """What the table tells, row by row."""
    scores = classifier.measured and scores_of(classifier.measured, datamodule.classes)
    parts = {"training": datamodule.train_set, "validation": datamodule.val_set, "test": datamodule.test_set}
    data = ", ".join(f"{len(part):,} {name}" for name, part in parts.items() if part)
    epochs = f"{result['epochs']} epoch{'s' * (result['epochs'] != 1)}"
    weights = f"`checkpoints/best.ckpt`, of epoch {result['best_epoch']}"
    if classifier.trainer.checkpoint_callback is None:
        weights = "not kept: the run was trained without checkpoints, and cannot be used"
    return {
        "data": f"{datamodule.source.name}: {data} images",
        "test accuracy": percent(result["test/accuracy"]),
        "validation accuracy": percent(result["val/accuracy"]),
        "expected calibration error": f"{scores['ece']:.4f}" if scores else "not measured",
        "confusion": worst_confusion(scores) if scores else "not measured",
        "trained": f"{epochs}, {result['train_seconds']:.0f} s on {result['device']}",
        "weights": weights,
    }


def front_matter(result: Result, dataset: str) -> dict[str, object]:
    """The model's metadata, as huggingface.co/docs/hub/model-cards has it."""
    about: dict[str, object] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "lightning"],
        "metrics": ["accuracy"],
    }
    if result["test/accuracy"] is not None:
        score = {
            "task": {"type": "image-classification"},
            "dataset": {"name": dataset, "type": dataset, "split": "test"},
            "metrics": [{"type": "accuracy", "value": result["test/accuracy"]}],
        }
        about["model-index"] = [{"name": result["name"], "results": [score]}]
    return about
