"""bench=budget: the parts of a training add up to the time of its command, and the bar shows them in proportion."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Command
from conftest import Process as ForkedProcess

from pytorch_intro.benchmarks import budget
from pytorch_intro.benchmarks.budget import WIDTH, bar
from pytorch_intro.benchmarks.harness import Process
from pytorch_intro.benchmarks.stack_sampler import FUNCTIONS, PARTS

SMALL = ["data=sample", "trainer.max_epochs=2", "data.batch_size=64", "trainer.threads=1"]


def run_forked(command: list[str]) -> Process:
    """Run a command in a process that is forked from one with torch and Lightning, which is faster."""
    _, sampler, file, start, _, *arguments = command
    started = time.perf_counter()
    process = ForkedProcess(*arguments, launcher=(sampler, file, start))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return Process(time.perf_counter() - started, 0, "")


@pytest.mark.parametrize(
    ("arguments", "present", "absent"),
    [
        (
            ["experiment=fast", "callbacks.tensorboard=null", "trainer.log_every_n_steps=1"],
            ["augmentation", "logging, progress", "checkpoints", "plots, model card", "TensorBoard"],
            [],
        ),
        (["callbacks=none", "logger=none", "model.width=4"], [], ["plots, model card", "TensorBoard"]),
    ],
)
def test_the_parts_add_up_to_the_time_of_the_command(
    script: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    present: list[str],
    absent: list[str],
) -> None:
    monkeypatch.setattr(budget, "run_process", run_forked)
    given = f"bench.arguments={[*SMALL, *arguments]}"
    answer = script("bench", "bench=budget", "bench.rounds=1", "trainer=cpu", given, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    seconds, parts = figures["median"]["seconds"], figures["median"]["parts"]
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) == pytest.approx(seconds)
    always = [
        "other imports",
        "config",
        "setup",
        "data",
        "first step",
        "forward",
        "backward",
        "optimizer",
        "validation",
    ]
    assert all(parts[name] > 0 for name in [*always, "test", "result", *present]), parts
    assert all(parts[name] == 0 for name in absent)
    assert parts["other"] < 0.2 * seconds, parts
    assert figures["bar"] in answer.out.splitlines()
    assert f"  F forward             {parts['forward']:>8.2f} s" in answer.out


def test_the_bar_has_letters_in_proportion_to_the_parts() -> None:
    parts = {"import torch": 3.0, "forward": 2.0, "backward": 4.96, "exit": 0.04}
    counts = Counter(bar(parts))
    assert counts == {"t": 30, "F": 20, "B": 50}
    assert bar(parts) == "t" * 30 + "F" * 20 + "B" * 50
    assert len(bar(dict.fromkeys(PARTS, 1 / 3))) == WIDTH


def test_each_part_has_its_own_letter() -> None:
    assert len(set(PARTS.values())) == len(PARTS)
    assert {part for *_, part in FUNCTIONS} <= PARTS.keys()


def test_wrong_arguments_are_reported_before_the_first_run(
    script: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(budget, "run_process", None)
    answer = script("bench", "bench=budget", "trainer=cpu", "bench.arguments=['model.with=3']", f"outputs={tmp_path}")
    assert answer.code == 2
    assert answer.err.startswith("error: model.with: unknown setting"), answer.err
