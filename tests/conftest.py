"""Fixtures and helpers of all tests. They work offline, with the sample that comes with the project.

Packages that take seconds to import, such as torch, are imported inside functions: the main process of pytest-xdist
does not need them.
"""

import contextlib
import csv
import functools
import gc
import gzip
import importlib
import importlib.metadata
import io
import itertools
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import omegaconf.base
import pytest
import yaml
from compose_cache import cache_composition
from forked import TRAIN, forked_processes, run_script
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from installed import Installed, build_wheel, create_environment, install
from omegaconf import DictConfig
from omegaconf.grammar_parser import parse
from PIL import Image

import train
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

if TYPE_CHECKING:
    from torch import Tensor

    from pytorch_intro.data.datamodule import DataModule

# Composing a config takes most of the time of many tests.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch: tests compare bits, and trainer.threads=auto depends on the load
os.environ["WANDB_MODE"] = "offline"
yaml.SafeLoader = yaml.CSafeLoader  # the same by libyaml: five times as fast
omegaconf.base.parse = functools.cache(parse)  # type: ignore[attr-defined]  # the same interpolations again and again
cache_composition()
for name in ("entry_points", "packages_distributions"):  # search all installed packages, for each Trainer
    setattr(importlib.metadata, name, functools.cache(getattr(importlib.metadata, name)))
setattr(gzip, "decompress", functools.lru_cache(8)(gzip.decompress))  # noqa: B010 (mypy); for the sample
setattr(os, "fsync", lambda _: None)  # noqa: B010 (mypy); each run waits for the disk
gc.set_threshold(50_000, 5, 5)  # as in every command; for the imports of the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests with processes first: they are the longest, and those of one worker share one forkserver."""
    first = (
        "test_removal",
        "test_new_project",
        "test_launchers",
        "test_distributed",
        "test_finetuning",
        "test_sweep",
        "test_search",
        "test_resume",
        "test_torture",
        "test_faults",
        "test_image_cache",
        "test_help",
        "test_tour",
        "test_export",
        "test_downstream",
        "test_bench",
        "test_tensorboard",
        "test_server",
    )
    items.sort(key=lambda item: first.index(item.path.stem) if item.path.stem in first else len(first))


def pytest_collection_finish() -> None:
    """Exclude what has been imported by now from garbage collection: about a million objects."""
    gc.collect()
    gc.freeze()


# What most tests do not look at. In other processes, the fixture _blank_figures has no effect.
NO_PICTURES = ["callbacks.report=null", "callbacks.tensorboard=null"]

# A training of two epochs of six steps.
TWO_SHORT_EPOCHS = [
    "data=sample",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "data.batch_size=16",
    "trainer.log_every_n_steps=1",
    "model.width=4",
]

# A training of one batch.
ONE_BATCH = [
    "data=sample", "trainer=cpu", "trainer.max_epochs=1", "name=first", "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.batch_size=16",
]  # fmt: skip


@dataclass
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


class Killed(BaseException):
    """Simulates the end of the process: no code catches it."""


Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _clean_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reset the global state of Hydra and logging after each test; print no tracebacks."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # a command replaces it
    with logging_restored():
        yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session", autouse=True)
def _find_commit_once() -> Iterator[None]:
    """Call git once, instead of in every run."""
    from pytorch_intro.training import result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "git_commit", functools.cache(result.git_commit))
        yield


@pytest.fixture(autouse=True)
def _no_workers_left() -> Iterator[None]:
    """Shut down the workers of DataLoaders after each test; garbage collection would wait five seconds for each."""
    yield
    if any(process.daemon for process in multiprocessing.active_children()):
        from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

        for loop in [each for each in gc.get_objects() if issubclass(type(each), _MultiProcessingDataLoaderIter)]:
            loop._shutdown_workers()


