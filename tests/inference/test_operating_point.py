"""With two classes, a threshold is chosen for a wanted precision or recall, and predict uses it."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, Command, sample_datamodule, train_here
from explained import assert_explained
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from pytorch_intro import load_run
from pytorch_intro.analysis import plots
from pytorch_intro.cli.python_api import compose
from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.decision import check_decision
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor
from pytorch_intro.inference.operating_point import Goal, Scores, check_goal, choose_threshold, short_number_between

SHIRT, TOP = 6, 0


def random_scores(count: int = 300, decimals: int = 2) -> Scores:
    """Return scores of which many are equal, higher for positive images."""
    generator = torch.Generator().manual_seed(count)
    is_positive = torch.rand(count, generator=generator) < 0.4
    scores = torch.sigmoid(torch.randn(count, generator=generator) + 2.0 * is_positive - 1.0)
    return Scores(scores.double().round(decimals=decimals), is_positive)


def rates(scores: Tensor, is_positive: Tensor, threshold: float) -> dict[str, float]:
    """Return precision and recall by their definitions."""
    predicted = [score >= threshold for score in scores.tolist()]
    correct = sum(guess and truth for guess, truth in zip(predicted, is_positive.tolist(), strict=True))
    return {"precision": correct / max(sum(predicted), 1), "recall": correct / int(is_positive.sum())}


@pytest.mark.parametrize("metric", ["precision", "recall"])
@pytest.mark.parametrize("minimum", [0.3, 0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("count", [5, 300])
def test_the_threshold_is_that_of_a_direct_search(metric: Any, minimum: float, count: int) -> None:
    """Of all thresholds that reach the minimum, it has the best other metric."""
    scores = random_scores(count)
    other = {"precision": "recall", "recall": "precision"}[metric]
    every = [rates(*scores, score) for score in scores.scores.tolist()]
    reached = [found for found in every if found[metric] >= minimum]
    if not reached:
        with pytest.raises(UserError, match="not reached"):
            choose_threshold(scores, Goal(1, metric, minimum), "a", "images")
        return
    found = rates(*scores, choose_threshold(scores, Goal(1, metric, minimum), "a", "images"))
    assert found[metric] >= minimum
    assert found[other] == max(each[other] for each in reached)
    assert found[metric] == max(each[metric] for each in reached if each[other] == found[other])


def test_an_unattainable_precision_is_refused_with_the_best_one() -> None:
    scores = Scores(torch.tensor([0.9, 0.8, 0.7, 0.6]).double(), torch.tensor([False, True, True, False]))
    with pytest.raises(
        UserError, match=r"min_precision=0\.9: not reached on the 4 validation images; use at most"
    ) as e:
        choose_threshold(scores, Goal(1, "precision", 0.9), "a", "validation images")
    assert "min_precision=0.6666, which has a recall of 1.0000" in str(e.value)
    assert choose_threshold(scores, Goal(1, "precision", 0.6666), "a", "validation images") == 0.65


def test_images_without_the_class_are_refused() -> None:
    with pytest.raises(UserError, match="the 2 validation images have none of class a"):
        choose_threshold(Scores(torch.ones(2), torch.zeros(2).bool()), Goal(1, "recall", 0.9), "a", "validation images")


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [(0.0, 1.0, 0.5), (0.3, 0.4, 0.35), (0.123, 0.124, 0.1235), (0.999999, 1.0, 0.9999995)],
)
def test_a_threshold_between_two_scores_has_few_digits(lower: float, upper: float, expected: float) -> None:
    assert short_number_between(lower, upper) == expected


def test_a_threshold_between_neighboring_numbers_is_the_larger_one() -> None:
    upper = torch.tensor(0.3, dtype=torch.float64)
    lower = torch.nextafter(upper, torch.tensor(0.0, dtype=torch.float64))
    assert lower.item() < short_number_between(lower.item(), upper.item()) <= upper.item()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shirts and T-shirts, which are hard to tell apart."""
    root = tmp_path_factory.mktemp("photos")
    datamodule = sample_datamodule()
    images, targets = datamodule.train_set.__getitems__(range(len(datamodule.train_set)))
    for name, label in (("shirt", SHIRT), ("top", TOP)):
        (root / name).mkdir()
        for number, image in enumerate(images[targets == label][:120]):
            Image.fromarray(image[0].numpy()).save(root / name / f"{number:03}.png")
    return root


