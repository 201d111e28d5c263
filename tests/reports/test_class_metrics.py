"""Per-class metrics and the most confident errors: the values, and the callback that collects them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FORKS, Command, sample_datamodule
from lightning import Trainer
from PIL import Image
from torch import Tensor, distributed
from torchmetrics.classification import (
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassPrecisionRecallCurve,
)

from pytorch_intro.analysis import class_metrics, plots
from pytorch_intro.analysis.class_metrics import (
    NUM_ERRORS,
    NUM_THRESHOLDS,
    ClassMetrics,
    PerClassMetrics,
    TopErrors,
    find_class_metrics,
    most_confused_pairs,
    most_frequent_error,
    per_class_scores,
)
from pytorch_intro.data.normalize import Normalize
from pytorch_intro.reports.model_card import list_classes

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "model.width=4"]


def random_predictions(count: int, num_classes: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(count, num_classes, generator=generator)
    return logits, torch.randint(0, num_classes, (count,), generator=generator)


def compute_in_batches(logits: Tensor, targets: Tensor, batch_size: int = 128) -> dict[str, Tensor]:
    metrics = PerClassMetrics(logits.shape[1])
    for rows in torch.arange(len(targets)).split(batch_size):
        metrics.update(logits[rows], targets[rows])
    return metrics.compute()


@pytest.mark.parametrize("num_classes", [2, 4, 30])
@pytest.mark.parametrize("scale", [1.0, 40.0])  # 40: many probabilities are exactly 0 or 1
def test_class_metrics_equal_those_of_torchmetrics(num_classes: int, scale: float) -> None:
    logits, targets = random_predictions(900, num_classes, scale)
    probabilities = logits.softmax(dim=1)
    metrics = compute_in_batches(logits, targets)
    confusion = MulticlassConfusionMatrix(num_classes)
    assert torch.equal(metrics["confusion_matrix"], confusion(logits, targets))
    calibration = MulticlassCalibrationError(num_classes, n_bins=15)
    torch.testing.assert_close(metrics["ece"], calibration(probabilities, targets), atol=1e-6, rtol=0)
    curve = MulticlassPrecisionRecallCurve(num_classes, thresholds=NUM_THRESHOLDS)
    curve.update(probabilities, targets)
    assert torch.equal(metrics["positives"], curve.confmat[:, :, :, 1].permute(1, 2, 0))


def test_class_metrics_do_not_depend_on_the_batch_size() -> None:
    logits, targets = random_predictions(100, 5)
    one, many = compute_in_batches(logits, targets, 1), compute_in_batches(logits, targets, 100)
    assert one["ece"].item() == pytest.approx(many["ece"].item(), abs=1e-6)
    for name in ("confusion_matrix", "positives"):
        assert torch.equal(one[name], many[name])


def test_class_metric_state_does_not_grow_with_the_number_of_images() -> None:
    metrics = PerClassMetrics(3)
    sizes = []
    for _ in range(2):
        metrics.update(*random_predictions(1000, 3))
        state = [value for value in metrics.metric_state.values() if isinstance(value, Tensor)]
        assert len(state) == len(metrics.metric_state)
        sizes.append(sum(value.numel() for value in state))
    assert sizes == 2 * [9 + 3 * 16 + 1 + 3 * 2 * NUM_THRESHOLDS]


def test_samples_with_nan_logits_are_counted() -> None:
    metrics = PerClassMetrics(3)
    metrics.update(torch.full((4, 3), torch.nan), torch.tensor([0, 1, 2, 0]))
    assert metrics.compute()["confusion_matrix"].sum() == 4


@pytest.mark.parametrize("batch_size", [1, 37, 500])
def test_top_errors_equal_a_full_sort_by_confidence(batch_size: int) -> None:
    logits, targets = random_predictions(500, 10, 1.0)
    images = torch.arange(500.0).view(500, 1, 1, 1)
    top = TopErrors()
    for rows in torch.arange(500).split(batch_size):
        top.update(images[rows], logits[rows], targets[rows])
        assert len(top.rows["images"]) <= NUM_ERRORS
    errors = top.compute()
    confidences, predicted = logits.softmax(dim=1).max(dim=1)
    wrong = (predicted != targets).nonzero().flatten()
    expected = wrong[confidences[wrong].argsort(descending=True)][:NUM_ERRORS]
    assert errors["images"].flatten().tolist() == expected.tolist()
    assert errors["predicted"].tolist() == predicted[expected].tolist()
    assert errors["targets"].tolist() == targets[expected].tolist()
    assert errors["confidences"].tolist() == confidences[expected].tolist()


@pytest.mark.parametrize("num_images", [1, 2, 5])
@pytest.mark.parametrize("num_errors", [0, 1, 2])
@pytest.mark.pictures
def test_any_number_of_top_errors_can_be_plotted(num_images: int, num_errors: int) -> None:
    """The tensors keep their dimensions, also for one error of one pixel."""
    num_errors = min(num_images, num_errors)
    logits = torch.eye(2)[torch.zeros(num_images, dtype=torch.int64)]
    targets = (torch.arange(num_images) < num_errors).long()
    top = TopErrors()
    top.update(torch.zeros(num_images, 1, 1, 1), logits, targets)
    errors = top.compute()
    assert errors["images"].shape == (num_errors, 1, 1, 1)
    assert errors["confidences"].shape == errors["predicted"].shape == errors["targets"].shape == (num_errors,)
    data: Any = SimpleNamespace(classes=["a", "b"], normalize=Normalize([0.5], [0.5]))
    plot = plots.plot_errors(errors, data)
    assert min(plot.size) > 0
    blank = plots.plot_image_grid([], [], "no errors in the test")
    assert (plot.size == blank.size) == (num_errors == 0)


def test_a_rank_without_batches_adds_no_top_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = TopErrors(), TopErrors()
    one.update(torch.ones(1, 1, 2, 2), torch.tensor([[2.0, 0.0]]), torch.tensor([1]))
    two.update(torch.zeros(2, 1, 2, 2), torch.tensor([[3.0, 0.0], [0.0, 9.0]]), torch.tensor([1, 1]))
    monkeypatch.setattr(class_metrics, "all_gather_object", lambda _: [{}, one.rows, two.rows])
    assert TopErrors().compute()["images"][:, 0, 0, 0].tolist() == [0.0, 1.0]
    monkeypatch.setattr(class_metrics, "all_gather_object", lambda _: [{}, {}])
    assert TopErrors().compute() == {}


@pytest.mark.parametrize("num_classes", [1, 2, 3])
@pytest.mark.parametrize("num_images", [0, 1, 2])
@pytest.mark.pictures
def test_few_classes_and_images_have_scores_and_a_confusion_plot(num_classes: int, num_images: int) -> None:
    """Values from no images are 0, not an error."""
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    matrix[0, -1] = num_images
    classes = ["a", "b", "c"][:num_classes]
    scores = per_class_scores({"confusion_matrix": matrix, "ece": torch.tensor(0.0)}, classes)
    assert scores["classes"]["a"]["support"] == num_images
    is_confused = num_classes > 1 and num_images > 0
    assert bool(most_confused_pairs(scores, 3)) == is_confused
    assert ("is taken for" in most_frequent_error(scores)) == is_confused
    assert plots.plot_confusion(matrix, classes, "few").width > 200


@pytest.mark.pictures
def test_image_grids_are_wide_enough_for_title_and_captions() -> None:
    image = Image.new("L", (28, 28))
    title = "the 1 most confident error of the test"
    assert plots.plot_image_grid([image], ["a"], title).width > plots.load_font(14).getlength(title)
    sheets = [plots.plot_samples(torch.zeros(n, 1, 8, 8).byte(), torch.zeros(n).long(), ["a"], "") for n in (0, 1, 2)]
    assert [sheet.width for sheet in sheets] == sorted(sheet.width for sheet in sheets)


def test_confused_pairs_are_sorted_by_number_of_errors() -> None:
    matrix = torch.tensor([[5, 2, 0], [3, 4, 1], [0, 0, 6]])
    scores = per_class_scores({"confusion_matrix": matrix, "ece": torch.tensor(0.0)}, ["a", "b", "c"])
    assert most_confused_pairs(scores, 3) == ["a and b: 5 of 15", "b and c: 1 of 14"]
    assert most_frequent_error(scores) == "most often, b is taken for a: 3 of 8"


class Collected:
    """Keeps the ClassMetrics of the runs in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[ClassMetrics] = []
        original = ClassMetrics.__init__

        def init(metrics: ClassMetrics) -> None:
            original(metrics)
            self.all.append(metrics)

        monkeypatch.setattr(ClassMetrics, "__init__", init)


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[ClassMetrics]:
    return Collected(monkeypatch).all


