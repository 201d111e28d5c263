"""With several ranks on a machine, an error is one line, and a signal ends all of them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import epochs_trained, wait_until
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from test_distributed import STEPS, TWO, started

FEW = [argument for argument in STEPS if "losses" not in argument and "max_epochs" not in argument]
ONE_BATCH = [f"trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]


def test_a_lost_rank_is_reported_in_one_line(tmp_path: Path) -> None:
    """The message says how to resume."""
    run = tmp_path / "outputs" / "two"
    process = started(tmp_path, *FEW, *TWO, "trainer.devices=2", "trainer.max_epochs=500", "name=two", processes=1)
    wait_until(lambda: epochs_trained(run) >= 2, process)
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(other), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.count("\n") == 1, err
    assert "another rank of the training ended" in err
    assert "rerun the same command to resume" in err


def test_a_mistake_that_all_ranks_find_is_printed_once(tmp_path: Path) -> None:
    process = started(tmp_path, *FEW, *TWO, "trainer.devices=2", "data.batch_size=63", "name=two", processes=1)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.count("\n") == 1, err
    assert "data.batch_size=63" in err


class SignalInCollective(Callback):
    """Sends SIGTERM to rank 0, in the hook `when`, while rank 1 waits for it in a collective."""

    def __init__(self, file: str, when: str) -> None:
        self.is_waiting = Path(file)
        setattr(self, when, self.stop)

    def stop(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.is_global_zero:
            while not self.is_waiting.exists():
                os.sched_yield()
            os.kill(os.getpid(), signal.SIGTERM)
        self.is_waiting.touch()
        trainer.strategy.barrier()


@pytest.mark.parametrize("when", ["on_fit_start", "on_train_start", "on_fit_end", "on_test_start"])
def test_sigterm_ends_a_rank_that_waits_for_another(tmp_path: Path, when: str) -> None:
    """Before the first step and after the last, where there is no step to finish."""
    node = {"_target_": "test_lost_rank.SignalInCollective", "file": str(tmp_path / "waiting"), "when": when}
    callback = [f"+callbacks.signal.{key}={value}" for key, value in node.items()]
    process = started(
        tmp_path, *FEW, *ONE_BATCH, *TWO, "trainer.devices=2", "trainer.max_epochs=1", "name=two", *callback,
        processes=1,
    )  # fmt: skip
    _, err = process.communicate()
    assert (process.returncode, err) == (143, "")
    assert not (tmp_path / "outputs" / "two" / "result.json").exists()
