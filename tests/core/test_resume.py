"""A resumed run is bit-identical to an uninterrupted one."""

import csv
import json
import os
import pickle
import random
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, TWO_SHORT_EPOCHS, Command, Killed, Process, WholeRuns, killed_run, wait_until
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import Dataset

from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.runs.logs import truncate_logs
from pytorch_intro.training.callbacks import graceful_shutdown
from pytorch_intro.training.callbacks.graceful_shutdown import EXIT_CODES, GracefulShutdown
from pytorch_intro.training.callbacks.total_time import TotalTime
from pytorch_intro.training.checkpoint import BestLastCheckpoint
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.trainer import silence_lightning

SMALL = [
    *TWO_SHORT_EPOCHS,
    "data/augment=[flip,crop,erasing]",
    "data.mixup_alpha=0.2",
    "callbacks.checkpoint.every_n_minutes=1e-9",  # after every step
    *NO_PICTURES,
]
PICTURED = [argument for argument in SMALL if argument not in NO_PICTURES]


AVERAGED = ["+callbacks.average._target_=lightning.pytorch.callbacks.EMAWeightAveraging"]
AVERAGED += ["+callbacks.average.decay=0.8"]


@contextmanager
def killed_at(batch: int) -> Iterator[None]:
    """Interrupt the training step of this batch, counted from 0 over all epochs."""
    original = Classifier.training_step

    def step(self: Classifier, images: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        if self.trainer.fit_loop.total_batch_idx == batch:
            raise Killed
        return original(self, images, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", step)
        with pytest.raises(Killed):
            yield


def assert_same_run(one: Path, other: Path) -> None:
    """Assert bit-identical weights, metrics and curves."""
    for name in ("best", "last"):
        a, b = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (one, other))
        assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])
        for key, value in a["state_dict"].items():
            assert torch.equal(value, b["state_dict"][key]), key
        assert a["callbacks"].keys() == b["callbacks"].keys()
        assert a.get("temperature") == b.get("temperature")
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for key in ("val/accuracy", "val/loss", "test/accuracy", "test/loss", "epochs", "best_epoch", "seed"):
        assert results[0][key] == results[1][key], key
    assert results[1]["images_per_second"] > 0
    assert curves(one) == curves(other)


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return every point of every curve, with measured times and memory set to 0, and the steps of all images."""
    events = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    timed = ("epoch_seconds", "images_per_second", "gpu_memory_mb")
    # Sorted: the names of event files that were created within one second do not show their order.
    tags = events.Tags()["scalars"]
    points = {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in tags}
    points |= {tag: sorted((event.step, 0.0) for event in events.Images(tag)) for tag in events.Tags()["images"]}
    return {tag: [(step, 0.0) for step, _ in some] if tag in timed else some for tag, some in points.items()}


def torch_schedule(name: str) -> list[str]:
    return ["~scheduler.warmup_fraction", f"scheduler._target_=torch.optim.lr_scheduler.{name}"]


@pytest.mark.parametrize(
    ("arguments", "batches"),
    [
        ([], [0, 5, 6, 11]),
        (["trainer.val_check_interval=2"], [2, 7]),
        (["trainer.accumulate_grad_batches=4"], [3, 9]),
        (["trainer.max_epochs=-1", "trainer.max_steps=15"], [6, 13]),
        (["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3"], [7]),
        (["callbacks.checkpoint.every_n_minutes=null"], [8]),
        (AVERAGED, [0, 8]),
        (["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=8"], [8]),
        ([*torch_schedule("StepLR"), "+scheduler.step_size=1", "+scheduler.gamma=0.3"], [4, 6]),
        ([*torch_schedule("ReduceLROnPlateau"), "+scheduler.patience=0", "+scheduler.threshold=9"], [4, 6]),
    ],
)
def test_resume_after_kill_gives_identical_weights(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, arguments: list[str], batches: list[int]
) -> None:
    """In any step, including the first and the last of an epoch."""
    whole = whole_runs(*SMALL, *arguments)
    for batch in batches:
        run = shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / f"killed-{batch}")
        answer = command(*SMALL, *arguments, f"name=killed-{batch}")
        assert answer.code == 0, answer.err
        assert_same_run(whole, run)


@pytest.mark.parametrize(
    ("minutes", "position"), [("1e-9", "within epoch 2, step 8"), ("null", "end of epoch 1, step 6")]
)
def test_the_log_says_where_in_an_epoch_training_resumes(command: Command, minutes: str, position: str) -> None:
    arguments = [*SMALL, f"callbacks.checkpoint.every_n_minutes={minutes}", "name=killed"]
    with killed_at(8):
        command(*arguments)
    assert f"last.ckpt ({position})" in command(*arguments).out


def test_total_seconds_count_the_processes_before_a_resume(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As train_seconds do, which otherwise could exceed them; up to the checkpoint that the run resumes from."""
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 9), tmp_path / "outputs" / "killed")
    earlier = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["total_seconds"]
    assert earlier > 0
    monkeypatch.setattr(TotalTime, "seconds", lambda self: self.earlier)
    assert command(*SMALL, "name=killed").code == 0
    assert json.loads((run / "result.json").read_text())["total_seconds"] == round(earlier, 3)


