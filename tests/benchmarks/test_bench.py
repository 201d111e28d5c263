"""Benchmarks measure every variant on the same images and save the figures; tests do not depend on the speed."""

import json
import re
import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Command, run_code, run_here, sample_datamodule, write_images
from conftest import Process as ForkedProcess
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import bench
from pytorch_intro.benchmarks import quickstart
from pytorch_intro.benchmarks.data import torchvision_dataset
from pytorch_intro.benchmarks.harness import Process, find_comparisons, plot_comparisons, print_comparison, run_process
from pytorch_intro.benchmarks.unbalanced import FewShirts
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample

# Of bench=all.
ALL = ["loop", "startup", "budget", "data", "checkpoints", "reporting", "photo_augmentations", "accuracy"]


@pytest.fixture
def processes_here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run the commands of benchmarks in this process, where each new one would take seconds; return them."""
    commands: list[list[str]] = []

    def run_within(command: list[str]) -> Process:
        commands.append(command)
        config = HydraConfig.instance().cfg
        GlobalHydra.instance().clear()
        started = time.perf_counter()
        output = run_here(Path(command[1]).stem, *command[2:])
        seconds = time.perf_counter() - started
        HydraConfig.instance().cfg = config
        return Process(seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, output)

    for benchmark in ("reporting_overhead", "accuracy", "unbalanced"):
        monkeypatch.setattr(f"pytorch_intro.benchmarks.{benchmark}.run_process", run_within)
    done = SimpleNamespace(returncode=0)
    within = SimpleNamespace(run=lambda command: run_within(command) and done)
    monkeypatch.setattr("pytorch_intro.benchmarks.all.subprocess", within)
    return commands


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bench=accuracy", "bench.recipes=[default,nonsense]"], "experiment=nonsense: unknown choice"),
        (["bench=ablation", "+bench.variants.wide=['model.with=3']"], "model.with: unknown setting"),
        (["bench=unbalanced", "bench.arguments=['loss=none']"], "loss=none: unknown choice"),
    ],
)
def test_wrong_arguments_of_a_variant_are_reported_before_the_first_run(
    script: Command, processes_here: list[list[str]], tmp_path: Path, arguments: list[str], line: str
) -> None:
    answer = script("bench", *arguments, f"outputs={tmp_path}", "trainer.accelerator=cpu")
    assert answer.code == 2
    assert answer.err.startswith(f"error: {line}"), answer.err
    assert not processes_here


def test_run_process_returns_seconds_memory_and_output() -> None:
    """Seconds, peak memory in bytes, and output; a process that fails raises an error."""
    process = run_process([sys.executable, "-c", "print('x' * 10)"])
    assert process.seconds > 0
    # A new process starts with the memory of its parent.
    assert 10**6 < process.memory < 10**9 + 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert process.output == "x" * 10 + "\n"
    with pytest.raises(UserError, match="refused, see its error above"):
        run_process([sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        run_process([sys.executable, "-c", "raise SystemExit(3)"])


def test_bench_loop_measures_every_epoch_of_both_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["data=sample", "bench.rounds=1", "bench.epochs=2", "trainer=cpu"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *small, f"outputs={tmp_path}"])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    figures = json.loads(file.read_text())
    for batch_size in (512, 64):
        measured = figures[f"batches of {batch_size}"]
        assert [len(seconds) for seconds in measured["seconds"].values()] == [2, 2]
        assert all(second > 0 for seconds in measured["seconds"].values() for second in seconds)
        assert measured["ratios"]["plain"] == 1
    out = capsys.readouterr().out
    assert "lightning" in out
    assert str(file) in out
    assert f"plot: {file.with_suffix('.png')}" in out
    assert file.with_suffix(".png").exists()


@pytest.mark.pictures
def test_comparisons_are_plotted_with_their_ratios_to_the_first(tmp_path: Path) -> None:
    """Those in figures of any depth; a benchmark without any has no such picture."""
    first = print_comparison("seconds", "s", plain=[1.0, 2.0], lightning=[3.0])
    second = print_comparison("images_per_second", "images/s", ours=[2000.0], theirs=[1000.0], other=[1.0])
    comparisons = find_comparisons({**first, "share": 0.5, "speed": {"small": second, "ratios": {"a / b": 2.0}}})
    assert [part["medians"] for part in comparisons.values()] == [first["medians"], second["medians"]]
    assert not find_comparisons({"runs": {"a": [1]}, "ratios": {"a / b": 2.0}})
    plot_comparisons(comparisons, tmp_path / "new" / "plot.png")
    with Image.open(tmp_path / "new" / "plot.png") as picture:
        assert picture.width > 500
        assert len(set(picture.convert("L").tobytes())) > 20


def test_bench_data_measures_every_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass compared with torchvision's, each augmentation, memory-mapped files, and a folder of images."""
    small = ["bench=data", "data=sample", "bench.rounds=1", "bench.copies=3", "bench.files=40", "trainer=cpu"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *small, f"outputs={tmp_path}"])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    figures = json.loads(file.read_text())
    variants = ["this project", "… before normalizing", "torchvision, 0 workers", "torchvision, 2 workers"]
    assert list(figures["pass"]["seconds"]) == variants
    assert {"RandomResizedCrop", "RandomHorizontalFlip", "MixUp"} <= set(figures["augmentation"]["medians"])
    assert list(figures["mapped"]["ratios"]) == ["1,600 images", "4,800 images"]
    assert set(figures["folder"]["medians"]) == {"first start", "second start"}
    for part in ("pass", "augmentation", "mapped", "folder"):
        assert all(median > 0 for median in figures[part]["medians"].values())


