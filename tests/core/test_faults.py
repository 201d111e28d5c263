"""Failures that are not user mistakes exit with code 1 and one line, and the run can be resumed."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, Process, WholeRuns, compose
from explained import assert_explained
from test_resume import PICTURED, SMALL, assert_same_run
from torch.utils.data import Dataset, get_worker_info

from pytorch_intro.cli.explain import explain_fault
from pytorch_intro.training.callbacks.nan_guard import TerminateOnNaN


def test_run_resumes_after_a_full_disk(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
) -> None:
    """The checkpoint of the second epoch does not fit; the first one stays intact."""
    few = [argument for argument in SMALL if "every_n_minutes" not in argument]
    run = tmp_path / "outputs" / "full"
    outputs = f"outputs={tmp_path / 'outputs'}"
    whole = whole_runs(*few)
    size = (whole / "checkpoints" / "last.ckpt").stat().st_size
    process = Process(*few, "name=full", outputs, largest_file=size - 20_000)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert "larger than the system allows" in err
    assert not (run / "result.json").exists()
    assert not list((run / "checkpoints").glob(".*")), "no incomplete file is left"
    answer = command(*few, "name=full")
    assert answer.code == 0, answer.err
    assert_same_run(whole, run)


def test_full_disk_for_tensorboard_is_reported_in_one_line(tmp_path: Path) -> None:
    """The error occurs in another thread."""
    process = Process(*PICTURED, "name=full", f"outputs={tmp_path / 'outputs'}", largest_file=200_000)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.count("\n") == 1, err
    assert "larger than the system allows" in err


def mount(*options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", *options], check=True, capture_output=True)


def test_run_resumes_after_a_full_file_system_is_enlarged(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
) -> None:
    """On a real file system with space for one checkpoint, if mounting is allowed."""
    few = [argument for argument in SMALL if "every_n_minutes" not in argument]
    whole = whole_runs(*few)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    size = int(1.7 * (whole / "checkpoints" / "last.ckpt").stat().st_size)
    try:
        mount("-o", f"size={size}", "none", str(outputs))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed")
    try:
        failed = command(*few, "name=full")
        assert (failed.code, failed.err.count("\n")) == (1, 1), failed.err
        assert "the disk is full" in failed.err
        assert not (outputs / "full" / "result.json").exists()
        mount("-o", "remount,size=20m", "none", str(outputs))
        answer = command(*few, "name=full")
        assert answer.code == 0, answer.err
        assert "(end of epoch 1, step 6)" in answer.out
        assert_same_run(whole, outputs / "full")
    finally:
        subprocess.run(["umount", "-l", str(outputs)], check=True)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_nan_loss_stops_the_run(command: Command, tmp_path: Path, precision: str) -> None:
    """The message has the step, the learning rate and a remedy."""
    wild = ["optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", f"trainer.precision={precision}"]
    answer = command("data=sample", "trainer=cpu", *wild, "name=wild")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    diverged = r"step \d+.*\b1e\+30\b"
    assert_explained(answer.err, wild, ["train/loss"], diverged, r"optimizer\.lr.*trainer\.gradient_clip_val")
    assert not list((tmp_path / "outputs" / "wild" / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("validates", [True, False])
def test_diverged_run_keeps_its_last_good_checkpoint(command: Command, tmp_path: Path, validates: bool) -> None:
    """A weight becomes infinite in the last step of the second epoch, whose loss was still finite.

    The validation loss shows it, or without validation the weights, before the checkpoint is written.
    """

    def spoil(self: Any, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(float("inf"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TerminateOnNaN, "on_train_batch_end", spoil)
        validation = [] if validates else ["trainer.limit_val_batches=0"]
        answer = command(*SMALL, *validation, "callbacks.checkpoint.every_n_minutes=null", "name=first")
    assert answer.code == 1
    assert ("error: val/loss: NaN or inf" if validates else "error: weights: NaN or inf") in answer.err
    last = tmp_path / "outputs" / "first" / "checkpoints" / "last.ckpt"
    assert str(last) in answer.err
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["epoch"] == 0
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_nan_guard_does_not_synchronize_with_the_device() -> None:
    """The first bad step stays on the device until the epoch ends; a meta tensor could not be read."""

    class Step:
        global_step = 7

    stop = TerminateOnNaN()
    loss = torch.empty((), device="meta")
    stop.on_train_batch_end(Step(), None, {"loss": loss}, None, 0)  # type: ignore[arg-type]
    stop.on_train_batch_end(Step(), None, {"loss": loss}, None, 0)  # type: ignore[arg-type]
    assert stop.first_bad is not None
    assert stop.first_bad.device.type == "meta"
    assert stop.first_bad.dtype == torch.int64


def test_out_of_memory_suggests_smaller_batches() -> None:
    config = compose("data=sample", "data.batch_size=512")
    errors = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, …)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory: …"),
        MemoryError(),
    ]
    for error in errors:
        line = explain_fault(error, config)
        assert line
        assert "try data.batch_size=256" in line
    assert explain_fault(RuntimeError("something else"), config) is None


@pytest.mark.parametrize("function", ["training.hardware.resolve_hardware", "config.resolvers.checked_name"])
def test_ctrl_c_during_an_import_exits_quietly(
    command: Command, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """In the task, and while its config is composed.

    Whatever error the import makes of the interrupt: NumPy raises an ImportError, torch a RecursionError.
    """

    def interrupted(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    with monkeypatch.context() as patch:
        patch.setattr(f"pytorch_intro.{function}", interrupted)
        answer = command(*SMALL, "name=first")
    assert (answer.code, answer.err) == (130, "")
    assert command(*SMALL, "trainer.fast_dev_run=true").code == 0


class KillsItsWorker(Dataset[tuple[torch.Tensor, int]]):
    """A dataset whose 50th image kills the worker process that loads it."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 50 and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.rand(1, 16, 16) / 2, index % 2


def test_killed_worker_is_reported(command: Command) -> None:
    custom = ["data=custom", "data.dataset._target_=test_faults.KillsItsWorker", "data.num_workers=2", *SMALL[1:]]
    answer = command(*custom, "data.mean=[0.5]", "data.std=[0.5]", "data.in_memory=false", "data.batch_size=8")
    assert answer.code == 1
    assert_explained(answer.err, custom, ["data.num_workers=2"], "was killed", r"\bfree\b|\bmemory\b|fewer")
