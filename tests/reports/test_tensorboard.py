"""TensorBoard pages, as a real server sends them and a browser shows them."""

import json
import shutil
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, Command, train_here
from lightning.pytorch.trainer.states import TrainerFn
from playwright.sync_api import Page, expect, sync_playwright
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pytorch_intro.analysis.class_metrics import NUM_THRESHOLDS
from pytorch_intro.models.cnn import CNN
from pytorch_intro.reports.tensorboard import callback, events
from pytorch_intro.reports.tensorboard.graph import network_graph

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=2"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 15_000  # ms


def serve(folder: Path) -> str:
    """Start TensorBoard for a folder, in a thread of this process, and return its URL once the files have been read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard imports deprecated modules
        from tensorboard import program

        server = program.TensorBoard()
        server.configure(("", "--logdir", str(folder), "--port=0", "--load_fast=false", "--reload_interval=0"))
        address = server.launch()
    plugins: dict[str, Any] = {}
    deadline = time.monotonic() + 60
    while not all(plugins.get(name, {}).get("enabled") for name in ("scalars", "hparams")):
        assert time.monotonic() < deadline, plugins
        time.sleep(0.05)
        with urllib.request.urlopen(f"{address}data/plugins_listing", timeout=30) as answer:
            plugins = json.load(answer)
    return address


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with all pages."""
    outputs = tmp_path_factory.mktemp("shown")
    train_here(*FEW, "trainer.log_every_n_steps=1", "name=shown", f"outputs={outputs}")
    return outputs / "shown"


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[Page]:
    """Open TensorBoard in a browser, for the folder of all runs."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    address = serve(run.parent)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 6000}, base_url=address)
        page.set_default_timeout(TIMEOUT)
        expect.set_options(timeout=TIMEOUT)
        page.goto("")
        yield page
        browser.close()


def test_tensorboard_scalars_have_every_metric(page: Page) -> None:
    page.goto("#timeseries")
    page.get_by_role("combobox", name="Filter tags (regex)").fill("^(train|val|test|lr|epoch|images)")
    tags = ("train/loss", "train/loss_step", "train/accuracy", "val/loss", "val/accuracy", "test/accuracy", "lr")
    for tag in (*tags, "epoch_seconds", "images_per_second"):
        expect(page.locator(f"[title='{tag}']").first).to_be_attached()
    expect(page.locator("[title='epoch']")).to_have_count(0)
    expect(page.locator("line-chart").first).to_be_visible()


def test_custom_scalars_plot_train_and_val_in_one_chart(page: Page) -> None:
    page.goto("#custom_scalars")
    for name in ("loss", "accuracy", "learning rate", "images per second"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("Matches (4)")).to_have_count(1)  # the loss, by steps and by epochs
    expect(page.get_by_text("Matches (2)")).to_have_count(1)
    expect(page.get_by_text("Matches (10)")).to_have_count(1)  # the accuracy of each class


def test_tensorboard_images_have_their_full_size(page: Page) -> None:
    page.goto("#images")
    page.get_by_text("val", exact=True).locator("visible=true").click()  # the first two groups are open
    for tag in ("train/images", "train/augmented", "val/confusion", "test/mistakes"):
        expect(page.get_by_text(tag, exact=True).first).to_be_attached()
    expect(page.locator("img")).to_have_count(4)
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    widths = page.locator("img").evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert min(widths) > 400


def test_tensorboard_graph_shows_the_network(page: Page) -> None:
    page.goto("#graphs")
    expect(page.locator("svg").get_by_text("Sequential[layers]").first).to_be_attached()


def test_tensorboard_text_has_config_and_command(page: Page) -> None:
    page.goto("#text")
    expect(page.get_by_text(" ".join(["python src/train.py", *FEW])).first).to_be_visible()
    expect(page.get_by_text("label_smoothing: 0.1").first).to_be_attached()


def test_each_class_has_a_precision_recall_curve(page: Page) -> None:
    page.goto("#pr_curves")
    for name in ("T-shirt_top", "Ankle_boot"):
        expect(page.get_by_text(f"test_pr/{name}", exact=True).first).to_be_attached()


def test_the_projector_has_the_test_images(page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 800})  # it renders without a GPU
    page.goto("#projector")
    projector = page.frame_locator("iframe").frame_locator("iframe")
    expect(projector.get_by_text("Points: 400").first).to_be_attached()
    expect(projector.get_by_text("Dimension: 256").first).to_be_attached()
    expect(projector.get_by_text("true class").first).to_be_attached()


def test_the_hparams_page_has_settings_and_results(page: Page) -> None:
    page.goto("#hparams")
    expect(page.get_by_text("optimizer.lr", exact=True).first).to_be_attached()
    expect(page.get_by_text("val/best_accuracy").first).to_be_attached()
    expect(page.get_by_text("hp_metric", exact=True)).to_have_count(0)


def test_the_hparams_page_of_a_sweep_has_settings_and_results(command: Command, tmp_path: Path, page: Page) -> None:
    """One row per run, with the accuracies of result.json and without hp_metric.

    The table opens with the setting that was swept, and of the metrics with the results of the best weights.
    """
    few = [*FEW, "trainer.max_epochs=1", *NO_PICTURES]
    assert command("-m", *few, "name=s", "optimizer.lr=0.001,0.05").code == 0
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    address = serve(sweep)
    names = ("best/test/accuracy", "best/test/loss", "best/val/accuracy", "test/accuracy", "val/best_accuracy")
    columns: list[Any] = [{"metric": {"group": "", "tag": name}, "includeInResult": True} for name in names]
    columns += [{"hparam": name, "includeInResult": True} for name in ("optimizer.lr", "model")]
    request = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10}
    body = json.dumps(request | {"colParams": columns}).encode()
    headers = {"Content-Type": "application/json"}
    posted = urllib.request.Request(f"{address}data/plugin/hparams/session_groups", body, headers)
    groups: list[Any] = []
    deadline = time.monotonic() + 60
    while not (len(groups) == 2 and all("hparams" in group for group in groups)):  # the server reads in a thread
        assert time.monotonic() < deadline, groups
        time.sleep(0.05)
        with urllib.request.urlopen(posted, timeout=30) as answer:
            groups = json.load(answer).get("sessionGroups", [])
    for group in groups:
        result = json.loads((sweep / f"optimizer.lr={group['hparams']['optimizer.lr']}" / "result.json").read_text())
        shown = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for name in ("test/accuracy", "test/loss", "val/accuracy"):
            assert shown[f"best/{name}"] == pytest.approx(result[name])
        assert shown["test/accuracy"] == shown["best/test/accuracy"]
        assert shown["val/best_accuracy"] == shown["best/val/accuracy"]
        assert "hp_metric" not in shown
        assert not any(key.startswith(("callbacks.", "logger.", "run_dir")) for key in group["hparams"])
        assert group["hparams"]["model"] == "CNN"
    page.goto(f"{address}#hparams")
    expect(page.get_by_text("best/val/accuracy", exact=True).first).to_be_attached()
    texts = [text.strip() for text in page.locator("vaadin-grid-cell-content").all_inner_texts() if text.strip()]
    header = texts[texts.index("Trial ID") :]
    assert header[2] == "optimizer.lr"
    metrics = ["best/test/accuracy", "best/test/loss", "best/val/accuracy"]
    assert [text for text in header if text in metrics or text == "epoch_seconds"][:3] == metrics


@pytest.mark.parametrize(
    ("max_epochs", "interval", "logged"), [(3, None, [1, 2, 3]), (9, None, [3, 6, 9]), (5, 4, [4, 5]), (-1, 4, [4, 8])]
)
def test_confusion_matrices_are_logged_about_four_times_per_run_or_as_often_as_configured(
    max_epochs: int, interval: int | None, logged: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always for the last epoch, if there is one."""
    metrics = SimpleNamespace(val={"confusion_matrix": torch.eye(2)})
    monkeypatch.setattr(callback, "find_class_metrics", lambda _: metrics)
    monkeypatch.setattr(callback, "datamodule_of", lambda _: SimpleNamespace(classes=["a", "b"]))
    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        monkeypatch.setattr(callback, "writers_of", lambda _: [writer])
        pages = callback.TensorBoardPages(str(tmp_path), interval)
        trainer: Any = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False)
        trainer.max_epochs = max_epochs
        for epoch in range(max_epochs if max_epochs > 0 else 9):
            trainer.current_epoch, trainer.global_step = epoch, epoch + 2  # then the step is the epoch, counted from 1
            pages.on_validation_end(trainer, nn.Identity())  # type: ignore[arg-type]
    assert steps_of("val/confusion", tmp_path) == logged


