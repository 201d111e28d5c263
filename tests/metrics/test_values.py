"""Each metric equals its definition on all predictions at once, however they are split into batches and ranks."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FORKS, compose
from torch import Tensor
from torchmetrics.functional import classification as functional

from pytorch_intro.metrics import callback
from pytorch_intro.metrics.callback import FurtherMetrics, compute_groups
from pytorch_intro.metrics.scores import AUROC, NUM_BINS, AveragePrecision

NAMES = ["top5", "f1_macro", "balanced_accuracy", "auroc", "average_precision", "mcc"]
KAPPA = "+metrics.kappa._target_=torchmetrics.classification.MulticlassCohenKappa"
BINNED = "+metrics.binned={_target_: pytorch_intro.metrics.scores.AUROC, exact: false}"


def predictions(images: int = 500, num_classes: int = 10, correct: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return logits (images, num_classes) that favor the targets (images,), of which some are much more frequent."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, num_classes**2, (images,), generator=generator).float().sqrt().long()
    logits = torch.randn(images, num_classes, generator=generator)
    logits[torch.arange(images), targets] += correct
    return logits, targets


def measure(logits: Sequence[Tensor], targets: Sequence[Tensor], names: Sequence[str] = NAMES, *more: str) -> Any:
    """Return what the callback logs after a validation with these batches, by name without the stage."""
    nodes = compose(f"metrics=[{','.join(names)}]", *more).metrics
    num_classes, images = (logits[0].shape[1] if logits else 10), sum(map(len, targets))
    further = FurtherMetrics(nodes, num_classes)
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(
        device=torch.device("cpu"), log_dict=lambda values, **_: logged.update({k: v.item() for k, v in values.items()})
    )
    further.start("val", images, module.device)
    for some_logits, some_targets in zip(logits, targets, strict=True):
        further.update("val", {"logits": some_logits, "targets": some_targets})
    further.finish("val", module)
    return {name.removeprefix("val/"): value for name, value in logged.items()}


def expected(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics by their definition or torchmetrics' functional form, of all predictions at once."""
    num_classes = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    recalls = [(logits.argmax(1) == c)[targets == c].float().mean() for c in range(num_classes) if (targets == c).any()]
    values = {
        "top5": (logits.topk(5).indices == targets[:, None]).any(dim=1).float().mean(),
        "f1_macro": functional.multiclass_f1_score(probabilities, targets, num_classes, average="macro"),
        "balanced_accuracy": torch.stack(recalls).mean(),
        "auroc": functional.multiclass_auroc(probabilities, targets, num_classes),
        "average_precision": functional.multiclass_average_precision(probabilities, targets, num_classes),
        "mcc": functional.multiclass_matthews_corrcoef(probabilities, targets, num_classes),
        "kappa": functional.multiclass_cohen_kappa(probabilities, targets, num_classes),
    }
    return {name: value.item() for name, value in values.items()}


@pytest.mark.parametrize("batch_size", [1, 64, 500])
def test_metrics_of_batches_equal_those_of_all_predictions(batch_size: int) -> None:
    """Also of another torchmetrics class; balanced accuracy is torchmetrics' macro accuracy if all classes occur."""
    logits, targets = predictions()
    measured = measure(logits.split(batch_size), targets.split(batch_size), NAMES, KAPPA)
    assert list(measured) == [*NAMES, "kappa"]
    assert measured == pytest.approx(expected(logits, targets), abs=1e-6)
    macro = functional.multiclass_accuracy(logits, targets, 10, average="macro").item()
    assert measured["balanced_accuracy"] == pytest.approx(macro, abs=1e-6)


def test_metrics_are_logged_in_the_order_of_the_list() -> None:
    logits, targets = predictions(50)
    assert list(measure([logits], [targets], ["mcc", "accuracy", "auroc"])) == ["mcc", "auroc"]


