"""A finished run as a model repository of the Hugging Face hub: write its files, show them, ask and upload them."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.analysis.markdown import escape_cell, markdown_table
from pytorch_intro.common.errors import UserError, check_installed
from pytorch_intro.inference.export import LABELS, describe
from pytorch_intro.inference.finished_run import WEIGHTS, FinishedRun
from pytorch_intro.inference.formats import save_weights
from pytorch_intro.inference.load import LoadedRun, hub_package, load_from
from pytorch_intro.runs.config_record import CONFIG, PARTS
from pytorch_intro.runs.folder import format_metric, shown_metrics

UNUSED = ("callbacks", "logger")  # they name folders and servers
CROP_MODES = {"crop": "center", "pad": "border", "stretch": "squash"}  # of data.resize, as timm calls them


def check_push(name: str, answer_yes: bool) -> None:
    """Raise a UserError if an upload to this repository cannot start."""
    if not answer_yes and not sys.stdin.isatty():
        raise UserError(f"push={name}: asks before it uploads, but this is no terminal; add yes=true")
    hub_package(f"push={name}").check_name(name)
    check_installed(f"push={name}", ["safetensors"], "hub")


def push_run(run: FinishedRun, loaded: LoadedRun, folder: Path, name: str, private: bool, answer_yes: bool) -> None:
    """Write the repository into a folder, compare it with the run, show its files, ask and upload them."""
    write_repository(run, loaded, folder, name)
    compare(run, loaded, folder, name)
    hub = hub_package(f"push={name}")
    print(f"repository: {name} ({hub.describe_repository(name, private)})")
    for file in sorted(folder.iterdir()):
        print(f"  {file.name:<18}{file.stat().st_size / 1e3:>12,.1f} kB")
    if not answer_yes and not confirmed("Upload these files? [y/N] "):
        print("nothing was uploaded")
        return
    print(f"uploaded: {hub.upload(name, folder, private)}")


def confirmed(question: str) -> bool:
    """Ask in the terminal; the end of the input (Ctrl-D) is a no."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def write_repository(run: FinishedRun, loaded: LoadedRun, folder: Path, name: str) -> None:
    """Write model.safetensors, config.yaml, result.json, labels.json, README.md and, for timm, config.json."""
    network = loaded.network.network
    description = without_secrets(describe(run, network))
    record = {key: run.checkpoint[key] for key in ("datamodule_hyper_parameters", "hyper_parameters")}
    record["temperature"] = run.temperature
    save_weights(network, folder / WEIGHTS, {"run": json.dumps(without_secrets(record))})
    # Before they are written, since JSON and YAML escape characters and fold lines.
    config = without_secrets(OmegaConf.to_container(public_config(run.config)))
    files = {
        CONFIG: OmegaConf.to_yaml(config),
        "result.json": json.dumps(without_secrets(run.result), indent=2) + "\n",
        LABELS: json.dumps(description, indent=2) + "\n",
        "README.md": without_secrets(card(name, description, getattr(network, "origin", None))),
    }
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    if description["network"].get("library") == "timm":
        write_timm_config(folder / "config.json", description)


def public_config(config: DictConfig) -> DictConfig:
    """Return the config without loggers, callbacks, and where the run and its data were on this machine."""
    public = {str(key): value for key, value in config.items_ex(resolve=False) if key not in ("outputs", "run_dir")}
    result = OmegaConf.create(public)
    for part in PARTS:
        if part in UNUSED or part not in result:
            result[part] = {}
    for key in ("root", "path", "cache_dir"):
        if key in result.data:
            result.data[key] = None
    return result


def without_secrets(value: Any) -> Any:
    """Return a text, or data with texts, without users and passwords in addresses, and with ~ for the home folder."""
    if isinstance(value, dict):
        return {without_secrets(key): without_secrets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(without_secrets, value)]
    if not isinstance(value, str):
        return value
    text = re.sub(r"(://)[^/@\s\"']+@", r"\1", value)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, which never raises
    if len(home.parts) < 2:  # /, as of some services
        return text
    drive, *names = (re.escape(part.rstrip("/\\")) for part in home.parts)
    separator = r"[/\\]+"
    path = (drive + separator if drive else "/") + separator.join(names)
    return re.sub(rf"(?<![\w-]){path}(?![\w-]|\.\w)", "~", text)


def compare(run: FinishedRun, loaded: LoadedRun, folder: Path, name: str) -> None:
    """Raise a UserError if the network that load_run makes of the folder has other logits than the run."""
    images = torch.rand(2, *run.inputs["image_shape"], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (load_from(FinishedRun(folder, run.allow)).network(images) - loaded.network(images)).abs().max()
    if not difference <= 1e-5:
        raise UserError(
            f"push={name}: the files to upload disagree with the run (logits differ by up to {difference:.1e}), "
            "nothing was uploaded; use another model"
        )


def write_timm_config(file: Path, description: dict[str, Any]) -> None:
    """Write what timm.create_model("hf-hub:USER/NAME") reads: the network and its preprocessing."""
    import timm
    from timm.models._hub import save_config_for_hf

    inputs, call = description["input"], description["network"]
    with torch.device("meta"):  # without weights
        network = timm.create_model(call["name"], **call["arguments"])
    size = (inputs["shape"][1], *inputs["center_crop"])
    settings = {
        "input_size": size,
        "mean": tuple(inputs["mean"]),
        "std": tuple(inputs["std"]),
        "crop_pct": inputs["crop_pct"],
        "interpolation": inputs["interpolation"],
        "crop_mode": CROP_MODES[inputs["resize"]],
    }
    arguments = {key: value for key, value in call["arguments"].items() if key != "num_classes"}
    config = {"label_names": description["classes"], "model_args": arguments, "pretrained_cfg": settings}
    save_config_for_hf(network, str(file), config)


def card(name: str, description: dict[str, Any], origin: str | None) -> str:
    """Return the model card as Markdown, with the front matter of the hub; the license is not known."""
    result, inputs, network = description["result"], description["input"], description["network"]
    is_timm = network.get("library") == "timm"
    metrics = {key: result[key] for key in ("test/accuracy", "val/accuracy", *shown_metrics(result))}
    front = {
        "library_name": "timm" if is_timm else "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", *(["timm"] if is_timm else [])],
        "metrics": list(dict.fromkeys(key.partition("/")[2] for key in metrics if key.startswith("test/"))),
    }
    rows = {
        "input": f"{inputs['channels']}, {' x '.join(map(str, inputs['center_crop']))} pixels",
        "temperature": f"{description['temperature']:g}",
        **{key: format_metric(key, value) for key, value in metrics.items() if value is not None},
    }
    if origin:
        rows["started from"] = origin
    class_name = network["config"]["_target_"].rpartition(".")[2]
    timm_usage = f"""
With timm alone, without the temperature and test-time augmentation:

```python
import timm

network = timm.create_model("hf-hub:{name}", pretrained=True).eval()
```
"""
    return f"""\
---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {name.partition("/")[2]}

{network.get("name") or class_name}, {result["parameters"]:,} parameters, classifies images as:
{escape_cell(", ".join(description["classes"]))}.

{markdown_table(["", ""], rows.items())}

## Use it

With the project PyTorch Intro, which applies the temperature and the preprocessing:

```python
from pytorch_intro import load_run

network, classes, transforms = load_run("hf://{name}")
classes[network(transforms(image)[None]).argmax()]  # image: a PIL image
```
{timm_usage if is_timm else ""}
The preprocessing is in `labels.json`, the settings of the training in `config.yaml`.
"""
