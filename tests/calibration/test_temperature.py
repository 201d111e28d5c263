"""The temperature is fitted to the validation logits, stored with the weights, and applied wherever they are used."""

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FORKS, NO_PICTURES, Command, Killed, WholeRuns, killed_run, sample_datamodule, train_here
from explained import assert_explained
from PIL import Image
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy

from pytorch_intro import load_run
from pytorch_intro.calibration import callback
from pytorch_intro.calibration.callback import TemperatureScaling
from pytorch_intro.calibration.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature
from pytorch_intro.inference.load import Predictor
from pytorch_intro.training.checkpoint import BestLastCheckpoint

FEW = [
    "data=sample", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "model.width=4", *NO_PICTURES,
    "logger=none",
]  # fmt: skip
SHORT = [*FEW, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_test_batches=1"]


def random_logits(count: int = 400, num_classes: int = 5, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits, scaled, with labels sampled from the softmax of the unscaled ones: their temperature is scale."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, num_classes, generator=generator)
    return scale * logits, logits.softmax(dim=1).multinomial(1, generator=generator).flatten()


def mean_loss(logits: Tensor, targets: Tensor, temperature: float) -> float:
    return cross_entropy(logits.double() / temperature, targets).item()


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 3.0, 15.0])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_the_temperature_is_that_of_a_grid_search(num_classes: int, scale: float) -> None:
    logits, targets = random_logits(num_classes=num_classes, scale=scale)
    grid = torch.logspace(math.log10(MIN_TEMPERATURE), math.log10(MAX_TEMPERATURE), 4001).tolist()
    best = min(grid, key=lambda temperature: mean_loss(logits, targets, temperature))
    fitted, problem = fit_temperature(logits, targets)
    assert fitted == pytest.approx(best, rel=2e-3)  # the grid's step is 0.15 %
    assert mean_loss(logits, targets, fitted) <= mean_loss(logits, targets, best)
    assert not problem


def test_labels_sampled_from_scaled_probabilities_give_their_temperature() -> None:
    assert fit_temperature(*random_logits(50_000, scale=3.0)).temperature == pytest.approx(3.0, rel=0.02)


def test_the_order_of_the_images_does_not_change_the_temperature() -> None:
    logits, targets = random_logits(scale=0.5)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    assert fit_temperature(logits[order], targets[order]) == fit_temperature(logits, targets)


@pytest.mark.parametrize(
    ("logits", "targets", "temperature", "problem"),
    [
        ([[9.0, 0.0], [0.0, 1.0]], [0, 1], 1.0, "all images are classified correctly"),
        ([[3.0], [3.0]], [0, 0], 1.0, "all images are classified correctly"),
        ([[1.0, 1.0], [1.0, 1.0]], [0, 1], 1.0, "all images are classified correctly"),
        ([[math.nan, 0.0], [math.inf, 0.0]], [0, 1], 1.0, "no finite logits"),
        ([[2.0, 0.0], [0.0, 2.0]], [1, 0], MAX_TEMPERATURE, "largest"),
        ([[2e-3, 0.0], [2e-3, 0.0], [0.0, 1e-3]], [0, 0, 0], MIN_TEMPERATURE, "smallest"),
        ([[1e30, 0.0], [0.0, 1e30], [1e30, 0.0]], [0, 1, 1], MAX_TEMPERATURE, "largest"),
    ],
)
def test_logits_without_a_best_temperature_get_a_safe_one_and_a_reason(
    logits: list[list[float]], targets: list[int], temperature: float, problem: str
) -> None:
    """If nothing is wrong, ever lower temperatures would be better: a probability of 1 for everything."""
    fit = fit_temperature(torch.tensor(logits), torch.tensor(targets))
    assert fit.temperature == temperature
    assert problem in fit.problem


