"""bench=scaling: every size is measured on synthetic images in the form of the project's cache."""

import json
import pickle
import resource
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, run_here
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from pytorch_intro.benchmarks import scaling
from pytorch_intro.benchmarks.harness import Process
from pytorch_intro.benchmarks.scaling import SyntheticImages, link_files, write_cache

SMALL = ["bench.images=[1000,2000]", "bench.files=[200]", "bench.classes=[3]", "bench.sides=[28]"]
SMALL += ["bench.processes=[1]", "model.width=4", "trainer.accelerator=cpu", "trainer.threads=1"]
FEW_BATCHES = ["model.width=4", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1"]
FEW_BATCHES += ["trainer.limit_test_batches=1", "callbacks.report=null", "callbacks.tensorboard=null"]


def run_here_measured(command: list[str]) -> Process:
    """Run a command in this process, where a new one would take seconds."""
    started, config = time.perf_counter(), HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    output = run_here(Path(command[1]).stem, *command[2:])
    HydraConfig.instance().cfg = config
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Process(time.perf_counter() - started, memory, output)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "get_context", lambda _: get_context("fork"))  # no imports
    monkeypatch.setattr(scaling, "run_process", run_here_measured)


@pytest.mark.usefixtures("quick")
def test_bench_scaling_measures_every_size_of_every_part(script: Command, tmp_path: Path) -> None:
    arguments = f"bench.arguments={FEW_BATCHES}"
    answer = script("bench", "bench=scaling", *SMALL, arguments, f"outputs={tmp_path}", f"bench.folder={tmp_path}")
    assert answer.code == 0, answer.err
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]  # no images are left
    assert list(figures["images"]) == ["1000", "2000"]
    assert figures["images"]["2000"]["GB on disk"] == pytest.approx(2000 * 784 / 1e9)
    times = [(part, name) for part in ("images", "files", "classes", "sides", "processes") for name in figures[part]]
    for part, size in times:
        row: dict[str, float] = figures[part][size]
        assert all(value > 0 for name, value in row.items() if not name.startswith("MB")), (part, row)
    assert "| images | GB on disk | s to write |" in answer.out
    assert "| processes | s of the command |" in answer.out


def test_a_cache_that_the_disk_cannot_hold_is_an_error_before_it_is_written(script: Command, tmp_path: Path) -> None:
    arguments = ["bench.parts=[images]", "bench.images=[1000000000000]", "trainer.accelerator=cpu"]
    answer = script("bench", "bench=scaling", *arguments, f"outputs={tmp_path}", f"bench.folder={tmp_path}")
    assert answer.code == 2
    assert answer.err.startswith("error: bench.images: 1,000,000,000,000 images need 784,000.0 GB")
    assert "bench.folder=DIR" in answer.err


def test_the_images_stay_in_the_file(tmp_path: Path) -> None:
    """They are no part of the dataset that is sent to workers; their hashes are written once."""
    write_cache(tmp_path / "cache", 3000, (28, 28, 1), 7)
    dataset = SyntheticImages(str(tmp_path / "cache"))
    assert dataset.storage == "memory-mapped"
    assert (len(dataset), len(dataset.classes), dataset.image_shape) == (3000, 7, (1, 28, 28))
    images, targets = dataset.__getitems__(range(3000))
    assert targets.bincount().tolist() == [429] * 4 + [428] * 3
    assert 120 < images.float().mean() < 135
    assert len(pickle.dumps(dataset)) < 3000 * 30  # labels and hashes, but no pixels
    (hashes,) = tmp_path.glob("cache/*/hashes.npy")
    assert len(np.load(hashes)) == 3000


def test_links_to_one_file_are_found_as_images_of_ten_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system limits the number of links to a file."""
    monkeypatch.setattr(scaling, "MAX_LINKS", 40)
    link_files(tmp_path / "files", 100)
    files: list[Any] = [*tmp_path.glob("files/*/*.png")]
    assert len(files) == 100
    assert len({file.stat().st_ino for file in files}) == 3
    assert scaling.find_images(str(tmp_path / "files"))["s to find them"] > 0