FEW = ["data=folder", "model=mlp", "trainer=cpu", "trainer.precision=32-true", "data.image_size=28", "logger=none"]
FEW += [*NO_PICTURES, "data.batch_size=16"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    outputs = tmp_path_factory.mktemp("two")
    splits = ["data.val_fraction=0.3", "data.test_fraction=0.3"]
    train_here(*FEW, *splits, "trainer.max_epochs=3", f"data.root={photos}", "name=two", f"outputs={outputs}")
    return outputs / "two"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "two"))


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "eval.json").read_text())


def scores_of(run: Path, photos: Path, split: str, positive: int) -> tuple[Tensor, Tensor]:
    """Return the probability of the class for the run's images, computed by load_run, and whether it is the label."""
    overrides = ["data=folder", f"data.root={photos}", "data.val_fraction=0.3", "data.test_fraction=0.3"]
    datamodule = sample_datamodule(*overrides, "data.image_size=28")
    subset = datamodule.val_set if split == "val" else datamodule.test_set
    assert subset
    images, targets = subset.__getitems__(range(len(subset)))
    with torch.no_grad():
        return Predictor(load_run(run))(images)[:, positive], targets == positive


@pytest.mark.parametrize(
    ("setting", "positive"),
    [("min_precision=0.75", "top"), ("min_recall=0.9", "top"), ("min_recall=0.8", "shirt")],
)
@pytest.mark.pictures
def test_the_threshold_is_chosen_on_validation_images_and_evaluated_on_test_images(
    script: Command, run: Path, photos: Path, setting: str, positive: str
) -> None:
    answer = script("eval", f"run={run}", "trainer.accelerator=cpu", setting, f"positive={positive}")
    assert answer.code == 0, answer.err
    found, number = evaluation(run), ["shirt", "top"].index(positive)
    assert found["positive"] == positive
    assert found["threshold_from"] == "validation images"
    metric, minimum = setting.removeprefix("min_").split("=")
    val, test = (scores_of(run, photos, split, number) for split in ("val", "test"))
    expected = choose_threshold(Scores(val[0].double(), val[1]), Goal(number, metric, float(minimum)), "", "")  # type: ignore[arg-type]
    assert found["threshold"] == pytest.approx(expected, abs=1e-3)
    assert rates(*val, found["threshold"])[metric] >= float(minimum)
    for name, value in rates(*test, found["threshold"]).items():
        assert found[f"{name}_at_threshold"] == pytest.approx(value)
        assert f"{name} {value:.2%}" in answer.out
    with Image.open(run / "operating_point.png") as picture:
        assert picture.width > 500


def test_without_validation_images_the_evaluated_ones_choose_and_eval_says_so(
    script: Command, run: Path, photos: Path, tmp_path: Path
) -> None:
    """The images of the run are gone, and others are evaluated."""
    other = Path(shutil.copytree(photos, tmp_path / "other"))
    config = (run / "config.yaml").read_text()
    assert str(photos) in config
    (run / "config.yaml").write_text(config.replace(str(photos), str(tmp_path / "gone")))
    answer = script(
        "eval", f"run={run}", "trainer.accelerator=cpu", "data=folder", f"data.root={other}", "min_recall=0.9"
    )
    assert answer.code == 0, answer.err
    found = evaluation(run)
    assert found["images"] == 240
    assert found["threshold_from"] == "evaluated images"
    assert found["recall_at_threshold"] >= 0.9
    assert "validation images of the run are not available" in answer.out + answer.err
    assert "chosen on the evaluated images, without validation images" in answer.out + answer.err


