"""Run a script, and sample the stack of its main thread every few milliseconds, to measure where its time goes.

    python stack_sampler.py FILE START SCRIPT ARGUMENTS…

It saves seconds by part to FILE as JSON. START is time.time() in the process that starts this one. The script needs no
code for that, and its imports are measured too; therefore this module imports only the standard library.
"""

import functools
import json
import runpy
import sys
import threading
import time
from pathlib import Path
from types import FrameType

INTERVAL = 0.005  # seconds between two samples

# The parts, roughly in the order in which they begin, each with its letter in the bar.
PARTS = {
    "interpreter": "i",
    "import torch": "t",
    "import lightning": "l",
    "import torchmetrics": "m",
    "import hydra": "h",
    "other imports": "o",
    "config": "c",
    "setup": "s",
    "data": "d",
    "first step": "1",
    "batch": "b",
    "augmentation": "a",
    "forward": "F",
    "backward": "B",
    "optimizer": "O",
    "logging, progress": "L",
    "rest of the loop": "R",
    "validation": "V",
    "checkpoints": "C",
    "test": "T",
    "plots, model card": "P",
    "TensorBoard": "E",
    "result": "r",
    "exit": "x",
    "other": "?",
}
STEP = ("batch", "augmentation", "forward", "backward", "optimizer", "rest of the loop")  # validation has some of them

# The part of the import of a package; what it imports itself belongs to the same part, unless it is listed here.
PACKAGES = {
    "torch": "import torch",
    "lightning": "import lightning",
    "torchmetrics": "import torchmetrics",
    "hydra": "import hydra",
    "omegaconf": "import hydra",
}

# (file or folder, function, part); None: all functions. The first that matches counts. What no other function claims is
# the rest of Trainer.fit, and so on.
FUNCTIONS = [
    ("pytorch_intro/cli/hydra_internals.py", "run_app", "config"),
    ("pytorch_intro/commands/train.py", "train", "setup"),
    ("pytorch_intro/data/datamodule.py", "setup", "data"),
    ("lightning/pytorch/loops/fetchers.py", "__next__", "batch"),
    ("lightning/pytorch/strategies/strategy.py", "batch_to_device", "augmentation"),
    ("lightning/pytorch/strategies/strategy.py", "training_step", "forward"),
    ("torch/autograd/__init__.py", "backward", "backward"),
    ("lightning/pytorch/core/module.py", "optimizer_step", "optimizer"),
    ("lightning/pytorch/loops/evaluation_loop.py", "run", "validation"),
    ("lightning/pytorch/trainer/trainer.py", "fit", "rest of the loop"),
    ("lightning/pytorch/trainer/trainer.py", "test", "test"),
    ("pytorch_intro/training/checkpoint.py", None, "checkpoints"),
    ("lightning/pytorch/callbacks/model_checkpoint.py", None, "checkpoints"),
    ("lightning/pytorch/trainer/connectors/checkpoint_connector.py", None, "checkpoints"),
    ("pytorch_intro/training/callbacks/", None, "logging, progress"),
    ("pytorch_intro/reports/slow_steps.py", None, "logging, progress"),
    ("lightning/pytorch/trainer/connectors/logger_connector/", None, "logging, progress"),
    ("lightning/pytorch/core/module.py", "log", "logging, progress"),
    ("lightning/pytorch/core/module.py", "log_dict", "logging, progress"),
    ("pytorch_intro/reports/tensorboard/", None, "TensorBoard"),
    ("lightning/pytorch/loggers/", None, "TensorBoard"),
    ("lightning/fabric/loggers/", None, "TensorBoard"),
    ("torch/utils/tensorboard/", None, "TensorBoard"),
    ("pytorch_intro/reports/", None, "plots, model card"),
    ("pytorch_intro/runs/", None, "result"),
    ("pytorch_intro/training/result.py", None, "result"),
    ("pytorch_intro/training/summary.py", None, "result"),
]


@functools.cache
def part_of_function(file: str, name: str) -> str | None:
    file = file.replace("\\", "/")
    return next((part for path, function, part in FUNCTIONS if path in file and function in (None, name)), None)


class StackSampler:
    """Measures the thread that creates it, until it is stopped.

    Args:
        start: Value of time.time() when the process was started.

    Attributes:
        seconds: Seconds of each part so far.
    """

    def __init__(self, start: float) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.clock = time.time()
        self.seconds["interpreter"] = self.clock - start
        self.is_first_step = True
        self.main = threading.get_ident()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stopped.wait(INTERVAL):
            self.sample()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.sample()  # so that the seconds add up

    def sample(self) -> None:
        """Add the time since the last sample to the current part."""
        part = self.part_of_stack(sys._current_frames()[self.main])
        now = time.time()
        self.seconds[part] += now - self.clock
        self.clock = now

    def part_of_stack(self, frame: FrameType | None) -> str:
        """Return the part of the innermost function that has one, given the innermost frame."""
        imported = None
        found: list[str] = []
        while frame is not None:
            file, name = frame.f_code.co_filename, frame.f_code.co_name
            if name == "_find_and_load" and file == "<frozen importlib._bootstrap>":
                package = frame.f_locals["name"].partition(".")[0]
                if package in PACKAGES and not found:
                    return PACKAGES[package]
                imported = imported or (None if found else "other imports")
            elif name == "advance" and file.endswith("training_epoch_loop.py"):
                self.is_first_step &= frame.f_locals["self"].batch_progress.total.completed == 0
            elif part := part_of_function(file, name):
                found.append(part)
            frame = frame.f_back
        if imported or not found:
            return imported or "other"
        part = found[0]
        if part in STEP and "validation" in found:
            part = "validation"
        if part in STEP and self.is_first_step:
            part = "first step"
        return "test" if part == "validation" and "test" in found else part


def main(file: str, start: str, *command: str) -> None:
    """Run `python COMMAND…` here, and save the seconds of its parts."""
    sampler = StackSampler(float(start))
    is_module = command[0] == "-m"
    sys.argv = list(command[is_module:])
    sys.path[0] = str(Path.cwd() if is_module else Path(command[0]).resolve().parent)
    try:
        if is_module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    finally:
        sampler.stop()
        Path(file).write_text(json.dumps(sampler.seconds), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
