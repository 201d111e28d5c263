"""A warning when training becomes several times slower than it was."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pytorch_intro.reports.slow_steps import SlowStepWarning


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def steps(monkeypatch: pytest.MonkeyPatch, callback: SlowStepWarning, seconds: float, count: int, device: str) -> None:
    """Let the callback see steps that take so long."""
    clock = iter([0.0, *(seconds * (number + 1) for number in range(count))])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    trainer, module = cast(Any, None), cast(Any, SimpleNamespace(device=torch.device(device)))
    callback.on_train_epoch_start(trainer, module)
    for _ in range(count):
        callback.on_train_batch_end(trainer, module, None, None, 0)


@pytest.mark.parametrize(("slow", "warnings"), [(0.25, 0), (0.5, 1)])
def test_steps_that_become_several_times_slower_are_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, slow: float, warnings: int
) -> None:
    callback = SlowStepWarning()
    monkeypatch.setattr(callback.monitor, "cores_used_by_others", lambda: 0.9)
    torch.set_num_threads(2)
    for seconds in (0.1, slow, slow):
        steps(monkeypatch, callback, seconds, 40, "cpu")
    assert caplog.text.count("times as long as before") == warnings
    assert caplog.text.count("start runs with trainer.threads=1") == warnings


def test_slow_steps_without_other_programs_have_another_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    callback = SlowStepWarning()
    monkeypatch.setattr(callback.monitor, "cores_used_by_others", lambda: 0.1)
    for seconds in (0.1, 0.5):
        steps(monkeypatch, callback, seconds, 40, "cpu")
    assert "lack of memory" in caplog.text
    assert "trainer.threads" not in caplog.text


def test_steps_on_other_devices_are_not_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    callback = SlowStepWarning()
    for seconds in (0.1, 0.5):
        steps(monkeypatch, callback, seconds, 40, "meta")
    assert caplog.text == ""
