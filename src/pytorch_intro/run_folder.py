"""The folder of one run: its config, written first; its result, written last; what lies between."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.atomic import atomic_write
from pytorch_intro.errors import UserError
from pytorch_intro.flat_config import flatten
from pytorch_intro.paths import PROJECT

Result = dict[str, Any]


class RunFolder:
    """Paths in a run's folder, and the rules by which it is begun and finished.

    A folder with checkpoints has something to lose; one with a result.json is finished. Neither config.yaml nor
    result.json is ever seen half-written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.result_file = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"

    def recorded_result(self, config: DictConfig) -> Result | None:
        """The result, if this config has been run here to its end.

        Raises:
            UserError: if the folder belongs to a run with another config, or to one that did not finish.
        """
        has_something = self.result_file.exists() or self.checkpoints.exists()
        if not has_something or config.overwrite or not is_first_process():
            return None
        if differences := _differences(OmegaConf.load(self.config_file), config):
            raise UserError(
                f"{self.path} holds a run with another config ({'; '.join(differences)}); "
                "give this one another name, or overwrite=true to start anew"
            )
        if not self.result_file.exists():
            raise UserError(
                f"{self.path} holds a run that did not finish; give this one another name, "
                "or overwrite=true to start anew"
            )
        return json.loads(self.result_file.read_text())

    def begin(self, config: DictConfig) -> None:
        """Claim the folder by writing its config.yaml.

        With overwrite=true what an earlier run left is removed, except for its log, which goes on.
        """
        if not is_first_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = list(self.path.iterdir()) if config.overwrite and self.config_file.exists() else []
        for path in earlier:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".log":
                path.unlink()
        write_atomically(self.config_file, OmegaConf.to_yaml(config))

    def discard_unless_begun(self) -> None:
        """Remove what a mistake before the beginning left here: a log and the folder, if there is nothing else."""
        left = list(self.path.iterdir())
        if [path.name for path in left] in ([], ["train.log"]):
            for path in left:
                path.unlink()
            self.path.rmdir()

    def finish(self, result: Result) -> None:
        """Write the result, which says that the run is finished."""
        if is_first_process():
            write_atomically(self.result_file, json.dumps(result, indent=2) + "\n")


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several on as many devices, which writes for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def _differences(recorded: Any, config: DictConfig) -> list[str]:
    """Dotted keys whose values differ, with both values; `overwrite` says nothing about a run."""
    before, now = flatten(recorded), flatten(config)
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key != "overwrite"]
    return [f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here" for key in keys]


def show(result: Result, run: RunFolder, outputs: str, title: str = "finished") -> None:
    """Print the result as a table, where it lies, and what one can do next."""
    if not is_first_process():
        return
    folder = os.path.relpath(run.path)
    percent = {name: f"{result[name]:.2%}" for name in ("val/accuracy", "test/accuracy") if result[name] is not None}
    losses = {name: f"{result[name]:.4f}" for name in ("val/loss", "test/loss") if result[name] is not None}
    rows = {
        **percent,
        **losses,
        "best epoch": f"{result['best_epoch']} of {result['epochs']}",
        "parameters": f"{result['parameters']:,}",
        "seconds": f"{result['train_seconds']:.1f} of training, {result['total_seconds']:.1f} in all",
        "device": result["device"],
        "folder": folder,
    }
    width = max(map(len, rows))
    table = "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())
    print(f"\n{title}: {result['name']}\n{table}\n\nnext:\n{next_commands(outputs)}")


def next_commands(outputs: str) -> str:
    """What one can do after a run, as it can be pasted: with the environment's path unless it is activated."""
    binaries = Path(sys.executable).parent
    activated = Path(shutil.which("python") or "").parent == binaries
    prefix = "" if activated else f"{os.path.relpath(binaries)}{os.sep}"
    script = os.path.relpath(PROJECT / "src" / "train.py")
    commands = {
        f"tensorboard --logdir {os.path.relpath(outputs)}": "the curves, at http://localhost:6006",
        f"python {script} model=mlp": "another network; --help shows every choice",
        f"python {script} -m seed=0,1,2": "a sweep of three runs",
    }
    return "\n".join(f"  {prefix}{command:<34}  # {purpose}" for command, purpose in commands.items())