def test_class_charts_are_only_logged_for_up_to_100_classes(tmp_path: Path) -> None:
    """Up to 100 classes have one each."""
    tags = {}
    for count in (100, 101):
        classes = [f"class {number}" for number in range(count)]
        with SummaryWriter(str(tmp_path / str(count))) as writer:
            events.add_layout(writer, classes)
            events.add_class_accuracies(writer, torch.eye(count, dtype=torch.int64), classes, 0)
            events.add_pr_curves(writer, torch.ones(count, 2, NUM_THRESHOLDS, dtype=torch.int64), classes, 0)
        tags[count] = EventAccumulator(str(tmp_path / str(count))).Reload().Tags()
    assert (len(tags[100]["scalars"]), tags[101]["scalars"]) == (100, [])
    assert sum("test_pr/" in tag for tag in tags[100]["tensors"]) == 100
    assert not any("test_pr/" in tag for tag in tags[101]["tensors"])


def steps_of(tag: str, run: Path) -> list[int]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    return [event.step for event in events.Images(tag)]


class ResidualBlock(nn.Module):
    """x + f(x), with functions outside of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1) + self.inner(x).relu()


def test_network_graph_has_functions_in_their_modules_with_output_shapes() -> None:
    """Edges go through in-place functions and through functions outside of modules."""
    nodes = {node.name: node for node in network_graph(ResidualBlock().eval(), torch.zeros(2, 4)).node}
    assert list(nodes) == ["images", "add", "Linear[inner]/linear", "relu", "add_2"]
    assert list(nodes["Linear[inner]/linear"].input) == ["add"]
    assert list(nodes["add_2"].input) == ["add", "relu"]
    network = CNN((1, 28, 28), 10).eval()
    nodes = {node.name: node for node in network_graph(network, torch.zeros(1, 1, 28, 28)).node}
    shape = nodes["Sequential[layers]/Conv2d[0]/conv2d"].attr["_output_shapes"].list.shape[0]
    assert [dimension.size for dimension in shape.dim] == [1, 16, 28, 28]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