def test_equal_scores_count_half_in_the_auroc_and_as_one_step_in_the_average_precision() -> None:
    logits, targets = predictions()
    rounded = (logits / 2).round()
    measured = measure([rounded], [targets], ["auroc", "average_precision"])
    assert len(rounded.unique()) < 10
    reference = expected(rounded, targets)
    assert measured == pytest.approx({name: reference[name] for name in measured}, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_metrics_of_few_classes(num_classes: int) -> None:
    logits, targets = predictions(100, num_classes, correct=1.0)
    measured = measure(logits.split(30), targets.split(30), NAMES[1:])
    probabilities = logits.softmax(dim=1)
    assert measured["auroc"] == pytest.approx(functional.multiclass_auroc(probabilities, targets, num_classes).item())
    assert measured["mcc"] == pytest.approx(
        functional.multiclass_matthews_corrcoef(probabilities, targets, num_classes).item(), abs=1e-6
    )


def test_means_over_classes_leave_out_classes_without_images() -> None:
    """torchmetrics counts them as 0."""
    logits, targets = predictions()
    present = [c for c in range(10) if c not in (3, 7)]
    rows = torch.isin(targets, torch.tensor(present))
    logits, targets = logits[rows], targets[rows]
    probabilities = logits.softmax(dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        areas = functional.multiclass_auroc(probabilities, targets, 10, average="none")[present]
        precisions = functional.multiclass_average_precision(probabilities, targets, 10, average="none")[present]
    recalls = functional.multiclass_recall(probabilities, targets, 10, average="none")[present]
    scores = functional.multiclass_f1_score(probabilities, targets, 10, average="none")[present]
    values = {"auroc": areas, "average_precision": precisions, "balanced_accuracy": recalls, "f1_macro": scores}
    assert set(logits.argmax(dim=1).tolist()) > set(present)
    measured = measure([logits], [targets], list(values))
    assert measured == pytest.approx({name: value.mean().item() for name, value in values.items()}, abs=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_areas_are_not_defined_with_images_of_one_class(exact: bool) -> None:
    for metric in (AUROC(3, exact), AveragePrecision(3, exact)):
        metric.update(torch.full((4, 3), 1 / 3), torch.zeros(4, dtype=torch.int64))
        assert metric.compute().isnan()


def test_large_sets_are_binned_in_bounded_memory_and_close_to_the_exact_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    """One million images x 1,000 classes are binned; the state does not grow with the images."""
    logits, targets = predictions(4000)
    confident = 4 * logits  # many probabilities near 0 and 1
    exact = measure(confident.split(256), targets.split(256), ["auroc", "average_precision"])
    monkeypatch.setattr(callback, "MAX_SCORES", 39_999)
    binned = measure(confident.split(256), targets.split(256), ["auroc", "average_precision"])
    assert binned != exact
    assert binned == pytest.approx(exact, abs=1e-3)
    metric = AUROC(10, exact=False)
    for _ in range(3):
        metric.update(confident.softmax(dim=1), targets)
        assert metric.histogram.numel() == 10 * 2 * NUM_BINS
        assert metric.metric_state.keys() == {"histogram"}


@pytest.mark.parametrize(("images", "num_classes", "text"), [(6000, 10, "exact"), (1_000_000, 1000, "binned")])
def test_the_log_states_whether_areas_are_exact(
    images: int, num_classes: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    further = FurtherMetrics(compose("metrics=[auroc,f1_macro]").metrics, num_classes)
    with caplog.at_level("INFO"):
        further.start("val", images, torch.device("cpu"))
    assert f"metrics: val/auroc {text}" in caplog.text
    assert f"{images:,} images x {num_classes:,} classes" in caplog.text
    assert further.collections["val"]["val/auroc"].exact == (text == "exact")


def test_a_first_batch_without_errors_does_not_merge_metrics() -> None:
    """By torchmetrics' own rule, accuracy and top-5 accuracy would share their states from then on."""
    right, wrong = torch.eye(10) * 9, torch.eye(10).roll(1, dims=0) * 9
    targets = torch.arange(10)
    accuracy = "+metrics.top1={_target_: torchmetrics.classification.MulticlassAccuracy, average: micro, top_k: 1}"
    top2 = "+metrics.top2={_target_: torchmetrics.classification.MulticlassAccuracy, average: micro, top_k: 2}"
    second = wrong + torch.eye(10)  # the right class is the second
    measured = measure([right, second], [targets, targets], [], accuracy, top2)
    assert measured == {"top1": 0.5, "top2": 1.0}


def test_metrics_with_the_same_states_are_updated_once() -> None:
    nodes = compose(f"metrics=[{','.join(NAMES)}]", KAPPA).metrics
    metrics = {name: callback.build_metric(name, node, 10, is_exact=True) for name, node in nodes.items()}
    groups = [["top5"], ["f1_macro", "balanced_accuracy"], ["auroc", "average_precision"], ["mcc", "kappa"]]
    assert compute_groups(metrics) == groups


def test_a_second_validation_starts_from_zero_and_scores_are_freed() -> None:
    logits, targets = predictions(60)
    further = FurtherMetrics(compose("metrics=[auroc,mcc]").metrics, 10)
    logged: list[dict[str, float]] = []
    module: Any = SimpleNamespace(
        device=torch.device("cpu"), log_dict=lambda values, **_: logged.append({k: v.item() for k, v in values.items()})
    )
    for rows in (slice(0, 30), slice(30, 60)):
        further.start("val", 30, module.device)
        further.update("val", {"logits": logits[rows], "targets": targets[rows]})
        further.finish("val", module)
        assert further.collections["val"]["val/auroc"].probabilities == []
    reference = functional.multiclass_matthews_corrcoef(logits[30:], targets[30:], 10).item()
    assert logged[1]["val/mcc"] == pytest.approx(reference, abs=1e-6)


def measure_rank(rank: int, shares: Sequence[int], folder: str) -> None:
    """Measure this rank's share of the images together with the other ranks, and save the result."""
    warnings.simplefilter("error")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(shares)
    )
    logits, targets = predictions()
    mine = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    my_logits, my_targets = (list(values[mine].split(64)) if shares[rank] else [] for values in (logits, targets))
    torch.save(measure(my_logits, my_targets, NAMES, KAPPA, BINNED), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [(300, 200), (500, 0)], ids=["fewer images", "no images"])
def test_metrics_are_exact_over_ranks_with_unequal_shares(shares: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ranks = [FORKS.Process(target=measure_rank, args=(rank, shares, folder)) for rank in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(100)
        assert [rank.exitcode for rank in ranks] == [0, 0]
        results = [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(2)]
    assert results[0] == results[1]
    logits, targets = predictions()
    assert results[0].pop("binned") == measure([logits], [targets], [], BINNED)["binned"]
    assert results[0] == pytest.approx(expected(logits, targets), abs=1e-6)