def test_the_torchvision_dataset_has_the_same_images() -> None:
    datamodule = sample_datamodule()
    dataset = torchvision_dataset(datamodule)
    images, targets = datamodule.train_set.__getitems__([0, 7, 1279])
    expected = datamodule.normalize(images)
    for row, i in enumerate((0, 7, 1279)):
        image, label = dataset[i]
        torch.testing.assert_close(image, expected[row], rtol=1e-5, atol=1e-5)
        assert label == targets[row]


def test_bench_photo_augmentations_measures_both_projects_for_each_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pytorch_intro.photos")
    small = ["bench.rounds=1", "bench.batch_size=2", "bench.image_size=24", "trainer=cpu", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", "bench=photo_augmentations", *small])
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    for name in ("vflip", "color_jitter", "affine", "blur", "trivialaugment", "photos_light", "photos"):
        assert list(figures[name]["medians"]) == ["torchvision", "this project"]
        assert all(median > 0 for median in figures[name]["medians"].values())
    assert "photos, 24 x 24, batches of 2" in capsys.readouterr().out


def run_forked(command: list[str]) -> Process:
    """Run a command of Python in a process that is forked from one with torch and Lightning, which is faster."""
    started = time.perf_counter()
    if command[1] == "-c":
        assert run_code(command[2]) == 0
    elif command[1].endswith("predict.py"):
        config = HydraConfig.instance().cfg
        GlobalHydra.instance().clear()
        run_here("predict", *command[2:])
        HydraConfig.instance().cfg = config
    else:
        process = ForkedProcess(*command[2:])
        process.communicate()
        assert process.returncode == 0
    return Process(time.perf_counter() - started, 0, "")


def test_bench_startup_measures_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In real processes, which leave no files."""
    monkeypatch.setattr("pytorch_intro.benchmarks.startup.run_process", run_forked)
    small = ["bench.rounds=1", "+bench.warm_up=0", "bench.arguments=['data=sample']", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", "bench=startup", *small])
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    assert list(figures["seconds"]) == ["import torch, lightning", "to the first training step", "--cfg job", "--help"]
    assert figures["medians"]["--help"] < figures["medians"]["to the first training step"]
    assert list(figures["prediction"]["ratios"]) == ["import torch", "predict.py of one picture"]
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


@pytest.mark.usefixtures("processes_here")
def test_bench_accuracy_runs_every_recipe_and_the_tutorial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of the runs; the tutorial would take a minute and is replaced."""
    quickstart = {"seconds": 36.0, "memory": 5e8, "test/accuracy": 0.65, "images_per_second": 10_000.0}
    epochs = [{"epoch": 1, "seconds": 9.0, "accuracy": 0.4}, {"epoch": 2, "seconds": 16.0, "accuracy": 0.65}]
    monkeypatch.setattr("pytorch_intro.benchmarks.accuracy.run_quickstart", lambda *_: {**quickstart, "epochs": epochs})
    monkeypatch.setattr("pytorch_intro.benchmarks.accuracy.prepare", lambda *_: None)
    recipe = "bench.arguments=['data=sample','trainer=cpu','trainer.max_epochs=1','model.width=4']"
    monkeypatch.setattr(sys, "argv", ["src/bench.py", "bench=accuracy", "seeds=1", recipe, f"outputs={tmp_path}"])
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    assert [len(figures["runs"][name]) for name in ("quickstart tutorial", "default")] == [1, 1]
    for run in figures["runs"]["default"]:
        assert 0 < run["train_seconds"] < run["total_seconds"] < run["seconds"]
        assert run["memory"] > 1e8
        assert 0 < run["test/accuracy_no_tta"] <= 1
    assert "default, no TTA" in capsys.readouterr().out
    with Image.open(next((tmp_path / "bench").glob("*.png"))) as picture:
        assert picture.size == (1500, 600)


@pytest.mark.usefixtures("processes_here")
def test_bench_ablation_compares_variants_on_validation_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the FLOPs of each: half the training images take half of them."""
    monkeypatch.setattr("pytorch_intro.benchmarks.ablation.prepare", lambda *_, **__: None)
    variants = "{all images: ['model.width=4'], half of them: ['model.width=4', 'data.val_fraction=0.6']}"
    small = ["bench.arguments=['data=sample','trainer=cpu','trainer.max_epochs=1']", "seeds=1"]
    arguments = ["bench=ablation", *small, "~bench.variants", f"+bench.variants={variants}", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *arguments])
    bench.main()
    runs = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())["runs"]
    whole, half = runs["all images"][0], runs["half of them"][0]
    assert 0 < whole["val/accuracy"] <= 1
    assert whole["test/accuracy"] is None
    assert half["flop"] == pytest.approx(whole["flop"] * 0.5, rel=0.01)
    assert "| half of them |" in capsys.readouterr().out


class SampleAsTorchvision(FashionMNISTSample):
    """The sample, with the attributes of torchvision's class."""

    def __init__(self, root: str, train: bool, download: bool) -> None:
        super().__init__(str(PROJECT / "src" / "pytorch_intro" / "data" / "sample"), train)
        self.data = self.images.squeeze(1)


@pytest.mark.usefixtures("processes_here")
def test_bench_unbalanced_measures_the_recall_of_both_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 160 T-shirts and 8 shirts, which are 5 %, and of equally many test images."""
    monkeypatch.setattr("pytorch_intro.benchmarks.unbalanced.FashionMNIST", SampleAsTorchvision)
    monkeypatch.setattr("pytorch_intro.benchmarks.unbalanced.prepare", lambda *_: None)
    train = FewShirts("")
    assert (train.targets.bincount().tolist(), train.classes) == ([160, 8], ["T-shirt/top", "Shirt"])
    assert FewShirts("", train=False).targets.bincount().tolist() == [40, 40]
    short = f"'trainer=cpu','trainer.max_epochs=1','model.width=4','data.val_fraction=0','data.root={tmp_path}'"
    small = f"bench.arguments=[{short}]"
    variants = "{plain: [], sampled: ['data.sampler=balanced']}"
    arguments = ["bench=unbalanced", small, "seeds=1", "~bench.variants", f"+bench.variants={variants}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *arguments, f"outputs={tmp_path}"])
    bench.main()
    runs = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())["runs"]
    for name in ("plain", "sampled"):
        (run,) = runs[name]
        assert sum(run["recall"].values()) / 2 == pytest.approx(run["balanced_accuracy"])
    assert "| sampled |" in capsys.readouterr().out
    assert next((tmp_path / "bench").glob("*.png")).stat().st_size > 1000


def test_bench_checkpoints_measures_epochs_with_and_without_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["bench=checkpoints", "data=sample", "bench.rounds=1", "bench.epochs=2", "trainer=cpu", "model.width=4"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *small, f"outputs={tmp_path}"])
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    assert [len(seconds) for seconds in figures["seconds"].values()] == [2, 2]
    assert len(figures["saving"]) >= 2
    assert 0 < figures["share"] < 1
    assert "a checkpoint" in capsys.readouterr().out


def test_bench_reporting_times_every_plot_and_logger(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    processes_here: list[list[str]],
) -> None:
    """Compared with runs without plots and logs."""
    small = "bench.arguments=['data=sample','trainer.max_epochs=1','trainer.limit_train_batches=2']"
    monkeypatch.setattr(
        sys, "argv", ["src/bench.py", "bench=reporting", "bench.rounds=1", small, f"outputs={tmp_path}"]
    )
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    (clocked,) = figures["clocked"]
    assert list(clocked) == [
        "HParams",
        "Report",
        "ModelCard",
        "TensorBoardPages",
        "SlowStepWarning",
        "StepLogger",
        "TensorBoardLogger",
    ]
    assert all(seconds > 0 for seconds in clocked.values())
    (seconds,) = figures["seconds"]["plots and logs"]
    assert figures["share"] == pytest.approx(sum(clocked.values()) / seconds)
    assert "logger=none" in processes_here[0]
    assert "logger=none" not in processes_here[1]
    assert "timed inside the callbacks" in capsys.readouterr().out


def test_the_quickstart_has_the_parameters_of_the_tutorial_and_learns() -> None:
    """669,706 parameters; trained and tested on a few images."""
    network = quickstart.NeuralNetwork()
    weights = torch.nn.utils.parameters_to_vector(network.parameters())
    assert len(weights) == 669_706
    loader: Any = DataLoader(TensorDataset(torch.rand(20, 1, 28, 28), torch.arange(20) % 10), batch_size=64)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    quickstart.train_epoch(loader, network, torch.nn.CrossEntropyLoss(), optimizer, "cpu")
    assert not torch.equal(weights, torch.nn.utils.parameters_to_vector(network.parameters()))
    assert 0 <= quickstart.accuracy_on(loader, network, torch.nn.CrossEntropyLoss(), "cpu") <= 1


@pytest.mark.usefixtures("processes_here")
def test_bench_all_saves_all_figures_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = "'data=sample','bench.rounds=1','bench.epochs=1','bench.batch_sizes=[512]','trainer=cpu'"
    small = f"bench.benchmarks.loop=[{few}]"
    others = [f"~bench.benchmarks.{name}" for name in ALL[1:]]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", "bench=all", small, *others, f"outputs={tmp_path}"])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    assert json.loads(file.read_text())["loop"]["batches of 512"]["ratios"]["plain"] == 1


def test_bench_photos_measures_every_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are made from photographs; each variant runs a first and a later epoch, with its memory."""
    monkeypatch.setattr("pytorch_intro.benchmarks.photos.get_context", lambda _: get_context("fork"))  # no imports
    for number in range(2):
        Image.new("RGBA", (70, 80), (200, 30 * number, 90, 255)).save(tmp_path / f"{number}.png")
    small = ["bench.files=20", "bench.rounds=1", "bench.workers=[0]", "data.image_size=16", "data.decode_size=20"]
    arguments = ["bench=photos", f"bench.source={tmp_path}", *small, "trainer=cpu", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *arguments])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    figures = json.loads(file.read_text())
    variants = ["torchvision, 0 workers", "uncached, 0 workers", "cached"]
    for epochs in ("first", "later"):
        assert list(figures[epochs]["images_per_second"]) == variants
        assert all(median > 0 for median in figures[epochs]["medians"].values())
    assert list(figures["ratios"]) == [f"{ours} / torchvision, 0 workers" for ours in variants[1:]]
    for memory in figures["memory_MB"].values():
        assert len(memory["after_epochs"]) == 2
        assert memory["peak"] >= max(memory["after_epochs"]) > 0


