"""find=lr and data.batch_size=auto find numbers, and change nothing else of a run."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Command
from explained import assert_explained
from test_resume import SMALL, assert_same_run, killed_at
from torch import Tensor

from pytorch_intro.common.errors import UserError
from pytorch_intro.training import finders
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.finders import LossRecorder, fastest, largest_that_fits, suggest

AUTO = [argument for argument in SMALL if "batch_size" not in argument] + ["data.batch_size=auto"]


@pytest.mark.pictures
def test_find_lr_prints_a_suggestion_and_records_no_run(command: Command, tmp_path: Path) -> None:
    answer = command(*SMALL, "find=lr", "name=first")
    assert answer.code == 0, answer.err
    run = tmp_path / "outputs" / "first"
    assert {path.name for path in run.iterdir()} <= {"train.log", "lr_find.png", ".lock", ".lock_owner"}
    suggestion = float(answer.out.partition("optimizer.lr=")[2].split()[0])
    assert 1e-4 < suggestion < 5
    assert "(the config has 0.1)" in answer.out
    assert "epoch 1" not in answer.out
    assert command(*SMALL, "name=first").code == 0, "a run of this name starts in the folder"
    assert (run / "lr_find.png").exists()


def test_find_lr_keeps_the_ratio_of_the_rates_and_the_order_of_the_images(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[float]] = []
    targets: dict[str, list[Tensor]] = {"found": [], "trained": []}
    now = "found"
    step = Classifier.training_step

    def record(self: Classifier, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        rates.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        targets[now].append(batch[1])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", record)
    arguments = [*SMALL, "data.mixup_alpha=0", "trainer.limit_train_batches=null"]
    assert command(*arguments, "find=lr", "name=first").code == 0
    assert len(rates) > 20
    assert all(others == pytest.approx(0.4 * filters) for filters, others in rates)  # Muon's adamw_lr_ratio
    first = [filters for filters, _ in rates]
    assert first[0] == pytest.approx(finders.MIN_LR)
    assert first[1:] == pytest.approx([first[1] / first[0] * rate for rate in first[:-1]])
    now = "trained"
    assert command(*arguments, "trainer.max_epochs=1", "name=first").code == 0
    both = list(zip(targets["found"], targets["trained"], strict=False))
    assert len(both) > 20
    assert all(torch.equal(found, trained) for found, trained in both)


def test_the_suggestion_is_half_of_the_rate_with_the_lowest_loss() -> None:
    rates = [10 ** (step / 20 - 5) for step in range(120)]
    losses = [2 - 1.5 / (1 + math.exp(-4 * (math.log10(rate) + 3))) + 10 * rate**2 for rate in rates]
    found = suggest(rates, losses)
    assert found.steepest == pytest.approx(1e-3, rel=0.3)
    assert found.lowest == pytest.approx(rates[losses.index(min(losses))], rel=0.3)
    assert found.suggestion == found.lowest / 2
    with pytest.raises(UserError, match=r"find=lr: the loss does not fall .*; check data and loss"):
        suggest(rates, [float(step) for step in range(120)])
    with pytest.raises(UserError, match="does not fall"):
        suggest([], [])
    assert LossRecorder().losses == []


def test_the_fastest_batch_size_is_chosen_but_a_smaller_one_that_is_almost_as_fast() -> None:
    assert fastest({16: 100.0, 32: 190.0, 64: 380.0, 128: 390.0, 256: 300.0})[0] == 64
    assert fastest({16: 100.0, 32: 190.0, 64: 390.0, 128: 500.0})[0] == 128
    assert "64: 390" in fastest({32: 190.0, 64: 390.0})[1]


def test_the_largest_batch_that_leaves_memory_free_is_chosen() -> None:
    assert largest_that_fits(lambda size: size / 1000, 4096) == (512, "1,024 takes 102% of the memory")
    assert largest_that_fits(lambda size: size / 1100, 4096)[0] == 512, "it would take 93 %"
    assert largest_that_fits(lambda size: math.inf if size > 64 else 0.1, 4096)[0] == 64
    assert largest_that_fits(lambda _: 0.1, 128) == (128, "with a larger one, an epoch has less than 10 steps")
    with pytest.raises(UserError, match=r"data\.batch_size=auto: a batch of 2 takes .*; use a smaller model"):
        largest_that_fits(lambda _: math.inf, 128)
    tried: list[int] = []
    largest_that_fits(lambda size: tried.append(size) or 0.1, 16)  # type: ignore[func-returns-value]
    assert tried == [2, 4, 8, 16], "batch norm cannot train on one image"


def test_the_batch_size_that_was_found_is_recorded_and_gives_the_run_that_has_it_from_the_start(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, also if it is interrupted; the command then does not search again."""
    monkeypatch.setattr(finders, "SECONDS", 0.0)
    monkeypatch.setattr(finders, "fastest", lambda speeds: (32, f"of {[*speeds]}"))
    with killed_at(5):  # the search trains 5 batches of each size
        command(*AUTO, "name=killed")
    outputs = tmp_path / "outputs"
    answer = command(*AUTO, "name=found")
    assert answer.code == 0, answer.err
    assert "batch size: 32 (of [16, 32, 64, 128])" in answer.out
    assert yaml.safe_load((outputs / "found" / "config.yaml").read_text())["data"]["batch_size"] == 32
    given = [argument.replace("auto", "32") for argument in AUTO]
    assert command(*given, "name=given").code == 0
    assert_same_run(outputs / "given", outputs / "found")
    with killed_at(8), monkeypatch.context() as patch:
        patch.setattr(finders, "MIN_STEPS", 10**9)
        command(*given, "name=stopped")
    again = command(*AUTO, "name=stopped")
    assert again.code == 0, again.err
    assert "batch size" not in again.out
    assert_same_run(outputs / "given", outputs / "stopped")


@pytest.mark.parametrize(
    ("arguments", "names", "problem", "remedy"),
    [
        (["-m", "find=lr", "seed=0,1"], ["find=lr"], "not with -m", "run it alone"),
        (["-m", "data.batch_size=auto,16"], ["data.batch_size=auto"], "not with -m", "run it alone"),
        (["find=lr", "trainer.devices=2"], ["find=lr"], "runs in one process", "trainer.devices=1"),
        (["data.batch_size=auto", "trainer.fast_dev_run=true"], ["trainer.fast_dev_run"], "more batches", "remove"),
        (["find=rate"], ["find=rate"], "should be 'lr'", "'lr'"),
        (["data.batch_size=large"], ["data.batch_size=large"], "should be", "auto"),
    ],
)
def test_a_wrong_use_of_a_finder_is_a_one_line_error(
    command: Command, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    answer = command("data=sample", "trainer=cpu", *arguments, "name=wrong")
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)


@pytest.mark.parametrize("finder", ["find=lr", "data.batch_size=auto"])
def test_a_finder_is_refused_in_a_run_that_is_resumed(command: Command, finished_run: Path, finder: str) -> None:
    answer = command(f"resume={finished_run}", finder)
    assert answer.code == 2
    assert_explained(answer.err, [], ["resume="], "uses the config of that run", f"remove {finder}")
