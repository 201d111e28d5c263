"""`python src/train.py`: what a run does and which files it writes."""

import json
import math
import os
import re
import shlex
import sys
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, Command, compose, read_summary
from explained import assert_explained
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from pytorch_intro.common.locks import lock_folder
from pytorch_intro.config.paths import CONFIG_DIR
from pytorch_intro.data.ingest import fashion_mnist
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training import summary
from pytorch_intro.training.callbacks.epoch_logger import EpochLogger
from pytorch_intro.training.trainer import build_trainer

SAMPLE = ["data=sample", "trainer=cpu"]
# A training of two batches; more than one batch is evaluated.
FEW = [
    *SAMPLE, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2", "data.batch_size=16", "model.width=4",
]  # fmt: skip
KEYS = [
    "status", "name", "seed", "val/accuracy", "val/loss", "test/accuracy", "test/loss", "test/accuracy_no_tta",
    "temperature", "epochs", "best_epoch", "parameters", "train_seconds", "total_seconds", "images_per_second",
    "device", "torch", "lightning", "pytorch_intro", "git_commit", "command",
]  # fmt: skip


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def every_pair(*groups: str) -> list[tuple[str, ...]]:
    """Return few combinations of choices, one of each group, in which every pair of two choices occurs."""
    left = [*product(*(choices(group) for group in groups))]
    pairs = {chosen: {*combinations(enumerate(chosen), 2)} for chosen in left}
    missing = set().union(*pairs.values())
    combined = []
    while missing:
        combined.append(max(left, key=lambda chosen: len(pairs[chosen] & missing)))
        missing -= pairs[combined[-1]]
    return combined


@pytest.mark.parametrize(("model", "optimizer", "scheduler"), every_pair("model", "optimizer", "scheduler"))
def test_every_model_trains_with_every_optimizer_and_every_schedule(
    command: Command, model: str, optimizer: str, scheduler: str
) -> None:
    """One batch of training, validation and test, from the command line to the result."""
    groups = [f"model={model}", f"optimizer={optimizer}", f"scheduler={scheduler}"]
    small = {"timm": "test_efficientnet", "torchvision": "squeezenet1_1"}.get(model)
    random = [f"model.name={small}", "model.weights=null", "data.image_size=32"] if small else []  # no download
    answer = command(*SAMPLE, *groups, *random, "data.batch_size=16", "trainer.fast_dev_run=true")
    assert answer.code == 0, answer.err
    assert "test/accuracy" in answer.out


@pytest.mark.parametrize("logger", choices("logger"))
def test_every_logger_works_without_callbacks(command: Command, tmp_path: Path, logger: str) -> None:
    assert command(*FEW, "callbacks=none", f"logger={logger}", "name=first").code == 0
    assert (tmp_path / "outputs" / "first" / "result.json").exists()
    for name, file in (("tensorboard", "hparams.yaml"), ("csv", "metrics.csv"), ("mlflow", "run.json")):
        assert (tmp_path / "outputs" / "first" / name / file).exists() == (logger == name)


@pytest.mark.parametrize(("max_time", "max_epochs"), [("null", 1000), ("00:01:00:00", -1)])
def test_without_max_epochs_only_a_time_limit_makes_training_endless(max_time: str, max_epochs: int) -> None:
    """The defaults of Lightning; max_time adds a Timer, and so does this project."""
    config = compose(*SAMPLE, "trainer.max_epochs=null", f"trainer.max_time={max_time}")
    hardware = {"accelerator": "cpu", "precision": "32-true", "threads": 1}
    assert build_trainer(config.trainer, config.callbacks, config.logger, hardware).max_epochs == max_epochs