@pytest.mark.parametrize("batch", [0, 9])
def test_resume_logs_every_image_once(command: Command, tmp_path: Path, whole_runs: WholeRuns, batch: int) -> None:
    """Plots do not change the weights."""
    run = shutil.copytree(killed_run(whole_runs(*PICTURED), batch), tmp_path / "outputs" / "killed")
    assert command(*PICTURED, "name=killed").code == 0
    assert_same_run(whole_runs(*PICTURED), run)
    assert whole_runs(*PICTURED).joinpath("mistakes.png").exists()
    weights = [
        torch.load(whole_runs(*arguments) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for arguments in (SMALL, PICTURED)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_run_killed_during_its_test_is_tested_again(command: Command, tmp_path: Path, whole_runs: WholeRuns) -> None:
    """It does not train again; the result has the metrics of the last epoch."""
    whole = whole_runs(*SMALL)

    def killed(*_: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_test_epoch_end", killed)
        with pytest.raises(Killed):
            command(*SMALL, "name=killed")
    answer = command(*SMALL, "name=killed")
    assert answer.code == 0
    assert "epoch 2/2" not in answer.out
    assert_same_run(whole, tmp_path / "outputs" / "killed")


def test_resume_writes_every_csv_row_once(command: Command, tmp_path: Path) -> None:
    """Even if columns were added after the checkpoint, by the next steps or by the test."""

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / "outputs" / name / "csv" / "metrics.csv").open() as file:
            table = list(csv.DictReader(file))
        timed = ("epoch_seconds", "images_per_second", "gpu_memory_mb")
        return [{key: value for key, value in row.items() if key not in timed} for row in table]

    few = [*SMALL, "logger=csv"]
    assert command(*few, "name=whole").code == 0
    with killed_at(9):
        command(*few, "name=killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            command(*few, "name=killed")
    assert rows("killed") == rows("whole")
    assert command(*few, "name=killed").code == 0
    assert rows("killed") == rows("whole")


def test_a_corrupt_checkpoint_falls_back_to_the_previous_one(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """It is logged, and the result is bit-identical; without an intact checkpoint, training starts over."""
    whole = whole_runs(*SMALL)
    for corrupt in (["last.ckpt"], ["last.ckpt", "previous.ckpt"], ["best.ckpt"]):
        name = f"corrupt-{len(corrupt)}-{corrupt[0][:4]}"
        run = shutil.copytree(killed_run(whole, 9), tmp_path / "outputs" / name)
        for file in (run / "checkpoints" / file for file in corrupt):
            content = bytearray(file.read_bytes())
            middle = len(content) // 2
            for index in range(middle, middle + 128):  # more than the 64 bytes of padding
                content[index] ^= 1
            file.write_bytes(content)
        answer = command(*SMALL, f"name={name}")
        assert answer.code == 0, answer.err
        assert re.search(rf"corrupt checkpoint.*{corrupt[0]}", answer.out)
        assert_same_run(whole, run)


def test_resume_needs_only_the_folder(command: Command, tmp_path: Path, whole_runs: WholeRuns) -> None:
    """The folder may be moved and renamed; further settings are rejected.

    The result records the command that started the run, which repeats it.
    """
    whole = whole_runs(*SMALL)
    moved = shutil.copytree(killed_run(whole, 9), tmp_path / "lr=0.1, moved (again)")
    rejected = command(f"resume={moved}", "seed=1")
    assert (rejected.code, "remove seed=1" in rejected.err) == (2, True), rejected.err
    assert command(f"resume={moved}").code == 0
    assert_same_run(whole, moved)
    assert json.loads((moved / "result.json").read_text())["command"].startswith(f"python src/train.py {SMALL[0]}")
    assert "finished before" in command(f"resume={moved}").out
    assert command(f"resume={tmp_path}").code == 2


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_of_another_run_of_the_same_shape_is_refused(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, name: str
) -> None:
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 9), tmp_path / "outputs" / "first")
    shutil.copy(killed_run(whole_runs(*PICTURED), 9) / "checkpoints" / name, run / "checkpoints" / name)
    answer = command(*SMALL, "name=first")
    assert answer.code == 2
    assert f"{name}: belongs to another run than {run / 'config.yaml'}" in answer.err
    assert "model.weights=FILE" in answer.err


def test_overwrite_keeps_the_previous_run_until_the_first_checkpoint(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    run = shutil.copytree(whole_runs(*SMALL), tmp_path / "outputs" / "first")
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    overwrite = [*SMALL, "name=first", "seed=1", "trainer.max_epochs=1", "overwrite=true"]
    for _ in range(2):  # a second failure does not touch the first run either
        with killed_at(0):
            command(*overwrite)
        assert (run / ".replaced" / "checkpoints" / "best.ckpt").read_bytes() == before
    assert command(*overwrite).code == 0
    assert not (run / ".replaced").exists()
    assert json.loads((run / "result.json").read_text())["seed"] == 1


class Trap:
    """An object that writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["last.ckpt", "previous.ckpt", "best.ckpt"])
@pytest.mark.parametrize("as_archive", [True, False])
def test_a_malicious_checkpoint_is_rejected_without_running_its_code(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, name: str, as_archive: bool
) -> None:
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 9), tmp_path / "outputs" / "first")
    checkpoints = run / "checkpoints"
    if name == "previous.ckpt":
        (checkpoints / "last.ckpt").unlink()
    (checkpoints / name).unlink()
    trap = Trap(tmp_path / "executed")
    if as_archive:
        torch.save({"state_dict": trap}, checkpoints / name)
    else:
        (checkpoints / name).write_bytes(pickle.dumps(trap))
    answer = command(*SMALL, "name=first")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert name in answer.err
    assert not (tmp_path / "executed").exists()


def started(run: Path, *arguments: str) -> Process:
    """Start a run in this folder and return its process once it has saved a checkpoint."""
    process = Process(*arguments, f"name={run.name}", f"outputs={run.parent}")
    wait_until((run / "checkpoints" / "last.ckpt").exists, process)
    return process


def test_a_second_signal_exits_immediately() -> None:
    shutdown = GracefulShutdown()
    shutdown.on_signal(signal.SIGINT, None)
    with pytest.raises(SystemExit) as stop:
        shutdown.on_signal(signal.SIGINT, None)
    assert stop.value.code == 130


def test_the_own_signal_of_a_rank_that_stops_for_another_is_not_a_second_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A launcher signals one rank after the other; here, while this one saves the checkpoint."""
    shutdown, saved = GracefulShutdown(), []

    def save_last(*_: Any) -> None:
        shutdown.on_signal(signal.SIGTERM, None)
        saved.append(True)

    monkeypatch.setattr(graceful_shutdown, "all_reduce_max", lambda _: 143)
    monkeypatch.setattr(graceful_shutdown, "is_resumable_step", lambda _: True)
    monkeypatch.setattr(BestLastCheckpoint, "save_last", save_last)
    checkpoint = BestLastCheckpoint(str(tmp_path), "val/accuracy", "max", None)
    trainer: Any = SimpleNamespace(checkpoint_callback=checkpoint, current_epoch=0, global_step=1)
    with pytest.raises(SystemExit) as stop:
        shutdown.on_train_batch_end(trainer, BoringModel(), None, None, 0)
    assert saved
    assert stop.value.code == 143


def test_a_signal_after_the_last_step_ends_the_run_before_its_test(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """It resumes with the test."""
    run = tmp_path / "outputs" / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_train_end", lambda _: signal.raise_signal(signal.SIGTERM))
        assert command(*SMALL, "name=stopped").code == 143
    assert not (run / "result.json").exists()
    assert command(*SMALL, "name=stopped").code == 0
    assert_same_run(whole_runs(*SMALL), run)


def test_signals_have_their_former_handlers_again_after_training(tmp_path: Path) -> None:
    """The test and the report follow, which have no step to finish."""
    before = {number: signal.getsignal(number) for number in EXIT_CODES}
    during: dict[int, Any] = {}

    class Watch(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            during.update({number: signal.getsignal(number) for number in EXIT_CODES})

    silence_lightning()
    shutdown = GracefulShutdown()
    trainer = Trainer(
        accelerator="cpu", fast_dev_run=True, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[shutdown, Watch()],
    )  # fmt: skip
    trainer.fit(BoringModel())
    assert set(during.values()) == {shutdown.on_signal}
    assert {number: signal.getsignal(number) for number in EXIT_CODES} == before


LONG = [argument for argument in SMALL if "max_epochs" not in argument] + ["trainer.max_epochs=10"]


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGINT, 130),
        pytest.param(signal.SIGUSR1, 143, marks=pytest.mark.torture),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.torture),
    ],
)
def test_a_signal_stops_a_run_that_can_be_resumed(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, number: signal.Signals, exit_code: int
) -> None:
    """With a real process, which saves a checkpoint and logs its path, except after SIGKILL.

    While it runs, a second process in the same folder is rejected.
    """
    process = started(tmp_path / "outputs" / "stopped", *LONG)
    rejected = command(*LONG, "name=stopped")
    os.kill(process.pid, number)
    out, err = process.communicate()
    assert process.returncode == exit_code, err
    assert not (tmp_path / "outputs" / "stopped" / "result.json").exists()
    assert (rejected.code, f"process {process.pid} on" in rejected.err) == (2, True), rejected.err
    if number != signal.SIGKILL:
        assert "interrupted at step" in out
        assert "run the same command to resume" in out
        assert "Traceback" not in err
    answer = command(*LONG, "name=stopped")
    assert answer.code == 0, answer.err
    assert "resuming from" in answer.out
    assert_same_run(whole_runs(*LONG), tmp_path / "outputs" / "stopped")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_random_dataset_gives_the_same_images_after_resume(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, workers: int
) -> None:
    """A dataset without a cache, loaded in this process or by workers."""
    own = ["data=custom", "data.dataset._target_=test_resume.Noise", f"data.num_workers={workers}", *SMALL[1:]]
    own += ["data.batch_size=8", "data.mean=[0.5]", "data.std=[0.5]"]
    whole = whole_runs(*own)
    run = shutil.copytree(killed_run(whole, 9), tmp_path / "outputs" / "killed")
    answer = command(*own, "name=killed")
    assert answer.code == 0, answer.err
    assert_same_run(whole, run)


class Noise(Dataset[tuple[torch.Tensor, int]]):
    """100 images that are random at every access, by the generators of torch, Python and NumPy."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        noise = torch.rand(1, 16, 16) * random.random() + torch.from_numpy(np.random.rand(1, 16, 16)).float()
        return noise / 2, index % 2


def test_files_of_the_user_in_the_run_folder_are_kept(command: Command, tmp_path: Path, whole_runs: WholeRuns) -> None:
    """After a resume and with overwrite=true; in tensorboard/ after a resume."""
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 9), tmp_path / "outputs" / "first")
    notes = [run / name for name in ("notes.txt", "tensorboard/notes.txt")]
    for note in notes:
        note.write_text("mine")
    assert command(*SMALL, "name=first").code == 0
    assert all(note.read_text() == "mine" for note in notes)
    assert command(*SMALL, "name=first", "trainer.max_epochs=1", "overwrite=true").code == 0
    assert notes[0].read_text() == "mine"


def test_a_checkpoint_truncates_only_logs_in_the_run_folder(tmp_path: Path) -> None:
    """A checkpoint records the sizes to which logs are truncated; it may come from elsewhere and name other files."""
    run = tmp_path / "run"
    names = ["../thesis.csv", "checkpoints/best.ckpt", "notes/thesis.txt", "table.csv", "csv/kept.csv"]
    logs = ["csv/metrics.csv", "csv/newer.csv", "tensorboard/events.out.tfevents.1", "mine/events.out.tfevents.2"]
    for name in [*names, *logs]:
        file = run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a\nb\nc\n")
    sizes: dict[str, Any] = {**dict.fromkeys([*names, str(tmp_path / "thesis.csv")], 0), "csv/kept.csv": 9}
    sizes |= {"csv/metrics.csv": 2, "csv/newer.csv": "text", "mine/events.out.tfevents.2": 3}
    truncate_logs(run, sizes)
    assert all((run / name).read_text() == "a\nb\nc\n" for name in names)
    texts = [(run / name).read_text() if (run / name).exists() else None for name in logs]
    assert texts == ["a\nb\n", None, None, "a\nb"]


def test_a_checkpoint_without_sizes_of_logs_is_rejected(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 9), tmp_path / "outputs" / "first")
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    last.unlink()
    torch.save({**checkpoint, "log_files": ["x"]}, last)
    answer = command(*SMALL, "name=first")
    assert (answer.code, "last.ckpt: not a checkpoint of this project" in answer.err) == (2, True), answer.err


def test_an_unusable_file_in_the_run_folder_is_a_one_line_error(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """The error names the file, before training starts."""
    run = shutil.copytree(whole_runs(*SMALL), tmp_path / "outputs" / "first")
    (run / "result.json").write_text('{"a":')
    answers = [(command(*SMALL, "name=first"), "result.json")]
    (run / "result.json").unlink()
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").symlink_to(tmp_path)
    answers.append((command(*SMALL, "name=first"), "tensorboard"))
    (run / "tensorboard").unlink()
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "checkpoints" / "last.ckpt").mkdir()
    answers.append((command(*SMALL, "name=first"), "last.ckpt"))
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("a file")
    answers.append((command(*SMALL, "name=first"), "checkpoints"))
    (run / "config.yaml").write_text("seed: 0\ncallbacks: null\n")
    answers.append((command(f"resume={run}"), "config.yaml"))
    (run / "config.yaml").write_text("a: " + "[" * 3000)
    answers.append((command(f"resume={run}"), "config.yaml"))
    (run / "config.yaml").write_text("a: &x\n  b: *x\n")
    answers.append((command(f"resume={run}"), "config.yaml"))
    for answer, name in answers:
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert name in answer.err