def test_images_with_nan_logits_are_left_out() -> None:
    logits, targets = random_logits(scale=2.0)
    broken = torch.cat([logits, torch.full((3, 5), math.nan)])
    assert fit_temperature(broken, torch.cat([targets, targets[:3]])) == fit_temperature(logits, targets)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a temperature; tests only read it."""
    outputs = tmp_path_factory.mktemp("calibrated")
    train_here(*FEW, "name=run", f"outputs={outputs}")
    return outputs / "run"


def read_result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def read_checkpoint(folder: Path, name: str = "best") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def raw_logits(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the logits of the network itself for the validation or test images, and their targets."""
    network, _, transforms = load_run(folder)
    datamodule = sample_datamodule()
    subset = datamodule.val_set if split == "val" else datamodule.test_set
    assert subset
    images, targets = subset.__getitems__(range(len(subset)))
    with torch.no_grad():
        return network.tta_logits(transforms.normalize(images)).mean(dim=0), targets


def test_a_run_stores_the_temperature_of_its_best_weights(run: Path) -> None:
    """In the checkpoint, in result.json and in load_run; computed again here from the validation images."""
    temperature = read_checkpoint(run)["temperature"]
    assert type(temperature) is float
    assert temperature not in (1.0, MIN_TEMPERATURE, MAX_TEMPERATURE)
    assert temperature == pytest.approx(fit_temperature(*raw_logits(run, "val")).temperature, abs=1e-4)
    assert read_result(run)["temperature"] == load_run(run).temperature == temperature


def test_calibration_error_and_log_likelihood_are_those_of_all_test_images(run: Path) -> None:
    """By their definitions: 15 bins of confidence; the mean of -log p of the true class."""
    result = read_result(run)
    logits, targets = raw_logits(run, "test")
    for suffix, temperature in (("", result["temperature"]), ("_uncalibrated", 1.0)):
        probabilities = (logits.double() / temperature).softmax(dim=1)
        nll = -probabilities[range(len(targets)), targets].log().mean().item()
        confidences, predicted = probabilities.max(dim=1)
        ece = 0.0
        for lower in range(15):
            chosen = (confidences >= lower / 15) & (confidences < (lower + 1) / 15)
            ece += abs((predicted == targets)[chosen].double().sum() - confidences[chosen].sum()).item() / len(targets)
        assert result[f"test/nll{suffix}"] == pytest.approx(nll, rel=1e-5)
        assert result[f"test/ece{suffix}"] == pytest.approx(ece, abs=1e-5)
    assert result["test/nll_uncalibrated"] == pytest.approx(result["test/loss"], rel=1e-5)
    assert result["test/nll"] < result["test/nll_uncalibrated"]


def test_calibration_changes_neither_weights_nor_accuracy(command: Command, run: Path, tmp_path: Path) -> None:
    """With calibrate=false, the checkpoint has no temperature, and everything else is the same."""
    answer = command(*FEW, "calibrate=false", "name=off")
    assert answer.code == 0, answer.err
    off = tmp_path / "outputs" / "off"
    before, after = read_result(off), read_result(run)
    for name in ("val/accuracy", "val/loss", "test/accuracy", "test/loss"):
        assert before[name] == after[name]
    assert before["temperature"] == load_run(off).temperature == 1.0
    assert before["test/ece"] == before["test/ece_uncalibrated"] == after["test/ece_uncalibrated"]
    assert "temperature" not in read_checkpoint(off)
    weights = read_checkpoint(run)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in read_checkpoint(off)["state_dict"].items())


def test_table_and_model_card_show_the_calibration(command: Command, run: Path, tmp_path: Path) -> None:
    answer = command(*SHORT, "name=short")
    result = read_result(tmp_path / "outputs" / "short")
    line = f"temperature {result['temperature']:.3g}, ECE {result['test/ece']:.4f} ("
    assert line in answer.out
    assert f"| calibration | {line}" in (tmp_path / "outputs" / "short" / "README.md").read_text()


