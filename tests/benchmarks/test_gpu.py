"""bench=gpu: each step runs on a CPU with tiny sizes, saves its figures at once, and is not repeated."""

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer, Command, Killed, run_here
from conftest import Process as ForkedProcess
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

from pytorch_intro.benchmarks import gpu, gpu_steps, reporting_overhead
from pytorch_intro.benchmarks.gpu_steps import GpuCheck, Step, copy_photos, list_steps, write_fold
from pytorch_intro.benchmarks.harness import Process, run_process
from pytorch_intro.training.classifier import Classifier

SMALL = ["bench=gpu", "trainer.accelerator=cpu", "trainer.threads=1", "~bench.recipes"]
SMALL += ["+bench.recipes={default: 2}", "bench.cold_runs=1", "bench.folds=1"]
Runs = list[tuple[str, dict[str, Any]]]


def run_quickly(command: list[str], timeout: float | None = None) -> Process:
    """Run a command in this process; one that exits in a step, or that sets up ranks, in a forked one."""
    started, output = time.perf_counter(), ""
    if "pytest" in command:
        return Process(1.0, 0, ".s\n=== 1 passed, 1 skipped in 0.01s ===\n")
    name, arguments = Path(command[1]).stem, command[2:]
    if name == "export":  # takes ten seconds; tests/inference/test_export.py runs it
        lines = [f"{file:<11} agrees with PyTorch on 400 test images" for file in ("model.onnx", "model.pt2")]
        return Process(1.0, 0, "\n".join(lines))
    if "trainer=ddp" in arguments or ("+callbacks.exit.step=9" in arguments and not resumed(arguments)):
        process = ForkedProcess(*arguments)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    else:
        config = HydraConfig.instance().cfg
        GlobalHydra.instance().clear()
        output = run_here(name, *arguments)
        HydraConfig.instance().cfg = config
    return Process(time.perf_counter() - started, 0, output)