def test_other_images_are_evaluated_with_a_threshold_from_the_runs_validation_images(
    script: Command, run: Path, photos: Path
) -> None:
    answer = script("eval", f"run={run}", "trainer.accelerator=cpu", "min_recall=0.9")
    own = evaluation(run)
    answer = script(
        "eval", f"run={run}", "trainer.accelerator=cpu", "data=folder", f"data.root={photos}", "min_recall=0.9"
    )
    assert answer.code == 0, answer.err
    assert evaluation(run)["images"] == 240
    assert evaluation(run)["threshold"] == own["threshold"]
    assert (run / "reliability_external.png").exists()


def predicted(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))


@pytest.mark.parametrize("positive", ["top", "shirt"])
def test_predict_labels_images_by_the_threshold(script: Command, run: Path, photos: Path, positive: str) -> None:
    images = f"images={photos / 'shirt'}"
    assert script("predict", f"run={run}", images, "top_k=2").code == 0
    shares = []
    for row in predicted(run):
        columns = {row["label"]: row["probability"], row["label_2"]: row["probability_2"]}
        shares.append(float(columns[positive]))
    threshold = sorted(shares)[30] + 1e-5
    answer = script("predict", f"run={run}", images, "top_k=2", f"threshold={threshold}", f"positive={positive}")
    assert answer.code == 0, answer.err
    other = {"top": "shirt", "shirt": "top"}[positive]
    assert [row["label"] for row in predicted(run)] == [positive if s >= threshold else other for s in shares]
    assert all(row["label"] != row["label_2"] for row in predicted(run))
    assert f"threshold: {positive} if its probability is at least {threshold}" in answer.out


