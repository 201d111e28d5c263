"""The line about the progress of a run: its content, and where it is a bar, a log line or nothing."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from test_resume import SMALL

from pytorch_intro.training.callbacks import progress_bar
from pytorch_intro.training.callbacks.progress_bar import ProgressBar

LINE = r"epoch 2/2, step 8/12, \d\d:\d\d left, loss \d\.\d{3}, val/accuracy 0\.\d{4}, [\d,]+ images/s"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bar, "is_interactive", lambda: True)


def test_a_terminal_shows_one_line_that_is_updated(command: Command, tmp_path: Path, terminal: None) -> None:
    answer = command(*SMALL, "callbacks.progress_bar.refresh_rate=2", "name=first")
    assert answer.code == 0
    assert re.search(f"\r{LINE}", answer.out)
    assert "\repoch 1/2, validation 2/2" in answer.out
    assert "\rtest 2/2" in answer.out
    assert "epoch 1/2, step 2/12, " in answer.out
    assert "progress:" not in (tmp_path / "outputs" / "first" / "train.log").read_text()
    assert re.search(r"\repoch 1/2: train/loss .* images/s\n", answer.out), "log lines have lines of their own"


def test_a_file_gets_log_lines_without_a_bar(command: Command, tmp_path: Path) -> None:
    """Here after every step; by default a line a minute, so that a short run has none."""
    answer = command(*SMALL, "callbacks.progress_bar.log_every_n_minutes=1e-9", "name=first")
    log = (tmp_path / "outputs" / "first" / "train.log").read_text()
    for text in (answer.out, log):
        assert re.search(rf"progress: {LINE}\n", text)
        assert re.search(r"progress: epoch 1/2, validation 1/2\n", text)
        assert re.search(r"progress: test 2/2\n", text)
        assert "\r" not in text
    assert "progress:" not in command(*SMALL, "name=second").out
    silent = command(*SMALL, "callbacks.progress_bar.log_every_n_minutes=null", "name=third")
    assert "progress:" not in silent.out


def test_a_notebook_shows_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ProgressBar().is_interactive
    stream: Any = type("OutStream", (), {"__module__": "ipykernel.iostream", "isatty": lambda _: False})()
    monkeypatch.setattr(sys, "stdout", stream)
    assert ProgressBar().is_interactive


def test_without_an_end_there_is_no_time_left_unless_the_time_is_limited(command: Command) -> None:
    few = [*SMALL, "trainer.max_epochs=-1", "scheduler=constant", "callbacks.progress_bar.log_every_n_minutes=1e-9"]
    answer = command(*few, "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "name=first")
    assert re.search(r"progress: epoch 1, step 3, loss", answer.out)
    assert "left" not in answer.out
    limited = command(*few, "trainer.max_time=00:00:00:02", "name=second")
    assert re.search(r"progress: epoch 1, step 3, 00:0[01] left, loss", limited.out)