def test_bench_photos_names_the_package_with_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench=photos", f"bench.source={tmp_path}", "trainer=cpu", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        bench.main()
    assert stop.value.code == 2
    assert f"error: bench.source={tmp_path}: no photographs" in capsys.readouterr().err


def test_bench_finetune_measures_each_step_of_the_features_and_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pytorch_intro.pretrained")
    write_images(tmp_path / "images", *(f"{name}/{number}.png" for name in "ab" for number in range(5)), mode="RGB")
    small = ["model.name=test_efficientnet", "data.image_size=32", "data.batch_size=4", "bench.images=8"]
    small += ["bench.rounds=1", "bench.epochs=1", "bench.num_workers=[0]", "trainer.max_epochs=2", "trainer=cpu"]
    arguments = ["bench=finetune", f"data.root={tmp_path / 'images'}", *small, f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *arguments])
    bench.main()
    figures = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    steps = ["network", "network, folded", "decoding", "augmentation", "features"]
    assert list(figures["features"]["images_per_second"]) == steps
    assert all(len(speeds) == 1 and speeds[0] > 0 for speeds in figures["features"]["images_per_second"].values())
    assert list(figures["epochs"]["medians"]) == ["plain with 0 workers", "ours"]
    assert re.search(r"features of 8 images, 32 pixels, in \S+, 13 batch norms folded", capsys.readouterr().out)