@pytest.fixture(autouse=True)
def _blank_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plot nothing except in tests marked `pictures`: plotting takes as long as the training of a test."""
    from torch.utils.tensorboard import SummaryWriter

    from pytorch_intro.analysis import plots

    if not request.node.get_closest_marker("pictures"):
        for name in ("plot_curves", "plot_confusion", "plot_reliability", "plot_image_grid", "as_image"):
            monkeypatch.setattr(plots, name, lambda *_, **__: Image.new("RGB", (8, 8)))
        monkeypatch.setattr(SummaryWriter, "add_embedding", lambda *_, **__: None)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this project."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return an environment with the wheel."""
    environment = create_environment(tmp_path_factory.mktemp("env"))
    install(environment, wheel)
    return environment


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    """Restore the handlers and levels of the loggers, and close new log files."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, root.level = handlers, level
    logging.getLogger("hydra").setLevel(logging.NOTSET)  # a sweep raises it


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Return a function that calls `python src/train.py …` in this process, with outputs in tmp_path/outputs."""

    def run(*arguments: str) -> Answer:
        outputs = [] if any("--" in argument for argument in arguments) else [f"outputs={tmp_path / 'outputs'}"]
        monkeypatch.setattr(sys, "argv", ["src/train.py", *arguments, *outputs])
        capsys.readouterr()
        code: Any = 0
        try:
            train.main()
        except SystemExit as stop:
            code = stop.code or 0
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that calls `python src/<name>.py …` in this process."""

    def run(name: str, *arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", [f"src/{name}.py", *arguments])
        GlobalHydra.instance().clear()
        capsys.readouterr()
        code: Any = 0
        try:
            importlib.import_module(name).main()
        except SystemExit as stop:
            code = stop.code or 0
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run's folder, in another place, to write to."""
    return Path(shutil.copytree(finished_run, tmp_path / "elsewhere" / "copy"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on the sample and return the run folder; tests only read it."""
    outputs = tmp_path_factory.mktemp("outputs")
    train_here("data=sample", "trainer=cpu", "trainer.max_epochs=2", "name=first", f"outputs={outputs}")
    return outputs / "first"


def train_here(*arguments: str) -> None:
    """Call `python src/train.py …` in this process, for fixtures with a wider scope."""
    run_here("train", *arguments)


def run_here(name: str, *arguments: str) -> str:
    """Call `python src/<name>.py …` in this process and return its stdout."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), logging_restored():
        patch.setattr(sys, "argv", [f"src/{name}.py", *arguments])
        importlib.import_module(name).main()
    return out.getvalue()


@pytest.fixture(scope="session")
def result(finished_run: Path) -> dict[str, Any]:
    """Return the content of the finished run's result.json."""
    return json.loads((finished_run / "result.json").read_text())


WholeRuns = Callable[..., Path]


@pytest.fixture(scope="session")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> WholeRuns:
    """Return a function that gives the folder of an uninterrupted run with these arguments; each is run once.

    killed_run has its folder as it was before each of the first 20 steps.
    """
    from pytorch_intro.training.classifier import Classifier

    outputs = tmp_path_factory.mktemp("whole")
    training_step = Classifier.training_step
    numbers = itertools.count()

    @functools.cache
    def run(*arguments: str) -> Path:
        folder = outputs / f"run-{next(numbers)}"  # another one after a run that failed

        def step(self: Classifier, images: Any, batch_idx: int) -> Any:
            batch = self.trainer.fit_loop.total_batch_idx
            if batch < 20:
                shutil.copytree(folder, killed_run(folder, batch), copy_function=link_or_copy)
            return training_step(self, images, batch_idx)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Classifier, "training_step", step)
            train_here(*arguments, f"name={folder.name}", f"outputs={outputs}")
        return folder

    return run


def link_or_copy(file: str, copy: str) -> None:
    """Copy a file; a checkpoint is never changed, but replaced, so that a link will do."""
    if file.endswith(".ckpt"):
        os.link(file, copy)
    else:
        shutil.copy2(file, copy)


def killed_run(whole: Path, batch: int) -> Path:
    """Return the folder that `kill -9` in the training step of a batch, counted from 0, leaves of a whole run."""
    return whole.with_name(f"{whole.name}-killed-{batch}")


def compose(*overrides: str, run_dir: Path = PROJECT / "outputs" / "never") -> DictConfig:
    """Return the config that the task of `python src/train.py …` gets."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.compose("train", [f"run_dir={run_dir}", *overrides])


def sample_datamodule(*overrides: str) -> "DataModule":
    """Return the DataModule of data=sample, set up for training and testing."""
    from pytorch_intro.config.instantiate import instantiate

    datamodule: DataModule = instantiate(compose("data=sample", *overrides).data, "data")
    datamodule.setup("fit")
    datamodule.setup("test")
    return datamodule


def write_images(root: Path, *paths: str, size: tuple[int, int] = (12, 12), mode: str = "L") -> None:
    """Write different images, in the formats of their suffixes; size is (width, height)."""
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        level = (37 * number) % 256
        Image.new(mode, size, level if mode in ("L", "P") else (level, 255 - level, number % 256)).save(file)


class Process:
    """A real process of `python src/train.py …`, alone or started by a launcher, in a new session.

    It is forked from a process that has imported torch and Lightning, which saves seconds per start.

    Args:
        launcher: Name and arguments of a module that starts the script.
        variables: Environment variables, added to those of this process.
        largest_file: Limit of the size of a file, in bytes.
        processes: Number of further processes that it starts itself, such as ranks; they are forked too.
    """

    def __init__(
        self,
        *arguments: str,
        launcher: Sequence[str] = (),
        variables: dict[str, str] | None = None,
        largest_file: int | None = None,
        processes: int = 0,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self.folder.name, name) for name in ("out", "err"))
        for file in (self.out, self.err):
            file.touch()  # the process may be killed before it opens them
        command = [*launcher, TRAIN, *arguments]
        self.process = FORKS.Process(
            target=run_command, args=(command, self.out, self.err, variables or {}, largest_file, processes)
        )
        self.process.start()
        self.pid = self.process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def wait(self, seconds: float) -> int | None:
        self.process.join(seconds)
        return self.returncode

    def communicate(self, timeout: float = 100) -> tuple[str, str]:
        """Wait for the end, and return stdout and stderr."""
        assert self.wait(timeout) is not None, self.err.read_text()
        with self.folder:
            return self.out.read_text(), self.err.read_text()


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["lightning", "hydra", "torch.utils.tensorboard", "torchvision.transforms.v2", "pydantic.type_adapter", "pytest"]
)


def reset_start_method() -> None:
    """Start further processes as a program does by default; in a process of FORKS, the default is a forkserver."""
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)


StartMethod = Callable[[str], None]


@pytest.fixture
def start_method() -> Iterator[StartMethod]:
    """Return a function that sets how the processes of a test start: fork, forkserver or spawn."""
    yield functools.partial(multiprocessing.set_start_method, force=True)
    reset_start_method()


def run_command(
    command: list[str], out: Path, err: Path, variables: dict[str, str], largest_file: int | None, processes: int
) -> None:
    """Run src/train.py or a module in this process, with its arguments, output files and environment variables."""
    reset_start_method()
    os.setsid()
    for number, file in enumerate((out, err), 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(variables)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    with forked_processes(processes) if processes else contextlib.nullcontext():
        run_script(command)


def run_code(code: str) -> int | None:
    """Run code in a real process, forked like a Process, and return its exit code."""
    process = FORKS.Process(target=exec, args=(code,))
    process.start()
    process.join(100)
    return process.exitcode


def wait_until(happened: Callable[[], bool], process: Process) -> None:
    """Wait for a condition, or for the end of the process."""
    while not happened() and process.returncode is None:
        process.wait(0.01)


def epochs_trained(run: Path) -> int:
    """Return the number of epochs in a run's log."""
    log = run / "train.log"
    return sum(" INFO epoch " in line for line in log.read_text().splitlines()) if log.exists() else 0


def read_summary(sweep: Path) -> list[dict[str, str]]:
    """Return the lines of a sweep's summary.csv."""
    with (sweep / "summary.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images() -> "Tensor":
    """Return 8 random gray images, (8, 1, 28, 28) uint8."""
    import torch

    return torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
