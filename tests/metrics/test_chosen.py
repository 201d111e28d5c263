"""Chosen metrics appear wherever accuracy does, and every one can select the best checkpoint, run or trial."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from conftest import NO_PICTURES, Command, Process, WholeRuns, compose, killed_run, read_summary, train_here
from explained import assert_explained
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pytorch_intro.analysis import plots
from pytorch_intro.common.errors import UserError
from pytorch_intro.metrics.callback import add_metrics, check_metric, check_validation
from pytorch_intro.runs.folder import format_metric
from pytorch_intro.training.monitors import is_higher_better

SEVEN = ["accuracy", "top5", "f1_macro", "balanced_accuracy", "auroc", "average_precision", "mcc"]
ALL = f"metrics=[{','.join(SEVEN)}]"
KAPPA = "+metrics.kappa._target_=torchmetrics.classification.MulticlassCohenKappa"
FURTHER = [*SEVEN[1:], "kappa"]
FAST = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", "model=mlp", "trainer.limit_train_batches=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with all metrics."""
    outputs = tmp_path_factory.mktemp("outputs")
    train_here(*FAST, ALL, KAPPA, "name=seven", f"outputs={outputs}")
    return outputs / "seven"


@pytest.fixture(scope="module")
def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def test_the_result_has_every_metric_of_the_selected_weights_and_of_the_test(run: Path, result: dict[str, Any]) -> None:
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["metrics"]
    for name in FURTHER:
        assert -1 <= result[f"test/{name}"] <= 1
        assert result[f"val/{name}"] == best[f"val/{name}"]
    assert result["test/top5"] > result["test/accuracy"]


def test_the_log_has_every_metric_in_the_line_of_its_epoch(run: Path) -> None:
    lines = [line for line in (run / "train.log").read_text().splitlines() if " epoch 2/2: " in line]
    assert len(lines) == 1
    assert re.findall(r"val/(\w+)", lines[0]) == ["loss", "accuracy", *FURTHER]


def test_tensorboard_has_a_point_per_validation_and_a_chart_for_each_metric(run: Path, result: dict[str, Any]) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for name in FURTHER:
        assert len(events.Scalars(f"val/{name}")) == 2
        assert events.Scalars(f"test/{name}")[0].value == pytest.approx(result[f"test/{name}"])
    (layout,) = events.Tensors("custom_scalars__config__")
    assert all(f"^val/{name}$".encode() in layout.tensor_proto.string_val[0] for name in FURTHER)


