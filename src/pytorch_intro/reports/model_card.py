"""The model card, README.md in the run folder: model, data, metrics, and how to use it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import lightning
import torch
import torchvision
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from pytorch_intro.analysis import class_metrics
from pytorch_intro.analysis.markdown import escape_cell, markdown_table
from pytorch_intro.analysis.reliability import describe_calibration
from pytorch_intro.common.files import write_atomically
from pytorch_intro.config.paths import with_commands
from pytorch_intro.data.datamodule import DataModule, datamodule_of
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.runs.folder import REPORT, Result, RunFolder, format_metric, shown_metrics
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.monitors import chosen_metrics

MAX_CLASSES = 100  # names in the card
USAGE = """\
## Use it

In the project that trained it, where `DIR` is the path of this folder:

```bash
python src/predict.py run=DIR images=PATH   # classify an image, a folder or a glob
python src/serve.py run=DIR                 # a web page and a REST API
python src/eval.py run=DIR                  # precision and recall of each class, confusion matrix
python src/export.py run=DIR                # ONNX and .pt2, which run without the project
```

```python
from pytorch_intro import load_run

network, classes, transforms = load_run("DIR")
```
"""


class ModelCard(Callback):
    """Writes the model card when the result is known.

    Args:
        run_dir: Run folder.
    """

    def __init__(self, run_dir: str) -> None:
        self.run = RunFolder(run_dir)

    def on_result(self, trainer: Trainer, result: Result) -> None:
        write_atomically(self.run.path / "README.md", model_card(self.run, trainer, result))


def model_card(run: RunFolder, trainer: Trainer, result: Result) -> str:
    """Return the model card as Markdown, with the front matter of the Hugging Face Hub."""
    datamodule = datamodule_of(trainer)
    channels, height, width = datamodule.image_shape
    color = {1: "gray", 3: "RGB"}.get(channels, f"{channels}-channel")
    config = load_config(run.config_file)
    model = config.model
    network = model["_target_"].rpartition(".")[2]
    if model.get("name"):
        network = f"{model.name} ({network})"
    rows = {"input": describe_input(datamodule), "started from": first_weights(trainer, model)}
    table = markdown_table(["", ""], (rows | card_rows(trainer, result)).items())
    figures = [name for name in REPORT if (run.path / name).exists()]
    images = "".join(f"![{Path(name).stem.replace('_', ' ')}]({name})\n\n" for name in figures)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, lightning {lightning.__version__}"
    return f"""\
---
{yaml.safe_dump(front_matter(result, datamodule.source.name, chosen_metrics(config)), sort_keys=False).strip()}
---

# {result["name"]}

A {network} of {result["parameters"]:,} parameters that classifies {color} images of {height} x {width} pixels as:
{escape_cell(list_classes(datamodule.classes))}.

{table}

{images}{with_commands(USAGE)}
## How it was trained

```bash
{result["command"]}
```

At commit {result["git_commit"] or "unknown"}, with {versions}. The whole config is in `config.yaml`.
"""


def list_classes(classes: Sequence[str]) -> str:
    """Return the names of the classes, at most MAX_CLASSES of them."""
    rest = len(classes) - MAX_CLASSES
    return ", ".join(classes[:MAX_CLASSES]) + (f" and {rest:,} more, see checkpoints/best.ckpt" if rest > 0 else "")


def format_percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"


def card_rows(trainer: Trainer, result: Result) -> dict[str, str]:
    """Return the rows of the card's table."""
    datamodule, metrics = datamodule_of(trainer), class_metrics.find_class_metrics(trainer).test
    scores = class_metrics.per_class_scores(metrics, datamodule.classes) if metrics else None
    splits = {"training": datamodule.train_set, "validation": datamodule.val_set, "test": datamodule.test_set}
    data = ", ".join(f"{len(split):,} {name}" for name, split in splits.items() if split)
    epochs = f"{result['epochs']} epoch{'s' * (result['epochs'] != 1)}"
    weights = f"`checkpoints/best.ckpt`, of epoch {result['best_epoch'] or '0, before the first'}"
    if trainer.checkpoint_callback is None:
        weights = "not saved, because the run had no checkpoints"
    return {
        "data": f"{datamodule.source.name}: {data} images",
        "test accuracy": format_percent(result["test/accuracy"]),
        "validation accuracy": format_percent(result["val/accuracy"]),
        **{name: format_metric(name, result[name]) for name in shown_metrics(result) if result[name] is not None},
        "calibration": describe_calibration(result) or "not measured",
        "confusion": class_metrics.most_frequent_error(scores) if scores else "not measured",
        "trained": f"{epochs}, {result['train_seconds']:.0f} s on {result['device']}",
        "weights": weights,
    }


def describe_input(datamodule: DataModule) -> str:
    """Return how a picture becomes the network's input."""
    reader, crop_pct = datamodule.source.reader, datamodule.center_crop.crop_pct
    stored, size = (
        " x ".join(map(str, shape[1:])) for shape in (datamodule.train_set.dataset.image_shape, datamodule.image_shape)
    )
    text = f"resized to {stored} pixels ({reader.resize}, {reader.interpolation})"
    return text if stored == size else f"{text}, of which the center, {crop_pct:.3g} of height and width, as {size}"


def first_weights(trainer: Trainer, model: DictConfig) -> str:
    """Return the source of the weights that the training started from, with their license where it is known."""
    assert isinstance(trainer.lightning_module, Classifier)
    origin: str | None = getattr(trainer.lightning_module.network, "origin", model.get("weights"))
    return origin or "random weights"


def front_matter(result: Result, dataset: str, metrics: Iterable[str]) -> dict[str, object]:
    """Return the model's metadata as described in huggingface.co/docs/hub/model-cards.

    Args:
        metrics: Names of the chosen metrics besides accuracy.
    """
    measured = {name: result.get(f"test/{name}") for name in ("accuracy", *metrics)}
    metadata: dict[str, object] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "lightning"],
        "metrics": list(measured),
    }
    if result["test/accuracy"] is not None:
        score = {
            "task": {"type": "image-classification"},
            "dataset": {"name": dataset, "type": dataset, "split": "test"},
            "metrics": [{"type": name, "value": value} for name, value in measured.items() if value is not None],
        }
        metadata["model-index"] = [{"name": result["name"], "results": [score]}]
    return metadata