NAMES = ["true", "false", "True", "on", "null", "1", "1.50", "1e3", "0x10", "007", "nan", "a,b", "[a]", "don't"]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_may_have_any_name(name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is typed: Hydra reads some of them as another kind of value."""
    run = FinishedRun(finished_run)
    for classes in ([name, "other"], ["other", name]):
        monkeypatch.setitem(run.inputs, "classes", classes)
        arguments = [f"positive={name}", f"run_dir={finished_run}"]
        decision = check_decision(compose("predict", [*arguments, "threshold=0.5"]), run)
        goal = check_goal(compose("eval", [*arguments, "min_recall=0.5"]), run)
        assert decision
        assert goal
        assert decision.positive == goal.positive == classes.index(name)


@pytest.mark.parametrize(("value", "name"), [(True, "true"), (False, "false"), (1, "1"), (1.5, "1.5"), ("null",) * 2])
def test_a_class_in_a_config_is_named_in_the_spelling_of_hydra(
    value: Any, name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FinishedRun(finished_run)
    monkeypatch.setitem(run.inputs, "classes", [name, "other"])
    assert check_decision(OmegaConf.create({"positive": value, "threshold": 0.5}), run) == (0, 0.5)


@pytest.mark.parametrize("positive", [None, "null"])
def test_without_a_class_the_second_is_positive(
    positive: str | None, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FinishedRun(finished_run)
    monkeypatch.setitem(run.inputs, "classes", ["a", "b"])
    assert check_decision(OmegaConf.create({"positive": positive, "threshold": None}), run) is None
    assert check_decision(OmegaConf.create({"positive": positive, "threshold": 0.5}), run) == (1, 0.5)


def test_predict_uses_the_threshold_of_the_evaluation(script: Command, run: Path, photos: Path) -> None:
    assert script("eval", f"run={run}", "trainer.accelerator=cpu", "min_recall=0.9", "positive=shirt").code == 0
    answer = script("predict", f"run={run}", f"images={photos / 'shirt'}", "threshold=eval")
    assert answer.code == 0, answer.err
    assert f"threshold: shirt if its probability is at least {evaluation(run)['threshold']}" in answer.out


@pytest.mark.parametrize(
    ("name", "arguments", "names", "problem", "remedy"),
    [
        ("eval", ["min_precision=0.9", "min_recall=0.9"], ["min_recall=0.9"], "cannot be chosen for", "use one"),
        ("eval", ["min_precision=0"], ["min_precision=0"], "invalid value", "greater than 0"),
        ("eval", ["min_recall=1.5"], ["min_recall=1.5"], "invalid value", "less than or equal to 1"),
        ("eval", ["min_recall=high"], ["min_recall=high"], "invalid value", "number"),
        ("eval", ["min_recall=0.9", "positive=sock"], ["positive=sock"], "no such class", "use shirt or top"),
        ("eval", ["positive=top"], ["positive=top"], "no effect", "min_precision or min_recall"),
        ("predict", ["threshold=0"], ["threshold=0"], "invalid value", "greater than 0"),
        ("predict", ["threshold=1.2"], ["threshold=1.2"], "invalid value", "less than or equal to 1"),
        ("predict", ["threshold=best"], ["threshold=best"], "invalid value", "'eval'"),
        ("predict", ["threshold=0.5", "positive=sock"], ["positive=sock"], "no such class", "use shirt or top"),
        ("predict", ["positive=top"], ["positive=top"], "no effect", "set threshold"),
        ("predict", ["threshold=eval"], ["threshold=eval", "eval.json"], "no threshold in", r"src/eval\.py"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    script: Command,
    run: Path,
    photos: Path,
    name: str,
    arguments: list[str],
    names: list[str],
    problem: str,
    remedy: str,
) -> None:
    more = ["trainer.accelerator=cpu"] if name == "eval" else [f"images={photos / 'shirt'}"]
    before = sorted(run.iterdir())
    answer = script(name, f"run={run}", *arguments, *more)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert sorted(run.iterdir()) == before


def test_a_precision_that_no_threshold_reaches_is_refused_and_nothing_is_written(script: Command, run: Path) -> None:
    """The network gives every image the same probability, so that half of the positive ones are right."""
    file = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    for weights in checkpoint["state_dict"].values():
        weights.zero_()
    torch.save(checkpoint, file)
    before = sorted(run.iterdir())
    answer = script("eval", f"run={run}", "trainer.accelerator=cpu", "min_precision=0.9")
    assert answer.code == 2
    names = ["min_precision=0.9", "50 validation images"]
    assert_explained(
        answer.err, ["min_precision=0.9"], names, "not reached", r"use at most min_precision=0\.5, .* 1\.0"
    )
    assert sorted(run.iterdir()) == before


def test_a_threshold_for_the_other_class_is_refused(script: Command, run: Path, photos: Path) -> None:
    (run / "eval.json").write_text(json.dumps({"threshold": 0.7, "positive": "top"}))
    answer = script("predict", f"run={run}", f"images={photos / 'shirt'}", "threshold=eval", "positive=shirt")
    assert answer.code == 2
    assert_explained(answer.err, ["positive=shirt"], ["positive=shirt"], "is for top", "leave positive out")


@pytest.mark.parametrize(("name", "argument"), [("eval", "min_recall=0.9"), ("predict", "threshold=0.8")])
def test_more_than_two_classes_are_refused(
    script: Command, run_copy: Path, photos: Path, name: str, argument: str
) -> None:
    more = [] if name == "eval" else [f"images={photos}"]
    answer = script(name, f"run={run_copy}", argument, *more)
    assert answer.code == 2
    assert_explained(answer.err, [argument], [argument], "needs two classes, but .* has 10", "leave it out")


@pytest.mark.pictures
@pytest.mark.parametrize("positives", [0, 1, 30])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_curves_of_any_images_can_be_plotted(positives: int, threshold: float) -> None:
    """Of images without the class, and if no image reaches the threshold."""
    scores = torch.linspace(0.01, 0.99, 40).double()
    picture = plots.plot_operating_point(scores, torch.arange(40) >= 40 - positives, threshold, "a")
    assert len({*picture.tobytes()}) > 3
