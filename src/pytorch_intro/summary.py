"""What a run prints at its end: its result as a table, and what one can do next."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from pytorch_intro.paths import PROJECT, shown_path
from pytorch_intro.processes import is_first_process
from pytorch_intro.run_folder import REPORT, Result, RunFolder
from pytorch_intro.tables import text_table

FILES = (*REPORT, "checkpoints/best.ckpt", "README.md")  # to look at


def show(result: Result, run: RunFolder, outputs: str, title: str = "finished", confused: Sequence[str] = ()) -> None:
    """Print the result as a table, where it lies, and what one can do next; of a sweep's run, one line.

    Args:
        confused: What is said of the classes that were mistaken for each other.
    """
    if not is_first_process():
        return
    percent = {name: f"{result[name]:.2%}" for name in ("val/accuracy", "test/accuracy") if result[name] is not None}
    seconds = result["total_seconds"]
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        figures = [f"{name} {share}" for name, share in percent.items()]
        print(f"{title}: {', '.join([*figures, f'{seconds:.1f} s'])}")
        return
    folder = shown_path(run.path)
    losses = {name: f"{result[name]:.4f}" for name in ("val/loss", "test/loss") if result[name] is not None}
    rows = {
        **percent,
        **losses,
        "best epoch": f"{result['best_epoch']} of {result['epochs']}",
        "parameters": f"{result['parameters']:,}",
        "seconds": f"{result['train_seconds']:.1f} of training, {seconds:.1f} in all",
        "device": result["device"],
        "confused": "\n".join(confused),
        "folder": folder,
        "in it": ", ".join(name for name in FILES if (run.path / name).exists()),
    }
    table = text_table([name, value] for name, value in rows.items() if value)
    print(f"\n{title}: {result['name']}\n{table}\n\nnext:\n{next_commands(outputs)}")


def next_commands(outputs: str) -> str:
    """What one can do after a run, as it can be pasted: with the environment's path unless it is activated."""
    binaries = Path(sys.executable).parent
    activated = Path(shutil.which("python") or "").parent == binaries
    prefix = "" if activated else f"{shown_path(binaries)}{os.sep}"
    script, predict = (shown_path(PROJECT / "src" / name) for name in ("train.py", "predict.py"))
    commands = {
        f"tensorboard --logdir {shown_path(outputs)}": "the curves, at http://localhost:6006",
        f"python {predict} images=PATH": "what is in your own images: a file, a folder, a glob",
        f"python {script} model=mlp": "another network; --help shows every choice",
        f"python {script} -m seed=0,1,2": "a sweep of three runs",
    }
    return "\n".join(f"  {prefix}{command:<34}  # {purpose}" for command, purpose in commands.items())
