"""With several ranks on a machine, an error is one line."""

import os
import signal
from pathlib import Path

from conftest import epochs_trained, wait_until
from test_distributed import STEPS, TWO, started

FEW = [argument for argument in STEPS if "losses" not in argument and "max_epochs" not in argument]


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