def test_predict_and_load_run_divide_the_logits_by_the_temperature(script: Command, run: Path, tmp_path: Path) -> None:
    """With a temperature that changes all probabilities."""
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    checkpoint = read_checkpoint(copy)
    checkpoint["temperature"] = 4.0
    torch.save(checkpoint, copy / "checkpoints" / "best.ckpt")
    logits, _ = raw_logits(copy, "test")
    expected = (logits[:1] / 4).softmax(dim=1)
    loaded = load_run(copy)
    images = sample_datamodule().test_set.__getitems__([0])[0]  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(loaded.transforms.normalize(images)).softmax(dim=1), expected)
        torch.testing.assert_close(Predictor(loaded)(images), expected)
    Image.fromarray(images[0, 0].numpy()).save(tmp_path / "picture.png")
    answer = script("predict", f"run={copy}", f"images={tmp_path / 'picture.png'}", "top_k=10")
    assert answer.code == 0, answer.err
    (row,) = csv.reader((copy / "predictions.csv").read_text().splitlines()[1:])
    shares = dict(zip(row[1::2], map(float, row[2::2]), strict=True))
    assert [shares[name] for name in loaded.classes] == pytest.approx(expected[0].tolist(), abs=2e-6)


def test_evaluation_has_the_figures_of_the_run(script: Command, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    answer = script("eval", f"run={copy}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    evaluation, result = json.loads((copy / "eval.json").read_text()), read_result(run)
    for name in ("temperature", "test/ece", "test/nll", "test/ece_uncalibrated", "test/nll_uncalibrated", "test/loss"):
        assert evaluation[name] == result[name]
    assert evaluation["ece"] == evaluation["test/ece"]
    assert f"ECE {result['test/ece']:.4f} ({result['test/ece_uncalibrated']:.4f} without)" in answer.out
    assert (copy / "reliability.png").exists()


def test_a_checkpoint_without_a_temperature_has_1(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    checkpoint = read_checkpoint(copy)
    del checkpoint["temperature"]
    torch.save(checkpoint, copy / "checkpoints" / "best.ckpt")
    assert load_run(copy).temperature == 1.0


def test_a_warm_start_fits_its_own_temperature(command: Command, run: Path, tmp_path: Path) -> None:
    """Without validation images, there is none: that of the other run belongs to its weights."""
    answer = command(*SHORT, f"model.weights={run}", "data.val_fraction=0", "name=warm")
    assert answer.code == 0, answer.err
    assert read_result(tmp_path / "outputs" / "warm")["temperature"] == 1.0


@pytest.mark.parametrize("setting", ["data.val_fraction=0", "trainer.limit_val_batches=0"])
def test_without_validation_data_there_is_no_temperature_and_the_log_says_why(
    command: Command, tmp_path: Path, setting: str
) -> None:
    answer = command(*SHORT, setting, "name=none")
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs" / "none"
    assert "calibration: no temperature, since the run has no validation data" in (folder / "train.log").read_text()
    assert read_result(folder)["temperature"] == 1.0
    assert read_result(folder)["test/ece"] == read_result(folder)["test/ece_uncalibrated"]
    assert "temperature" not in read_checkpoint(folder)


@pytest.mark.parametrize(
    ("settings", "problem", "remedy"),
    [
        (["data.val_fraction=0"], "no validation data", r"data\.val_fraction=0\.1"),
        (["trainer.limit_val_batches=0"], "no validation data", r"remove trainer\.limit_val_batches"),
        (["callbacks=none"], r"needs callbacks\.calibration", "callbacks=default"),
        (["callbacks.calibration=null"], "needs", "callbacks=default"),
    ],
)
def test_calibration_that_is_required_but_impossible_is_refused_before_any_work(
    command: Command, tmp_path: Path, settings: list[str], problem: str, remedy: str
) -> None:
    arguments = [*SHORT, *settings, "calibrate=true", "name=refused"]
    if settings == ["callbacks=none"]:
        arguments = [argument for argument in arguments if not argument.startswith("callbacks.")]
    answer = command(*arguments)
    assert answer.code == 2
    assert_explained(answer.err, arguments, ["calibrate=true"], problem, remedy)
    assert not (tmp_path / "outputs" / "refused").exists()


def test_a_wrong_value_of_calibrate_is_refused(command: Command) -> None:
    answer = command(*SHORT, "calibrate=perhaps")
    assert answer.code == 2
    assert_explained(answer.err, [], ["calibrate=perhaps"], "invalid value", "boolean")


RESUMED = [*FEW, "trainer.limit_train_batches=4", "callbacks.checkpoint.every_n_minutes=1e-9", "data.batch_size=32"]


@pytest.mark.parametrize("more", [[], ["trainer.val_check_interval=2"], ["callbacks=ema", "callbacks.ema.decay=0.8"]])
def test_a_resumed_run_has_the_temperature_of_an_uninterrupted_one(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, more: list[str]
) -> None:
    arguments = [*RESUMED, *more]
    whole = whole_runs(*arguments)
    for batch in (2, 5):
        copy = shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / f"killed-{batch}")
        assert command(*arguments, f"name={copy.name}").code == 0
        assert_same_temperature(copy, whole)


@pytest.mark.parametrize("validation", [1, 2])
def test_a_run_killed_between_validation_and_checkpoint_resumes_to_the_same_temperature(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, monkeypatch: pytest.MonkeyPatch, validation: int
) -> None:
    whole = whole_runs(*RESUMED)
    count = 0

    def stop(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == validation:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TemperatureScaling, "on_validation_end", stop)
        with pytest.raises(Killed):
            command(*RESUMED, "name=killed")
    assert command(*RESUMED, "name=killed").code == 0
    assert_same_temperature(tmp_path / "outputs" / "killed", whole)


def assert_same_temperature(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        assert read_checkpoint(one, name)["temperature"] == read_checkpoint(other, name)["temperature"] != 1.0
    for name in ("temperature", "test/ece", "test/nll"):
        assert read_result(one)[name] == read_result(other)[name]


def test_a_longer_run_fits_the_temperature_of_its_new_weights(command: Command, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "outputs" / "longer"))
    answer = command(f"resume={copy}", "trainer.max_epochs=3")
    assert answer.code == 0, answer.err
    assert read_checkpoint(copy, "last")["temperature"] != read_checkpoint(run, "last")["temperature"]
    expected = fit_temperature(*raw_logits(copy, "val")).temperature
    assert read_checkpoint(copy)["temperature"] == pytest.approx(expected, abs=1e-4)


def test_without_checkpoints_the_test_uses_the_last_temperature(command: Command, tmp_path: Path) -> None:
    answer = command(*SHORT, "trainer.enable_checkpointing=false", "name=unsaved")
    assert answer.code == 0, answer.err
    result = read_result(tmp_path / "outputs" / "unsaved")
    assert result["temperature"] != 1.0
    assert result["test/nll"] != result["test/nll_uncalibrated"]


def test_best_and_last_checkpoint_have_their_own_temperatures(command: Command, tmp_path: Path) -> None:
    """The best is that of the first epoch, since a score of later ones is never better."""

    def is_first(self: BestLastCheckpoint, trainer: Any) -> bool:
        is_best = self.best_model_score is None
        self.best_model_score = 1.0
        return is_best

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestLastCheckpoint, "is_best", is_first)
        assert command(*FEW, "name=first").code == 0
    folder = tmp_path / "outputs" / "first"
    best, last = (read_checkpoint(folder, name)["temperature"] for name in ("best", "last"))
    assert best != last
    assert read_result(folder)["temperature"] == best
    assert best == pytest.approx(fit_temperature(*raw_logits(folder, "val")).temperature, abs=1e-4)


def test_a_head_fitted_to_features_has_the_temperature_of_the_whole_network(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_intro.pretrained.finetuning")
    pytest.importorskip("timm")
    tiny = ["model=timm", "model.name=test_efficientnet", "model.weights=null", "data.image_size=32"]
    few = [argument for argument in FEW if not argument.startswith(("model.", "trainer.max_epochs"))]
    answer = command(*few, *tiny, "finetune=head", "finetune.views=1", "finetune.l2_grid=[1e-4]", "name=head")
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs" / "head"
    network, _, transforms = load_run(folder)
    datamodule = sample_datamodule("data.image_size=32")
    assert datamodule.val_set
    images, targets = datamodule.val_set.__getitems__(range(len(datamodule.val_set)))
    with torch.no_grad():
        logits = network.tta_logits(transforms.normalize(transforms.center_crop(images))).mean(dim=0)
    assert read_result(folder)["temperature"] == network.temperature != 1.0
    assert network.temperature == pytest.approx(fit_temperature(logits, targets).temperature, rel=1e-3)


def trainer_of(rank: int, world_size: int, count: int, num_classes: int) -> Any:
    datamodule = sample_datamodule()
    datamodule.batch_size, datamodule.classes = 64, list(map(str, range(num_classes)))
    datamodule.val_set = datamodule.val_set.take(torch.arange(count))  # type: ignore[union-attr]
    return SimpleNamespace(
        datamodule=datamodule, limit_val_batches=1.0, global_rank=rank, world_size=world_size, sanity_checking=False,
        state=SimpleNamespace(fn="fit"), is_global_zero=rank == 0,
    )  # fmt: skip


def fit_on_rank(rank: int, world_size: int, logits: Tensor, targets: Tensor) -> TemperatureScaling:
    """Give the callback this rank's images of each batch of 64, as the sampler does, and let it fit."""
    scaling, trainer = TemperatureScaling(), trainer_of(rank, world_size, len(targets), logits.shape[1])
    module: Any = None
    scaling.on_fit_start(trainer, module)
    scaling.on_validation_epoch_start(trainer, module)
    for number, rows in enumerate(torch.arange(len(targets)).split(64)):
        if len(mine := rows[rank::world_size]):
            scaling.on_validation_batch_end(
                trainer, module, {"logits": logits[mine], "targets": targets[mine]}, (logits, targets), number
            )
    scaling.on_validation_epoch_end(trainer, module)
    return scaling


def save_fit_of_rank(rank: int, world_size: int, folder: str, max_values: int) -> None:
    callback.MAX_VALUES = max_values
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    (Path(folder) / f"{rank}").write_text(repr(fit_on_rank(rank, world_size, *random_logits(257)).temperature))
    distributed.destroy_process_group()


@pytest.mark.parametrize("max_values", [callback.MAX_VALUES, 500])
def test_two_ranks_fit_the_temperature_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_values: int
) -> None:
    """Of 257 images, so that rank 1 has none of the last batch; and of every third of them."""
    monkeypatch.setattr(callback, "MAX_VALUES", max_values)
    single = fit_on_rank(0, 1, *random_logits(257))
    processes = [FORKS.Process(target=save_fit_of_rank, args=(rank, 2, str(tmp_path), max_values)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert {(tmp_path / str(rank)).read_text() for rank in (0, 1)} == {repr(single.temperature)}


def test_of_many_validation_images_every_nth_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "MAX_VALUES", 500)
    logits, targets = random_logits(257)
    scaling = fit_on_rank(0, 1, logits, targets)
    assert scaling.every == 3  # 257 x 5 logits
    assert scaling.temperature == fit_temperature(logits[::3], targets[::3]).temperature


def test_a_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pytorch_intro")
    logits = torch.eye(5)[torch.arange(257) % 5]
    scaling = fit_on_rank(0, 1, logits, torch.arange(257) % 5)
    assert scaling.temperature == 1.0
    assert "calibration: temperature 1 from 257 images: all images are classified correctly" in caplog.text