def resumed(arguments: list[str]) -> bool:
    (outputs,) = [argument.partition("=")[2] for argument in arguments if argument.startswith("outputs=")]
    return Path(outputs, "resumed").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_step_runs_on_a_cpu_and_says_what_exists_on_cuda_only(
    script: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With tiny sizes, on the sample data; the second call repeats nothing."""
    for module in (gpu_steps, reporting_overhead):
        monkeypatch.setattr(module, "run_process", run_quickly)
    answer = script("bench", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 0, answer.out + answer.err
    folder = tmp_path / "gpu"
    names = list(list_steps({"default": 2}, 1, 1))
    saved = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    assert all(each["is_complete"] and each["is_tiny"] for each in saved.values())
    assert all(each["device"].startswith("cpu, ") and each["commit"] for each in saved.values())
    table = (folder / "README.md").read_text()
    assert "tiny sizes: not for comparisons of speed" in table
    for row in ("1 passed, 1 skipped", "the same bits in", "test/loss with DDP", "model.onnx", "n=2", "plots and logs"):
        assert row in table, row
    for line in ("set_sync_debug_mode needs CUDA", "the tests on CUDA: no such device", "FSDP: ", "busy share"):
        assert line in answer.out, line
        assert line in table, line
    assert [len(saved[name]["figures"]["runs"]) for name in ("warm_default", "cold_default", "gradual")] == [2, 1, 1]
    assert saved["warm_default"]["figures"]["runs"][0]["train_seconds"] > 0
    assert saved["speed"]["figures"]["flop"] > 0

    monkeypatch.setattr(gpu_steps, "run_process", None)
    answer = script("bench", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    assert answer.out.count("done before") == len(names)


@pytest.fixture
def runs() -> Runs:
    """Return a list of what runs, with the figures that it continues from."""
    return []


@pytest.fixture
def steps(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> dict[str, Step]:
    """Replace the steps by first, seeds (three of them) and last."""

    def single(name: str, figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
        runs.append((name, dict(figures)))
        yield {"rows": {f"quantity of {name}": "1.5 s"}}

    def seeds(check: object, figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
        found = list(figures.get("runs", []))
        for seed in range(len(found), 3):
            runs.append((f"seed {seed}", dict(figures)))
            found.append({"seed": seed})
            yield {"runs": list(found), "rows": {"seeds": f"n={len(found)}"}}

    steps = {
        "first": Step(10, lambda _, figures: single("first", figures)),
        "seeds": Step(10, seeds),
        "last": Step(10, lambda _, figures: single("last", figures)),
    }
    monkeypatch.setattr(gpu, "list_steps", lambda *_: steps)
    return steps


@pytest.fixture
def bench_gpu(script: Command, tmp_path: Path) -> Command:
    def run(*arguments: str) -> Answer:
        return script("bench", *SMALL, f"outputs={tmp_path}", *arguments)

    return run


def names_of(runs: Runs) -> list[str]:
    """Return the names of what ran, and forget it."""
    names = [name for name, _ in runs]
    runs.clear()
    return names


def test_a_step_that_fails_is_named_and_does_not_lose_the_others(
    bench_gpu: Command, runs: Runs, steps: dict[str, Step], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exit code is 1; the next call repeats this step only."""

    def fail(check: object, figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
        raise ZeroDivisionError("nothing to divide by")

    with monkeypatch.context() as patch:
        patch.setitem(steps, "seeds", Step(10, fail))
        answer = bench_gpu()
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("error: bench=gpu: failed: seeds, see above; a rerun repeats only")
    assert "seeds: failed: ZeroDivisionError: nothing to divide by" in answer.out
    assert names_of(runs) == ["first", "last"]
    table = (tmp_path / "gpu" / "README.md").read_text()
    assert "| last | quantity of last | 1.5 s |" in table
    assert "- seeds: failed: ZeroDivisionError" in table
    assert bench_gpu().code == 0
    assert names_of(runs) == ["seed 0", "seed 1", "seed 2"]


@pytest.mark.parametrize(("end", "code"), [(Killed, None), (KeyboardInterrupt, 130)])
def test_a_killed_check_continues_with_the_seed_that_is_missing(
    bench_gpu: Command,
    runs: Runs,
    steps: dict[str, Step],
    monkeypatch: pytest.MonkeyPatch,
    end: type[BaseException],
    code: int | None,
) -> None:
    whole = steps["seeds"]

    def interrupted(check: Any, figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for found in whole.run(check, figures):
            if len(found["runs"]) == 3:
                raise end
            yield found

    with monkeypatch.context() as patch:
        patch.setitem(steps, "seeds", Step(10, interrupted))
        if code is None:
            with pytest.raises(end):
                bench_gpu()
        else:
            assert bench_gpu().code == code
    assert names_of(runs) == ["first", "seed 0", "seed 1", "seed 2"]
    assert bench_gpu().code == 0
    assert runs[0] == ("seed 2", {"runs": [{"seed": 0}, {"seed": 1}], "rows": {"seeds": "n=2"}})
    assert names_of(runs) == ["seed 2", "last"]


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("function", "value", "changed"), [("hash_code", "0123", "code"), ("device_name", "another CPU", "device")]
)
def test_figures_of_other_code_or_of_another_device_are_not_reused(
    bench_gpu: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch, function: str, value: str, changed: str
) -> None:
    bench_gpu("bench.steps=[first]")
    names_of(runs)
    monkeypatch.setattr(gpu, function, lambda *_: value)
    answer = bench_gpu("bench.steps=[first]")
    assert names_of(runs) == ["first"]
    assert f"first: not reused, another {changed}" in answer.out
    bench_gpu("bench.steps=[first]")
    assert not runs


def test_a_step_that_does_not_fit_in_the_time_is_left_out_and_named(
    bench_gpu: Command, runs: Runs, steps: dict[str, Step], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is no failure: the next call runs it."""
    monkeypatch.setattr(gpu, "prepare", lambda _: None)
    monkeypatch.setitem(steps, "first", Step(10**6, steps["first"].run))
    answer = bench_gpu("bench.tiny=false")
    assert answer.code == 0, answer.err
    assert "first: left out: takes about 1000000 s, " in answer.out
    assert names_of(runs) == ["seed 0", "seed 1", "seed 2", "last"]
    assert "- first: left out" in (tmp_path / "gpu" / "README.md").read_text()


@pytest.mark.usefixtures("steps")
def test_an_unknown_step_is_an_error_before_the_first_one(bench_gpu: Command, runs: Runs) -> None:
    answer = bench_gpu("bench.steps=[first,lost]")
    assert answer.code == 2
    assert answer.err == "error: bench.steps: unknown step 'lost'; choose from first, seeds, last\n"
    assert not runs


def test_a_wait_for_the_gpu_in_a_step_is_a_failure_that_names_its_line(
    bench_gpu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch warns of one where it happens."""
    original = Classifier.training_step

    def step(self: Classifier, images: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return original(self, images, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", step)
    answer = bench_gpu("bench.steps=[no_sync]")
    assert answer.code == 1
    assert "1 waits for the GPU in 4 steps: test_gpu.py:" in answer.out


def test_a_resumed_run_with_other_weights_is_a_failure(bench_gpu: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {"val/accuracy": 0.5, "val/loss": 1.0, "test/accuracy": 0.5, "test/loss": 1.0, "command_seconds": 1.0}
    monkeypatch.setattr(GpuCheck, "train", lambda *_, **__: dict(results))
    monkeypatch.setattr(GpuCheck, "run", lambda *_: None)
    states = iter([{"a": torch.zeros(2), "b": torch.ones(1)}, {"a": torch.zeros(2), "b": torch.ones(1) + 1e-7}])
    monkeypatch.setattr(gpu_steps, "load_state", lambda _: next(states))
    answer = bench_gpu("bench.steps=[resume]")
    assert answer.code == 1
    assert "resume: failed: RuntimeError: the resumed run differs in b" in answer.out


def test_each_photograph_is_a_test_picture_in_one_fold(tmp_path: Path) -> None:
    for name in ("symbols/money/a", "town/roadsigns/b", "town/roadsigns/cartoon/c", "vehicles/car/a"):
        file = tmp_path / "stamps" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    root = tmp_path / "photos"
    assert copy_photos(tmp_path / "stamps", root) == 3
    for number in range(9):
        Image.new("RGB", (4, 4)).save(root / "symbols" / f"{number}.png")
    rows = [write_fold(root, tmp_path, fold).read_text().splitlines()[1:] for fold in range(5)]
    tests = [row.split(",")[0] for fold in rows for row in fold if row.endswith(",test")]
    assert sorted(tests) == sorted({row.split(",")[0] for row in rows[0]})
    assert len(tests) == 12


def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_process([sys.executable, "-c", "import signal; signal.pause()"], timeout=0.2)
