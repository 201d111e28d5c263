"""The table that a run prints at its end, and the next commands."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.text import text_table
from pytorch_intro.config.paths import CLONE, IS_CLONE, PROJECT, command_line, display_path
from pytorch_intro.runs.folder import BEST, REPORT, Result, RunFolder, format_metric, shown_metrics

FILES = (*REPORT, "checkpoints/best.ckpt", "README.md")


def print_summary(
    result: Result, run: RunFolder, title: str = "finished", more_rows: Mapping[str, str] | None = None
) -> None:
    """Print the result as a table and the next commands; in a sweep, one line. For more_rows, see run_result_hooks."""
    if not is_rank_zero():
        return
    names = ("val/accuracy", "test/accuracy", *shown_metrics(result), "val/loss", "test/loss")
    metrics = {name: format_metric(name, result[name]) for name in names if result[name] is not None}
    seconds = result["total_seconds"]
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        figures = [f"{name} {metrics[name]}" for name in names[:2] if name in metrics]
        print(f"{title}: {', '.join([*figures, f'{seconds:.1f} s'])}")
        return
    rows = {
        **metrics,
        **weights_row(result),
        "parameters": f"{result['parameters']:,}",
        "seconds": f"{result['train_seconds']:.1f} of training, {seconds:.1f} in total",
        "device": result["device"],
        **(more_rows or {}),
        "folder": display_path(run.path),
        "files": ", ".join(name for name in FILES if (run.path / name).exists()),
    }
    table = text_table([name, value] for name, value in rows.items() if value)
    print(f"\n{title}: {result['name']}\n{table}\n\nnext:\n{next_commands(result, run)}")


def weights_row(result: Result) -> dict[str, str]:
    """Return which epoch's weights are the result; without validation these are the last ones."""
    if result["val/loss"] is None and result["val/accuracy"] is None:
        return {"epochs": f"{result['epochs']}; the last weights, since nothing was validated"}
    return {"best epoch": f"{result['best_epoch'] or '0, before the first,'} of {result['epochs']}"}


def next_commands(result: Result, run: RunFolder) -> str:
    """Return commands that continue with this run, its data and settings, ready to paste.

    They start with the path of the environment unless it is activated.
    """
    binaries = Path(sys.executable).parent
    activated = Path(shutil.which("python") or "").parent == binaries
    prefix = "" if activated else f"{display_path(binaries)}{os.sep}"
    python, installed, tensorboard = (shlex.quote(prefix + name) for name in ("python", "pytorch-intro", "tensorboard"))
    if IS_CLONE:
        scripts = [shlex.quote(display_path(PROJECT / "src" / name)) for name in ("train.py", "predict.py")]
        train, predict = (f"{python} {script}" for script in scripts)
    else:
        program = installed
        if CLONE and not shutil.which(str(binaries / "pytorch-intro")):  # as in the project's local.mk
            program = f"PYTHONPATH={shlex.quote(str(CLONE / 'src'))} {python} -m pytorch_intro"
        train, predict = f"{program} train", f"{program} predict"
    folder = display_path(run.path)
    commands = {}
    if (run.path / "tensorboard").is_dir():
        commands[f"{tensorboard} --logdir {shlex.quote(folder)}"] = "curves, at http://localhost:6006"
    if (run.checkpoints / BEST).exists():
        commands[f"{predict} {shlex.quote(f'run={folder}')} images=PATH"] = (
            "classify your own images: a file, a folder, a glob"
        )
    commands[f"{train} --help"] = "other networks, data and settings"
    if (settings := repeatable_settings(result)) is not None:
        commands[" ".join([train, "-m", *map(shlex.quote, settings), "seed=0,1,2"])] = "the same with three seeds"
    return "\n".join(f"  {command:<34}  # {purpose}" for command, purpose in commands.items())


def repeatable_settings(result: Result) -> list[str] | None:
    """Return the run's overrides except name, seed, overwrite and resume; None if resume=DIR has changed settings."""
    command = result.get("command") or ""
    if " && " in command:
        return None
    arguments = shlex.split(command)[len(command_line("train")) :]
    ours = ("name", "seed", "overwrite", "resume")
    return [text for text in arguments if text.lstrip("+").partition("=")[0] not in ours]