def test_a_run_collects_metrics_of_validation_and_test(command: Command, collected: list[ClassMetrics]) -> None:
    answer = command(*FEW, "logger=none", "name=first")
    assert answer.code == 0, answer.err
    metrics = collected[0]
    assert metrics.val
    assert metrics.test
    assert metrics.errors
    datamodule = sample_datamodule()
    assert datamodule.val_set
    assert datamodule.test_set
    assert metrics.val["confusion_matrix"].sum() == len(datamodule.val_set)
    assert metrics.test["confusion_matrix"].sum() == len(datamodule.test_set)
    assert len(metrics.errors["images"]) == NUM_ERRORS
    assert "confused" in answer.out


def test_without_test_batches_there_are_no_test_metrics(
    command: Command, collected: list[ClassMetrics], tmp_path: Path
) -> None:
    """The model card does not show those of the validation instead."""
    answer = command(*FEW, "trainer.limit_test_batches=0", "name=first")
    assert answer.code == 0, answer.err
    assert collected[0].val
    assert collected[0].test is None
    run = tmp_path / "outputs" / "first"
    assert "| calibration | not measured |" in (run / "README.md").read_text()
    assert not (run / "confusion_matrix.png").exists()
    assert "confused" not in answer.out


@pytest.mark.parametrize(
    "arguments",
    [["trainer.fast_dev_run=true"], ["trainer.num_sanity_val_steps=1"], ["trainer.limit_val_batches=0"]],
)
def test_short_runs_end_with_a_result(command: Command, tmp_path: Path, arguments: list[str]) -> None:
    answer = command(*FEW, *arguments, "name=first")
    assert answer.code == 0, answer.err
    assert (tmp_path / "outputs" / "first" / "result.json").exists()