def test_a_run_folder_holds_every_file(finished_run: Path) -> None:
    files = {str(path.relative_to(finished_run)) for path in finished_run.rglob("*") if path.is_file()}
    assert {"config.yaml", "train.log", "result.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files
    assert [name for name in files if name.startswith("tensorboard/events.out.tfevents")]
    assert len([name for name in files if name.startswith("checkpoints/")]) == 2


def test_the_result_has_every_key_and_plausible_values(result: dict[str, Any]) -> None:
    assert [name for name in result if name in KEYS] == KEYS
    further = [f"test/{name}" for name in ("ece", "nll", "ece_uncalibrated", "nll_uncalibrated", "accuracy_no_tta")]
    assert {*result} == {*KEYS, *further}
    assert result["status"] == "finished"
    assert result["name"] == "first"
    assert result["seed"] == 0
    assert result["epochs"] == 2
    assert 1 <= result["best_epoch"] <= 2
    assert 0.3 < result["val/accuracy"] < 1
    assert 0.3 < result["test/accuracy"] < 1
    assert 0 < result["train_seconds"] < result["total_seconds"]
    assert result["images_per_second"] > 0
    assert result["torch"] == torch.__version__
    assert result["command"].startswith("python src/train.py data=sample trainer=cpu")


def test_the_recorded_config_is_complete(finished_run: Path) -> None:
    config = OmegaConf.load(finished_run / "config.yaml")
    assert config.trainer.max_epochs == 2
    assert config.data.batch_size == 64
    assert config.optimizer.lr > 0


def test_the_log_has_one_line_per_epoch(finished_run: Path) -> None:
    lines = [line for line in (finished_run / "train.log").read_text().splitlines() if " INFO epoch " in line]
    assert len(lines) == 2
    assert "epoch 2/2: train/loss" in lines[1]
    for name in ("train/accuracy", "val/loss", "val/accuracy", "images/s"):
        assert name in lines[1]


def test_tensorboard_has_every_metric_under_its_name(finished_run: Path, result: dict[str, Any]) -> None:
    """Read with TensorBoard's EventAccumulator: one point per epoch, and the values of result.json."""
    events = EventAccumulator(str(finished_run / "tensorboard")).Reload()
    by_epoch = ["train/loss", "train/accuracy", "train/cross_entropy", "val/loss", "val/accuracy", "epoch_seconds"]
    for name in by_epoch:
        assert len(events.Scalars(name)) == 2, name
    assert len(events.Scalars("test/accuracy")) == len(events.Scalars("test/loss")) == 1
    for name in ("lr", "train/loss_step", "images_per_second"):
        assert len(events.Scalars(name)) == 40, name  # every step
    assert "epoch" not in events.Tags()["scalars"]
    assert max(point.value for point in events.Scalars("val/accuracy")) == pytest.approx(result["val/accuracy"])
    assert events.Scalars("test/loss")[0].value == pytest.approx(result["test/loss"])


def test_the_best_epoch_has_the_highest_validation_accuracy(finished_run: Path, result: dict[str, Any]) -> None:
    events = EventAccumulator(str(finished_run / "tensorboard")).Reload()
    accuracies = [point.value for point in events.Scalars("val/accuracy")]
    assert result["best_epoch"] == 1 + accuracies.index(max(accuracies))


def test_best_and_last_checkpoint_can_be_of_different_epochs(command: Command, tmp_path: Path) -> None:
    """The learning rate is so high that the last epoch is not the best."""
    diverging = ["optimizer=sgd", "optimizer.lr=30", "scheduler=constant", "trainer.max_epochs=3"]
    few = ["trainer.limit_train_batches=1", "data.shuffle=false", "name=first"]
    assert command(*SAMPLE, *NO_PICTURES, *diverging, *few).code == 0
    folder = tmp_path / "outputs" / "first"
    best, last = (torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    result = json.loads((folder / "result.json").read_text())
    assert last["epoch"] == 2
    assert best["epoch"] == result["best_epoch"] - 1 < 2
    assert best["metrics"]["val/accuracy"] == result["val/accuracy"]


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_loads_with_weights_only(finished_run: Path, name: str) -> None:
    """It holds only tensors and plain values, so that loading a file from elsewhere executes no code."""
    checkpoint = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    expected = {"num_classes": 10, "tta_flip": True, "tta_shift": 0}
    assert checkpoint["hyper_parameters"] == expected
    assert all(key.startswith("network.") for key in checkpoint["state_dict"])


def test_the_same_command_gives_identical_weights(
    command: Command, finished_run: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    """Bit-identical, not only close."""

    def weights(run: Path) -> dict[str, torch.Tensor]:
        return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    assert command(*SAMPLE, "trainer.max_epochs=2", "name=again").code == 0
    before, again = (weights(run) for run in (finished_run, tmp_path / "outputs" / "again"))
    assert all(torch.equal(before[key], again[key]) for key in before)
    repeated = json.loads((tmp_path / "outputs" / "again" / "result.json").read_text())
    assert repeated["test/loss"] == result["test/loss"]


def test_a_finished_run_prints_its_stored_result_and_changes_nothing(command: Command, tmp_path: Path) -> None:
    few = [*FEW, "name=first"]
    assert command(*few).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.*")}
    answer = command(*few)
    assert answer.code == 0
    assert "finished before" in answer.out
    assert {"result.json", "last.ckpt"} <= {path.name for path in before}
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"train.log", ".lock"}


def test_a_second_process_is_rejected_and_does_not_touch_the_log_of_the_first(command: Command, tmp_path: Path) -> None:
    """Even if the first has not written its config yet, because it is still loading images."""
    folder = tmp_path / "outputs" / "first"
    with lock_folder(folder):
        (folder / "train.log").write_text("first process\n")
        first_answer = command(*SAMPLE, "name=first")
        assert (folder / "train.log").read_text().startswith("first process\n")
        second_answer = command(*SAMPLE, "name=first")
    for answer in (first_answer, second_answer):
        assert answer.code == 2
        process = rf"process {os.getpid()} on \S+"
        assert_explained(answer.err, [], [f"error: {folder}"], process, "wait.*another name")


def test_another_config_in_the_same_folder_is_rejected_and_overwrite_starts_over(
    command: Command, tmp_path: Path
) -> None:
    few = [*(argument for argument in FEW if "max_epochs" not in argument), "name=first"]
    assert command(*few, "trainer.max_epochs=1").code == 0
    rejected = command(*few, "trainer.max_epochs=2")
    assert rejected.code == 2
    folder = str(tmp_path / "outputs" / "first")
    difference = r"trainer\.max_epochs: 1\b.* 2\b"
    assert_explained(rejected.err, few, [folder], difference, "another name.*overwrite=true")
    assert json.loads((tmp_path / "outputs" / "first" / "result.json").read_text())["epochs"] == 1
    assert command(*few, "trainer.max_epochs=2", "overwrite=true").code == 0
    assert json.loads((tmp_path / "outputs" / "first" / "result.json").read_text())["epochs"] == 2
    assert "epoch 2/2" in (tmp_path / "outputs" / "first" / "train.log").read_text()
    assert len(list((tmp_path / "outputs" / "first" / "tensorboard").glob("events*"))) == 2  # one of fit, one of test


def test_every_job_of_a_sweep_has_its_folder_its_seed_and_its_objective(command: Command, tmp_path: Path) -> None:
    assert command("-m", *FEW, *NO_PICTURES, "seed=0,1", "name=seeds", "sweep.objective=val/loss").code == 0
    sweep = tmp_path / "outputs" / "sweeps" / "seeds"
    results = {file.parent.name: json.loads(file.read_text()) for file in sweep.glob("*/result.json")}
    assert sorted(results) == ["seed=0", "seed=1"]
    returned = {row["job"]: float(row["val/loss"]) for row in read_summary(sweep)}
    assert returned == {job: result["val/loss"] for job, result in results.items()}
    assert [results[f"seed={seed}"]["seed"] for seed in (0, 1)] == [0, 1]
    assert not math.isclose(*returned.values())


@pytest.mark.parametrize("wrong", ["sweep.objective=test/accuracy", "sweep.fail_fast=perhaps", "+sweep.fast=true"])
def test_an_invalid_sweep_setting_is_rejected_before_a_single_run_trains(
    command: Command, tmp_path: Path, wrong: str
) -> None:
    answer = command(*SAMPLE, wrong, "name=first")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert re.match(rf"error: {wrong.lstrip('+').partition('=')[0]}\b", answer.err)
    assert not (tmp_path / "outputs" / "first").exists()


def test_a_run_works_without_sweep_settings(command: Command) -> None:
    """The config node exists only if the sweeps package is installed."""
    few = [*FEW, *NO_PICTURES, "~sweep", "name=first"]
    assert command(*few).code == 0
    assert "finished before" in command(*few).out


def test_training_uses_only_the_hashes_of_the_official_test_images(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """They are opened once, to find duplicates; the first batch of them is fetched after the training."""
    order: list[str] = []
    original = fashion_mnist.FashionMNISTSample.__init__
    fetch = fashion_mnist.FashionMNISTSample.__getitems__

    def recording_init(self: Any, root: str, train: bool = True) -> None:
        order.append("train" if train else "test")
        original(self, root, train)

    def recording_fetch(self: Any, indices: Any) -> Any:
        if len(self) == 400 and order[-1] != "test batch":
            order.append("test batch")
        return fetch(self, indices)

    monkeypatch.setattr(fashion_mnist.FashionMNISTSample, "__init__", recording_init)
    monkeypatch.setattr(fashion_mnist.FashionMNISTSample, "__getitems__", recording_fetch)
    monkeypatch.setattr(EpochLogger, "on_fit_end", lambda *_: order.append("fitted"))
    assert command(*SAMPLE, "trainer.max_epochs=1", "trainer.limit_train_batches=2").code == 0
    assert order == ["train", "test", "fitted", "test batch"]


def test_a_validation_within_an_epoch_can_be_the_best(command: Command, tmp_path: Path) -> None:
    """With monitor=val/loss, of which less is better; best.ckpt and last.ckpt then differ."""
    options = ["trainer.val_check_interval=0.5", "trainer.max_epochs=1", "optimizer=sgd", "scheduler=constant"]
    diverging = ["optimizer.lr=30", "data.shuffle=false", "data.batch_size=640"]
    assert command(*SAMPLE, *options, *diverging, "callbacks.checkpoint.monitor=val/loss", "name=first").code == 0
    folder = tmp_path / "outputs" / "first" / "checkpoints"
    best, last = (torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert (best["global_step"], last["global_step"]) == (1, 2)
    assert best["metrics"]["val/loss"] < last["metrics"]["val/loss"]


def test_a_compiled_network_gives_the_same_weights_under_the_same_keys(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the eager backend: torch.compile traces the network, but does not compile it, which would take too long."""
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode: original(self, backend="eager"))
    weights = []
    for value in ("false", "true"):
        assert command(*FEW, *NO_PICTURES, f"compile={value}", f"name=c{value}").code == 0
        file = tmp_path / "outputs" / f"c{value}" / "checkpoints" / "last.ckpt"
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


original = nn.Module.compile


@pytest.mark.parametrize("name", ["1.10", "1_000", "lr=0.1,wd=0"])
def test_name_is_taken_literally(command: Command, tmp_path: Path, name: str) -> None:
    """It is neither a number nor part of Hydra's grammar."""
    answer = command(*SAMPLE, "trainer.fast_dev_run=true", f"name={name}")
    assert (answer.code, answer.err) == (0, "")
    result = json.loads((tmp_path / "outputs" / name / "result.json").read_text())
    assert result["name"] == name


def test_next_commands_continue_with_the_run_and_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its weights, data and settings; with a folder of weights or logs only if there is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))
    monkeypatch.setattr(summary, "PROJECT", tmp_path / "my project")
    run = RunFolder(tmp_path / "my runs" / "first")
    settings = "data=folder 'data.root=my photos' name=first seed=7 overwrite=true +trainer.x=1"
    result = {"command": f"python src/train.py {settings}"}

    def commands() -> list[list[str]]:
        return [shlex.split(line.partition("#")[0]) for line in summary.next_commands(result, run).splitlines()]

    python, train, own = "my env/bin/python", "my project/src/train.py", ["data=folder", "data.root=my photos"]
    without_files = [
        [python, train, "--help"],
        [python, train, "-m", *own, "+trainer.x=1", "seed=0,1,2"],
    ]
    assert commands() == without_files
    (run.path / "tensorboard").mkdir(parents=True)
    run.checkpoints.mkdir()
    (run.checkpoints / "best.ckpt").touch()
    assert commands() == [
        ["my env/bin/tensorboard", "--logdir", "my runs/first"],
        [python, "my project/src/predict.py", "run=my runs/first", "images=PATH"],
        *without_files,
    ]
    result["command"] += " && python src/train.py resume=first trainer.max_epochs=9"
    assert commands()[-1] == [python, train, "--help"], "the settings of both commands"