def test_the_model_card_has_every_metric(run: Path, result: dict[str, Any]) -> None:
    card = (run / "README.md").read_text()
    (scores,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    values = {score["type"]: score["value"] for score in scores["metrics"]}
    assert values == {name: result[f"test/{name}"] for name in ["accuracy", *FURTHER]}
    for name in FURTHER:
        assert f"| test/{name} | {format_metric(name, result[f'test/{name}'])} |" in card


def test_the_stored_result_is_printed_with_every_metric(command: Command, run: Path, result: dict[str, Any]) -> None:
    answer = command(f"resume={run}", f"outputs={run.parent}")
    assert answer.code == 0, answer.err
    for name in FURTHER:
        assert re.search(rf"val/{name} +{format_metric(name, result[f'val/{name}'])}\n", answer.out)
        assert re.search(rf"test/{name} +{format_metric(name, result[f'test/{name}'])}\n", answer.out)


@pytest.mark.pictures
def test_the_curves_show_further_metrics_in_a_third_panel(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "as_image", figures.append)
    history = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["EpochLogger"]["history"]
    plots.plot_curves(history, "run")
    plots.plot_curves({1: {"val/loss": 1.0}}, "run")
    titles = [[axes.get_title() for axes in figure.axes] for figure in figures]
    assert titles == [["loss", "accuracy", "other metrics"], ["loss", "accuracy"]]
    lines = [line.get_label() for line in figures[0].axes[2].lines]
    assert lines == sorted(f"val/{name}" for name in FURTHER)


def test_evaluation_measures_the_metrics_of_the_run_and_others(script: Command, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_intro.inference")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    result = json.loads((copy / "result.json").read_text())
    answer = script("eval", f"run={copy}")
    assert answer.code == 0, answer.err
    evaluation = json.loads((copy / "eval.json").read_text())
    for name in FURTHER:
        assert evaluation[f"test/{name}"] == pytest.approx(result[f"test/{name}"], abs=1e-6)
        assert re.search(rf"test/{name} +{format_metric(name, evaluation[f'test/{name}'])}\n", answer.out)
    assert script("eval", f"run={copy}", "metrics=[mcc]", KAPPA.replace("kappa", "k")).code == 0
    evaluation = json.loads((copy / "eval.json").read_text())
    assert "test/auroc" not in evaluation
    assert evaluation["test/mcc"] == pytest.approx(result["test/mcc"], abs=1e-6)
    assert evaluation["test/k"] == pytest.approx(result["test/kappa"], abs=1e-6)


@pytest.mark.parametrize("choice", ["metrics=accuracy", "metrics=[]", "metrics=[accuracy]"])
def test_accuracy_alone_adds_nothing_to_a_run(choice: str) -> None:
    assert not compose(choice).get("metrics")


@pytest.mark.parametrize("choice", ["metrics=mcc", "metrics=[mcc]", "metrics=[accuracy,mcc]"])
def test_a_single_metric_can_be_chosen(choice: str) -> None:
    assert list(compose(choice).metrics) == ["mcc"]


def test_metrics_that_are_not_chosen_are_not_even_imported(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_intro.metrics.callback", None)  # an import fails
    assert command(*FAST, "trainer.fast_dev_run=true", "name=accuracy").code == 0
    assert command(*FAST, "trainer.fast_dev_run=true", "metrics=mcc", "name=mcc").code != 0


RESUMED = [
    "data=sample", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=6", "data.batch_size=16",
    "model=mlp", "trainer.val_check_interval=2", "callbacks.checkpoint.every_n_minutes=1e-9", ALL,
    "callbacks.checkpoint.monitor=val/f1_macro", *NO_PICTURES,
]  # fmt: skip


def test_a_run_resumed_within_an_epoch_has_the_same_metrics(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """Bit for bit: those of the validation before the interruption too, and the best checkpoint by one of them."""
    whole = whole_runs(*RESUMED)
    for batch in (3, 9):
        killed = Path(shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / f"killed-{batch}"))
        answer = command(*RESUMED, f"name=killed-{batch}")
        assert answer.code == 0, answer.err
        assert "resuming from" in answer.out
        results = [json.loads((folder / "result.json").read_text()) for folder in (whole, killed)]
        names = [name for name in results[0] if name.startswith(("val/", "test/")) or "epoch" in name]
        assert "val/mcc" in names
        assert [results[0][name] for name in names] == [results[1][name] for name in names]
        logs = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, killed)]
        histories = [log["callbacks"]["EpochLogger"]["history"] for log in logs]
        for epoch, metrics in histories[0].items():
            same = {name: value for name, value in metrics.items() if "/" in name}
            assert {name: histories[1][epoch][name] for name in same} == same


def test_two_ranks_log_the_metrics_of_one_process(tmp_path: Path) -> None:
    """The last batch of the 257 validation images is a single image, so that rank 1 has none of it."""
    data = ["data.val_fraction=0.1606", "data/augment=[]", "data.batch_size=64", "trainer.precision=32-true"]
    common = [*FAST, *data, "trainer.max_epochs=1", ALL, *NO_PICTURES, f"outputs={tmp_path}"]
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    process = Process(*common, *ranks, "name=two", variables={"OMP_NUM_THREADS": "1"}, processes=1)
    train_here(*common, "name=one")
    _, err = process.communicate(150)
    assert process.returncode == 0, err
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    names = [name for name in one if name.startswith(("val/", "test/"))]
    assert "val/auroc" in names
    for name in names:
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


@pytest.mark.parametrize("metric", FURTHER)
def test_more_of_every_metric_is_better(metric: str) -> None:
    assert is_higher_better(f"val/{metric}", compose(ALL, KAPPA).metrics) is True


def test_the_direction_is_that_of_the_class(command: Command, tmp_path: Path) -> None:
    """Less of a calibration error is better; torchmetrics.Accuracy is that of several classes."""
    ece = "+metrics.calibration._target_=torchmetrics.classification.MulticlassCalibrationError"
    wrapper = "+metrics.acc._target_=torchmetrics.Accuracy"
    config = compose(ece, wrapper)
    assert is_higher_better("val/calibration", config.metrics) is False
    assert is_higher_better("val/acc", config.metrics) is True
    monitor = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/calibration"]
    monitor += ["callbacks.checkpoint.monitor=val/calibration"]
    answer = command(*FAST, ece, wrapper, *monitor, "name=first")
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs" / "first" / "checkpoints"
    best, last = (torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    history = last["callbacks"]["EpochLogger"]["history"]
    assert best["metrics"]["val/calibration"] == min(epoch["val/calibration"] for epoch in history.values())
    assert best["metrics"]["val/acc"] == pytest.approx(best["metrics"]["val/accuracy"])


def test_a_metric_can_be_the_objective_of_a_sweep(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_intro.sweeps")
    few = [argument for argument in FAST if "max_epochs" not in argument]
    sweep = ["-m", *few, "trainer.max_epochs=1", "metrics=[f1_macro,mcc]", "sweep.objective=val/f1_macro", "name=s"]
    answer = command(*sweep, "optimizer.lr=0.05,1e-9")
    assert answer.code == 0, answer.err
    rows = read_summary(tmp_path / "outputs" / "sweeps" / "s")
    scores = [float(row["val/f1_macro"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert float(rows[0]["mean"]) == scores[0]
    assert 0 <= float(rows[0]["test/mcc"]) <= 1
    record = json.loads((tmp_path / "outputs" / "sweeps" / "s" / "sweep.json").read_text())
    assert (record["objective"], record["maximize"], record["best"]) == ("val/f1_macro", True, rows[0]["job"])
    assert re.search(r"rank +optimizer.lr +val/f1_macro +val/mcc +n +seconds", answer.out)


def test_trials_of_a_search_are_compared_and_pruned_by_the_objective(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_intro.sweeps")
    pytest.importorskip("optuna")
    from pytorch_intro.sweeps.optuna.search import open_storage

    few = [argument for argument in FAST if "max_epochs" not in argument]
    space = ["hydra/sweeper=optuna", "optimizer.lr=choice(0.05,0.06)", "hydra.sweeper.n_trials=1"]
    answer = command("-m", *few, "trainer.max_epochs=1", "metrics=[mcc]", *space, "sweep.objective=val/mcc",
                     "hydra.sweeper.pruner=median", "name=s")  # fmt: skip
    assert answer.code == 0, answer.err
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    (study,) = open_storage(sweep / "study.db").get_all_studies()
    assert study.directions[0].name == "MAXIMIZE"
    (trial,) = open_storage(sweep / "study.db").get_all_trials(study._study_id)
    result = json.loads((sweep / "trial-0000" / "result.json").read_text())
    assert trial.value == pytest.approx(result["val/mcc"])
    assert list(trial.intermediate_values.values()) == pytest.approx([result["val/mcc"]])


MISTAKES = {
    "unknown metric": (
        ["metrics=[accuracy,f1_marco]"],
        ["metrics=f1_marco"],
        "unknown choice",
        "did you mean f1_macro.*accuracy, auroc.*top5",
    ),
    "unknown class": (
        ["+metrics.kappa._target_=torchmetrics.classification.MulticlassKappa"],
        ["metrics.kappa._target_"],
        "cannot be imported",
        "check the spelling",
    ),
    "not a metric": (["+metrics.linear._target_=torch.nn.Identity"], ["metrics.linear"], "not a metric", "use a class"),
    "a metric of two classes": (
        ["+metrics.area._target_=torchmetrics.classification.BinaryAUROC"],
        ["metrics.area._target_"],
        "does not take class probabilities",
        r"use torchmetrics\.classification\.MulticlassAUROC",
    ),
    "a metric of several labels": (
        ["+metrics.f1={_target_: torchmetrics.classification.MultilabelF1Score, num_labels: 10}"],
        ["metrics.f1._target_"],
        "does not take class probabilities",
        r"use torchmetrics\.classification\.MulticlassF1Score",
    ),
    "a metric of regression": (
        ["+metrics.mse._target_=torchmetrics.MeanSquaredError"],
        ["metrics.mse._target_"],
        "does not take class probabilities",
        "use a Multiclass… class",
    ),
    "a value per class": (
        ["+metrics.f1._target_=torchmetrics.classification.MulticlassF1Score", "+metrics.f1.average=none"],
        ["metrics.f1._target_"],
        "more than one number",
        "set average=macro",
    ),
    "a matrix": (
        ["+metrics.matrix._target_=torchmetrics.classification.MulticlassConfusionMatrix"],
        ["metrics.matrix"],
        "more than one number",
        "use another",
    ),
    "an unknown setting": (["metrics=[mcc]", "+metrics.mcc.beta=2"], ["metrics.mcc"], "[Uu]nexpected", "use another"),
    "another number of classes": (
        ["metrics=[mcc]", "+metrics.mcc.num_classes=7"],
        ["metrics.mcc.num_classes=7"],
        "the data has 10 classes",
        "leave it out",
    ),
    "top 10 of 10 classes": (
        ["metrics=[top5]", "metrics.top5.top_k=10"],
        ["metrics.top5.top_k=10"],
        "always among the 10 most probable",
        "leave out top5",
    ),
    "the name of what is logged": (
        ["+metrics.loss._target_=torchmetrics.classification.MulticlassAccuracy"],
        ["metrics.loss"],
        "logged already",
        "use another name",
    ),
    "the same metric twice": (["metrics=[mcc,mcc]"], ["metrics: mcc"], "in the list twice", "list it once"),
    "two metrics of the same name": (
        ["metrics=[mcc]", "+metrics.mcc._target_=torchmetrics.classification.MulticlassCohenKappa"],
        ["metrics.mcc._target_"],
        "already",
        "--help|another name",
    ),
    "a monitor that was not chosen": (
        ["callbacks.checkpoint.monitor=val/mcc", "metrics=[auroc]"],
        ["callbacks.checkpoint.monitor=val/mcc"],
        "no such validation metric",
        r"add it with metrics=\[accuracy,auroc,mcc\], or choose from val/loss, val/accuracy, val/auroc$",
    ),
    "an objective that was not chosen": (
        ["-m", "seed=0,1", "sweep.objective=val/mcc"],
        ["sweep.objective=val/mcc"],
        "not logged",
        r"add it with metrics=\[accuracy,mcc\], or choose from val/accuracy, val/loss",
    ),
    "a contradicting mode": (
        ["metrics=[mcc]", "callbacks.checkpoint.monitor=val/mcc", "callbacks.checkpoint.mode=min"],
        ["callbacks.checkpoint.mode=min"],
        "more is better for val/mcc",
        "use callbacks.checkpoint.mode=max",
    ),
}


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_before_training(
    command: Command, tmp_path: Path, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    if "-m" in arguments:
        pytest.importorskip("pytorch_intro.sweeps")
    answer = command(*FAST, *arguments, "name=first")
    assert answer.code == 2, answer.out
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert "epoch 1" not in answer.out
    assert not list(tmp_path.rglob("config.yaml"))


def test_top5_needs_more_than_five_classes() -> None:
    node = compose("metrics=[top5]").metrics.top5
    check_metric("top5", node, num_classes=6)
    with pytest.raises(UserError, match=r"^metrics\.top5\.top_k=5: the data has 5 classes, so that .*; leave out top5"):
        check_metric("top5", node, num_classes=5)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_areas_need_validation_images_of_two_classes(name: str) -> None:
    node = compose(f"metrics=[{name}]").metrics[name]
    check_validation(name, node, torch.tensor([1, 1, 2]))
    with pytest.raises(UserError, match=rf"metrics\.{name}: needs validation images of at least two .*; use a larger"):
        check_validation(name, node, torch.tensor([1, 1, 1]))


def test_classes_without_validation_images_are_named(caplog: pytest.LogCaptureFixture) -> None:
    validation = SimpleNamespace(targets=torch.tensor([0, 0, 2]))
    datamodule: Any = SimpleNamespace(classes=["cat", "dog", "owl"], val_set=validation)
    trainer: Any = SimpleNamespace(callbacks=[])
    add_metrics(compose("metrics=[mcc]").metrics, datamodule, trainer)
    assert "no validation images of dog" in caplog.text
    assert len(trainer.callbacks) == 1