def test_class_metrics_are_skipped_for_too_many_classes(
    command: Command, collected: list[ClassMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_metrics, "MAX_CLASSES", 9)
    assert command(*FEW, "name=first").code == 0
    assert collected[0].val is None
    assert collected[0].test is None
    assert collected[0].errors


@pytest.mark.parametrize(
    ("removed", "has_card", "has_plots"),
    [
        (["callbacks=none"], False, False),
        (["callbacks.class_metrics=null"], True, True),
        (["callbacks.report=null", "callbacks.tensorboard=null"], True, False),
        (["callbacks.model_card=null"], False, True),
    ],
)
def test_each_report_callback_can_be_removed(
    command: Command, tmp_path: Path, removed: list[str], has_card: bool, has_plots: bool
) -> None:
    """The run ends with its result; only the model card and the plots need their own callbacks."""
    answer = command(*FEW, *removed, "name=first")
    assert answer.code == 0, answer.err
    run = tmp_path / "outputs" / "first"
    assert (run / "result.json").exists()
    assert (run / "README.md").exists() == has_card
    assert bool(list(run.glob("*.png"))) == has_plots
    assert "test/accuracy" in answer.out


def test_the_result_is_written_after_the_model_card(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose card could not be written is not finished."""

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pytorch_intro.reports.model_card.model_card", fail)
        answer = command(*FEW, "name=first")
    assert answer.code != 0
    assert "disk is full" in answer.err
    run = tmp_path / "outputs" / "first"
    assert not (run / "result.json").exists()
    assert command(*FEW, "name=first").code == 0
    assert (run / "README.md").exists()


def test_find_class_metrics_returns_empty_metrics_without_the_callback() -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    metrics = find_class_metrics(trainer)
    assert (metrics.val, metrics.test, metrics.errors) == (None, None, None)
    own = ClassMetrics()
    trainer.callbacks.append(own)  # type: ignore[attr-defined]
    assert find_class_metrics(trainer) is own


def compute_on_rank(rank: int, folder: str) -> None:
    """Save the metrics of this rank's images: rank 0 has all but one, rank 1 that one, rank 2 none."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    logits, targets = random_predictions(300, 4)
    metrics, top = PerClassMetrics(4), TopErrors()
    for rows in (torch.arange(299), torch.arange(299, 300), torch.arange(0))[rank].split(100):
        if len(rows):
            metrics.update(logits[rows], targets[rows])
            top.update(rows.float().view(-1, 1, 1, 1), logits[rows], targets[rows])
    torch.save((metrics.compute(), top.compute()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_class_metrics_of_unequal_ranks_equal_those_of_one_process(tmp_path: Path) -> None:
    logits, targets = random_predictions(300, 4)
    expected, top = compute_in_batches(logits, targets), TopErrors()
    top.update(torch.arange(300.0).view(-1, 1, 1, 1), logits, targets)
    processes = [FORKS.Process(target=compute_on_rank, args=(rank, str(tmp_path))) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for rank in range(3):
        metrics, errors = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(metrics["confusion_matrix"], expected["confusion_matrix"])
        assert torch.equal(metrics["positives"], expected["positives"])
        torch.testing.assert_close(metrics["ece"], expected["ece"])
        assert torch.equal(errors["images"], top.compute()["images"])


def test_a_model_card_names_a_hundred_of_many_classes() -> None:
    classes = [f"class {number}" for number in range(10_000)]
    assert list_classes(classes[:3]) == "class 0, class 1, class 2"
    assert list_classes(classes).endswith("class 99 and 9,900 more, see checkpoints/best.ckpt")
    assert "class 100" not in list_classes(classes)
