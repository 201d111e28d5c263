"""src/eval.py evaluates a finished run from its folder alone."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, sample_datamodule, write_images
from explained import UNKNOWN, assert_explained, assert_facts
from omegaconf import OmegaConf
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.eval_data import images_to_compare
from pytorch_intro.inference.finished_run import FinishedRun, resolve_run
from pytorch_intro.inference.load import Transforms, load_run


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "eval.json").read_text())


def compute_logits(network: torch.nn.Module, transforms: Transforms) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the network's float32 logits for the sample's test images, and the targets."""
    datamodule = sample_datamodule()
    assert datamodule.test_set
    images, targets = datamodule.test_set.__getitems__(range(len(datamodule.test_set)))
    with torch.no_grad():
        return network(transforms.normalize(images)), targets


@pytest.mark.pictures
def test_evaluating_a_copied_run_gives_exactly_the_recorded_result(script: Command, run_copy: Path) -> None:
    answer = script("eval", f"run={run_copy}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    scores, result = evaluation(run_copy), json.loads((run_copy / "result.json").read_text())
    assert scores["test/accuracy"] == result["test/accuracy"]
    assert scores["test/loss"] == result["test/loss"]
    assert f"{result['test/accuracy']:.2%}" in answer.out
    with Image.open(run_copy / "confusion_matrix.png") as picture:
        assert picture.size > (400, 400)


def test_class_scores_equal_their_definitions(script: Command, run_copy: Path) -> None:
    """Precision, recall, F1 and support are computed by their definitions from the network's predictions."""
    assert script("eval", f"run={run_copy}", "trainer.accelerator=cpu", "trainer.precision=32-true").code == 0
    scores = evaluation(run_copy)
    network, classes, transforms = load_run(run_copy)
    logits, targets = compute_logits(network, transforms)
    predicted = logits.argmax(dim=1)
    matrix = [[int(((targets == row) & (predicted == column)).sum()) for column in range(10)] for row in range(10)]
    assert scores["confusion_matrix"] == matrix
    for number, name in enumerate(classes):
        correct, row, column = matrix[number][number], sum(matrix[number]), sum(line[number] for line in matrix)
        precision, recall = correct / max(column, 1), correct / row
        f1 = 2 * precision * recall / (precision + recall) if correct else 0
        expected = {"precision": precision, "recall": recall, "f1": f1, "support": row}
        assert scores["classes"][name] == pytest.approx(expected)


def test_the_calibration_error_equals_that_of_torchmetrics(script: Command, run_copy: Path) -> None:
    assert script("eval", f"run={run_copy}", "trainer.accelerator=cpu", "trainer.precision=32-true").code == 0
    network, _, transforms = load_run(run_copy)
    logits, targets = compute_logits(network, transforms)
    probabilities = logits.softmax(dim=1)
    expected = multiclass_calibration_error(probabilities, targets, num_classes=10, n_bins=15)
    assert evaluation(run_copy)["ece"] == pytest.approx(float(expected), abs=1e-5)


def test_a_random_test_split_is_reproduced_and_refused_if_the_images_change(
    script: Command, command: Command, tmp_path: Path
) -> None:
    """trainer=cpu does not count as other data. With additional images, the test split would be another one."""
    photos, run = tmp_path / "photos", tmp_path / "outputs" / "odd"
    names = ("a|b", "$x$ of $y$", "c'd")
    for name in names:
        write_images(photos, *(f"{name}/{number}.png" for number in range(20)))
    trained = command("data=folder", f"data.root={photos}", "trainer=cpu", "trainer.max_epochs=1", "data.batch_size=8",
                      "data.image_size=16", "data.test_fraction=0.2", "name=odd")  # fmt: skip
    assert trained.code == 0, trained.err
    assert "a\\|b" in (run / "README.md").read_text()
    answer = script("eval", f"run={run}", "trainer=cpu")
    assert answer.code == 0, answer.err
    assert evaluation(run)["images"] == 12
    assert set(evaluation(run)["classes"]) == set(names)
    assert evaluation(run)["test/loss"] == json.loads((run / "result.json").read_text())["test/loss"]
    write_images(photos, "c'd/new.png")
    answer = script("eval", f"run={run}")
    assert answer.code == 2
    assert_explained(answer.err, [], [str(run)], r"training images.*\(43 → 44\)", r"data\.root=DIR")
    images = images_to_compare(FinishedRun(run, parts=["data"]), 10, is_external=False)
    assert images.kind == "random images", "an export is then compared on these"


def test_external_images_are_matched_by_class_name(script: Command, run_copy: Path, tmp_path: Path) -> None:
    """A folder of RGB files of another size, with three of the ten classes and without a test split."""
    photos = tmp_path / "photos"
    for name, count in (("Sneaker", 3), ("Bag", 2), ("Coat", 2)):
        write_images(photos, *(f"{name}/{number}.png" for number in range(count)), size=(50, 40), mode="RGB")
    answer = script("eval", f"run={run_copy}", "data=folder", f"data.root={photos}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    scores = evaluation(run_copy)
    support = {name: values["support"] for name, values in scores["classes"].items() if values["support"]}
    assert support == {"Sneaker": 3, "Bag": 2, "Coat": 2}
    assert scores["images"] == 7
    assert "7 images (all of them, since it has no test split)" in answer.out
    assert "confusion_matrix_external.png" in answer.out  # the model card shows the other one
    assert "training images of the run" not in answer.out
    dress = scores["classes"]["Dress"]
    assert (dress["recall"], dress["f1"], dress["support"]) == (None, None, 0)
    assert re.search(r"Dress +\S+ +- +- +0\n", answer.out), "not 0.00 %"


def test_training_images_among_external_images_are_counted(script: Command, command: Command, tmp_path: Path) -> None:
    """By their pixels: the folder that the run was trained on, and a copy with a new picture."""
    photos, run = tmp_path / "photos", tmp_path / "outputs" / "first"
    for name, level in (("cup", 0), ("key", 100)):
        for number in range(20):
            (photos / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (12, 12), level + number).save(photos / name / f"{number}.png")
    trained = command("data=folder", f"data.root={photos}", "trainer=cpu", "trainer.max_epochs=1", "data.batch_size=8",
                      "data.test_fraction=0.2", "data.val_fraction=0.25", "name=first")  # fmt: skip
    assert trained.code == 0, trained.err
    shutil.copytree(photos, tmp_path / "copy", ignore=shutil.ignore_patterns(".cache"))
    Image.new("L", (12, 12), 255).save(tmp_path / "copy" / "cup" / "new.png")
    for root, total in ((photos, 40), (tmp_path / "copy", 41)):
        answer = script("eval", f"run={run}", "data=folder", f"data.root={root}", "trainer.accelerator=cpu")
        assert answer.code == 0, answer.err
        assert f"24 of these {total} images are training images of the run" in answer.out
        assert f"{total} images of ImageFolder, 24 training and 8 validation images of the run among them" in answer.out
        scores = evaluation(run)
        assert (scores["training_images"], scores["validation_images"], scores["images"]) == (24, 8, total)
    shutil.rmtree(photos)
    answer = script("eval", f"run={run}", "data=folder", f"data.root={root}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    assert "not known whether the run was trained on these images" in answer.out
    assert "training_images" not in evaluation(run)


def test_images_of_other_classes_are_an_error(script: Command, run_copy: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", "cat/1.png", "Bag/1.png")
    answer = script("eval", f"run={run_copy}", "data=folder", f"data.root={tmp_path / 'photos'}")
    assert answer.code == 2
    known = "T-shirt/top, Trouser.*Ankle boot"
    assert_explained(answer.err, [], ["data", str(run_copy)], f"images of cat.*{known}", r"data\.target_transform")
    assert not (run_copy / "eval.json").exists()


def test_too_many_classes_are_evaluated_without_class_scores(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytorch_intro.analysis.class_metrics.MAX_CLASSES", 9)
    answer = script("eval", f"run={run_copy}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    result = json.loads((run_copy / "result.json").read_text())
    assert evaluation(run_copy)["test/accuracy"] == result["test/accuracy"]
    assert "classes" not in evaluation(run_copy)
    assert f"{result['test/accuracy']:.2%}" in answer.out


def test_recorded_settings_cannot_be_deleted(script: Command, run_copy: Path) -> None:
    answer = script("eval", f"run={run_copy}", "~trainer.accelerator")
    assert answer.code == 2
    problem = "settings of a finished run cannot be deleted; use trainer.accelerator=null"
    assert answer.err == f"error: ~trainer.accelerator: {problem}\n"


@pytest.mark.parametrize("name", ["eval", "export"])
def test_augmentation_of_a_finished_run_is_an_error(script: Command, run_copy: Path, name: str) -> None:
    answer = script(name, f"run={run_copy}", "data/augment=[crop]")
    assert answer.code == 2
    assert_explained(answer.err, ["data/augment=[crop]"], ["data/augment: "], "has no effect", "leave it out")


def write_sweep(folder: Path, objective: str, best: str | None = None) -> None:
    """Write sweep.json as a sweep of the jobs a, b and c does; c has not finished."""
    record: dict[str, Any] = {
        "objective": objective,
        "base": {},
        "swept": [],
        "jobs": {"a": {}, "b": {}, "c": {}},
        "best": best,
    }
    (folder / "sweep.json").write_text(json.dumps(record))


def change_result(run: Path, **values: float | None) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {f"val/{name}": value for name, value in values.items()}))


def test_latest_is_the_newest_finished_run_and_a_sweep_gives_its_best_run(run_copy: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for name, finished in (("sweeps/rates/a", 30), ("sweeps/rates/b", 10), ("other", 20)):
        shutil.copytree(run_copy, outputs / name)
        os.utime(outputs / name / "result.json", (finished, finished))
    shutil.copytree(run_copy, outputs / "dry_run")  # the newest, but without weights, as after trainer.fast_dev_run
    (outputs / "dry_run" / "checkpoints" / "best.ckpt").unlink()
    (outputs / "bench" / "x").mkdir(parents=True)
    shutil.copy(run_copy / "result.json", outputs / "bench" / "x")  # the newest, but a benchmark
    rates = outputs / "sweeps" / "rates"
    assert resolve_run("latest", str(outputs)) == str(rates / "a")
    assert resolve_run("other", str(outputs)) == str(outputs / "other")
    change_result(rates / "a", accuracy=0.8, loss=0.5)
    change_result(rates / "b", accuracy=0.7, loss=0.4)
    for objective, best in (("val/accuracy", "a"), ("val/loss", "b")):
        write_sweep(rates, objective)
        assert resolve_run(str(rates), str(outputs)) == resolve_run("sweeps/rates", str(outputs)) == str(rates / best)


def test_the_best_run_of_a_sweep_follows_its_current_results(run_copy: Path, tmp_path: Path) -> None:
    """A job that was killed is resumed alone, or the best one is removed: sweep.json does not know."""
    for job, accuracy in (("a", 0.7), ("b", 0.8)):
        shutil.copytree(run_copy, tmp_path / "sweep" / job)
        change_result(tmp_path / "sweep" / job, accuracy=accuracy)
    write_sweep(tmp_path / "sweep", "val/accuracy", best="a")
    assert resolve_run(str(tmp_path / "sweep"), "") == str(tmp_path / "sweep" / "b")
    shutil.rmtree(tmp_path / "sweep" / "b")
    assert resolve_run(str(tmp_path / "sweep"), "") == str(tmp_path / "sweep" / "a")


# Change of the run, a name that the message contains, and regular expressions of its problem and its remedy.
BROKEN_RUNS = {
    "unfinished": (lambda run: (run / "result.json").unlink(), "{run}", "not finished", "train.py resume="),
    "no config": (lambda run: (run / "config.yaml").unlink(), "run={run}", "no finished run", "run=latest"),
    "no weights": (
        lambda run: (run / "checkpoints" / "best.ckpt").unlink(),
        "{run}/checkpoints/best.ckpt",
        "no such file|does not exist|missing",
        r"\btrain\b",
    ),
    "damaged weights": (
        lambda run: (run / "checkpoints" / "best.ckpt").write_bytes(b"PK broken"),
        "{run}/checkpoints/best.ckpt",
        "damaged|corrupt",
        "copy it.*train",
    ),
    "damaged result": (
        lambda run: (run / "result.json").write_text("{"),
        "{run}/result.json",
        "line 1 column 2",
        "remove|delete",
    ),
    "class that is gone": (
        lambda run: change(run, "model._target_", "pytorch_intro.models.cnn.OldCNN"),
        "model._target_=pytorch_intro.models.cnn.OldCNN",
        "nothing of this name|no longer exists|not found",
        "new name|check out",
    ),
    "setting that is gone": (
        lambda run: change(run, "model.old_width", 3),
        "model.old_width",
        UNKNOWN,
        r"did you mean model\.width",
    ),
    "other width": (
        lambda run: change(run, "model.width", 8),
        "{run}",
        "do(es)? not (fit|match).*size mismatch",
        "train again|retrain",
    ),
    "foreign code": (
        lambda run: change(run, "model._target_", "os.mkdir"),
        "model._target_=os.mkdir",
        "refused|not allowed",
        r"allow=\[os\.mkdir\]",
    ),
}


@pytest.mark.parametrize(("break_it", "name", "problem", "remedy"), BROKEN_RUNS.values(), ids=BROKEN_RUNS)
def test_a_broken_run_gives_a_one_line_error(
    script: Command, run_copy: Path, break_it: Any, name: str, problem: str, remedy: str, tmp_path: Path
) -> None:
    break_it(run_copy)
    before = sorted(run_copy.rglob("*"))
    for entrypoint, more in (("eval", []), ("predict", [f"images={tmp_path}"]), ("export", [])):
        answer = script(entrypoint, f"run={run_copy}", *more)
        assert answer.code == 2, answer.err
        last = answer.err.splitlines()[-1] + "\n"
        assert_explained(last, [str(run_copy)], [name.format(run=run_copy)], problem, remedy)
        assert sorted(run_copy.rglob("*")) == before, entrypoint


def change(run: Path, key: str, value: object) -> None:
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(config, key, value, force_add=True)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))


@pytest.mark.parametrize(
    ("run", "problem", "remedy"),
    [
        ("run=nowhere", "no such folder|does not exist", "run=latest"),
        ("run=latest", "no finished run", r"python src/train\.py"),
        ("run=", "folder of a finished run|required", "run=outputs/first"),
    ],
)
def test_a_missing_run_gives_a_one_line_error(
    script: Command, tmp_path: Path, run: str, problem: str, remedy: str
) -> None:
    answer = script("eval", run, f"outputs={tmp_path}")
    assert answer.code == 2
    assert_explained(answer.err, [run], [run.rstrip("=")], problem, remedy)
    assert not list(tmp_path.iterdir())


def test_a_sweep_without_validation_has_no_best_run(tmp_path: Path) -> None:
    write_sweep(tmp_path, "val/accuracy")
    with pytest.raises(UserError) as error:
        resolve_run(str(tmp_path), "")
    assert_facts(
        str(error.value), [], [f"run={tmp_path}"], "no job .* val/accuracy", "run=DIR with the folder of one job"
    )


def test_a_folder_of_runs_that_is_not_a_sweep_has_no_best_run(run_copy: Path) -> None:
    with pytest.raises(UserError) as error:
        resolve_run(str(run_copy.parent), "")
    assert_facts(str(error.value), [], [f"run={run_copy.parent}"], "no sweep", "another folder, or run=latest")
