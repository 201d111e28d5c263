"""Everything that needs a GPU to be measured or checked, in steps whose figures are saved at once."""

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import lightning
import torch
from omegaconf import OmegaConf
from pydantic import Field, PositiveInt

from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.benchmarks.gpu_steps import GpuCheck, OutOfTimeError, Step, list_steps
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, check_arguments
from pytorch_intro.common.errors import RunError, UserError, first_lines
from pytorch_intro.common.files import write_atomically
from pytorch_intro.config.paths import CONFIG_DIR, PACKAGE, PROJECT
from pytorch_intro.data.ingest.fashion_mnist import prepare
from pytorch_intro.training.hardware import device_name
from pytorch_intro.training.result import git_commit

UNRELATED = ("minutes", "steps")  # settings that do not change the figures of a step


def check_gpu(
    context: BenchmarkContext,
    folder: str,
    minutes: Annotated[float, Field(gt=0)],
    recipes: Mapping[str, PositiveInt],
    cold_runs: PositiveInt,
    folds: Annotated[int, Field(ge=1, le=5)],
    photos: str,
    steps: Sequence[str] | None = None,
    tiny: bool | None = None,
) -> Figures:
    """Run the steps that have no figures yet, as far as the time allows; write a table of all figures.

    Args:
        folder: Folder of the figures, <step>.json each, and of the table, README.md.
        minutes: Time limit. A step that is not likely to fit is left for the next call.
        recipes: Number of warm runs of each recipe, which is "default" or the name of an experiment.
        cold_runs: Number of runs of each recipe in a new process.
        folds: Number of folds to fine-tune on, of five.
        photos: Folder of photographs to fine-tune on; without it, pictures made from the sample data.
        steps: Names of the steps; None: all.
        tiny: Whether to use tiny sizes and the sample data, to try the steps; None: without a CUDA device.

    Raises:
        RunError: if a step has failed, after all others.
    """
    is_tiny = context.device != "cuda" if tiny is None else tiny
    available = list_steps(recipes, cold_runs, folds)
    for name in steps or []:
        if name not in available:
            raise UserError(f"bench.steps: unknown step {name!r}; choose from {', '.join(available)}")
    check_arguments([f"experiment={name}"] if name != "default" else [] for name in recipes)
    if not is_tiny:
        prepare(PROJECT / "data")
    check = GpuCheck(context, Path(folder), is_tiny, photos, time.monotonic() + 60 * minutes)
    check.folder.mkdir(parents=True, exist_ok=True)
    device = "a GPU" if context.device == "cuda" else "no CUDA device"
    sizes = "tiny sizes, whose figures say nothing about speed" if is_tiny else "full sizes"
    print(f"{device}: {sizes}; at most {minutes:g} minutes")
    origin = describe_origin(context, is_tiny)
    states: dict[str, str] = {}
    for name, step in available.items():
        if steps is None or name in steps:
            states[name] = run_step(check, name, step, origin)
            write_table(check, available, origin, states)
    print(f"table: {check.folder / 'README.md'}")
    if failed := [name for name, state in states.items() if state.startswith("failed")]:
        raise RunError(f"bench=gpu: failed: {', '.join(failed)}, see above; a rerun repeats only what is missing")
    return {"states": states}


def run_step(check: GpuCheck, name: str, step: Step, origin: dict[str, Any]) -> str:
    """Run a step, or what is missing of it; print and return how it ended."""
    file = check.folder / f"{name}.json"
    saved = load_figures(file, origin)
    if saved.get("is_complete"):
        return report(name, "done before")
    started, figures = time.monotonic(), saved.get("figures", {})
    try:
        check.require(step.seconds if not (check.is_tiny or figures) else 0)
        for figures in step.run(check, figures):  # noqa: B020 (each is an extension of the one before)
            save_figures(file, origin, figures, is_complete=False)
        save_figures(file, origin, figures, is_complete=True)
    except OutOfTimeError as error:
        return report(name, f"left out: {error}; run it again")
    except Exception as error:  # any kind: the other steps do not depend on it
        return report(name, f"failed: {type(error).__name__}: {first_lines(error)}")
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    for line in figures.get("left_out", []):
        print(f"  {line}")
    return report(name, f"done in {time.monotonic() - started:.1f} s")


def report(name: str, state: str) -> str:
    print(f"{name}: {state}", flush=True)
    return state


def describe_origin(context: BenchmarkContext, is_tiny: bool) -> dict[str, Any]:
    """Return what the figures depend on: they are reused only where all of it is the same, except for the commit."""
    settings: Any = OmegaConf.to_container(context.config.bench, resolve=True)
    return {
        "device": f"{context.device}, {device_name(context.device)}",
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "commit": git_commit(),
        "code": hash_code(),
        "is_tiny": is_tiny,
        "settings": {name: value for name, value in settings.items() if name not in UNRELATED},
    }


def hash_code() -> str:
    """Return a digest of the package and its configs; a commit alone does not show changes that are not committed."""
    digest = hashlib.sha256()
    for root, pattern in ((PACKAGE, "*.py"), (CONFIG_DIR, "*.yaml")):
        for file in sorted(root.rglob(pattern)):
            digest.update(f"\0{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def load_figures(file: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a step's file; empty if there is none, or if it was made by other code or elsewhere."""
    saved = read_figures(file)
    if saved and (changed := find_changes(saved, origin)):
        print(f"{file.stem}: not reused, another {', '.join(changed)}")
        return {}
    return saved


def read_figures(file: Path) -> dict[str, Any]:
    """Return the content of a step's file, whatever it was made by; empty if there is none."""
    with suppress(FileNotFoundError, ValueError):
        return json.loads(file.read_text())
    return {}


def find_changes(saved: dict[str, Any], origin: dict[str, Any]) -> list[str]:
    """Return in what the origin of saved figures differs."""
    return [name for name in origin if name != "commit" and saved.get(name) != origin[name]]


def save_figures(file: Path, origin: dict[str, Any], figures: Figures, is_complete: bool) -> None:
    write_atomically(file, json.dumps({**origin, "is_complete": is_complete, "figures": figures}, indent=2))


def write_table(check: GpuCheck, names: Collection[str], origin: dict[str, Any], states: dict[str, str]) -> None:
    """Write README.md: a row for each figure of the steps, and how the others ended."""
    rows, remarks = [], []
    for name in names:
        saved = read_figures(check.folder / f"{name}.json")
        figures = {} if find_changes(saved, origin) else saved.get("figures", {})
        rows += [(name, quantity, value) for quantity, value in figures.get("rows", {}).items()]
        remarks += [f"- {name}: {line}" for line in figures.get("left_out", [])]
        if states.get(name, "").startswith(("left out", "failed")):
            remarks.append(f"- {name}: {states[name]}")
    size = ", tiny sizes: not for comparisons of speed" if check.is_tiny else ""
    title = f"{origin['device']}, torch {origin['torch']}, lightning {origin['lightning']}{size}"
    text = f"# Measured on {title}\n\nCommit {origin['commit'] or 'unknown'}, `python src/bench.py bench=gpu`.\n\n"
    text += markdown_table(("step", "measurement", "value"), rows) + "\n"
    if remarks:
        text += "\n" + "\n".join(remarks) + "\n"
    write_atomically(check.folder / "README.md", text)
