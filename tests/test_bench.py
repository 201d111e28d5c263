"""The benchmark measures both ways on the same images and keeps the figures. How fast they are is not for a test."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import sample_datamodule

import bench
from pytorch_intro.benchmarks.data import torchvision_dataset


def test_bench_loop_measures_every_epoch_of_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["data=sample", "bench.rounds=2", "bench.epochs=2", "trainer=cpu"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *small, f"outputs={tmp_path}"])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    figures = json.loads(file.read_text())
    assert [len(seconds) for seconds in figures["seconds"].values()] == [4, 4]
    assert all(second > 0 for seconds in figures["seconds"].values() for second in seconds)
    assert figures["ratios"]["plain"] == 1
    assert figures["config"]["data"]["batch_size"] == 512
    out = capsys.readouterr().out
    assert "lightning" in out
    assert str(file) in out


def test_bench_data_measures_every_way_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside torchvision's own class on the same images; each augmentation; mapped files; a folder of pictures."""
    small = ["bench=data", "data=sample", "bench.rounds=2", "bench.copies=3", "bench.files=40", "trainer=cpu"]
    monkeypatch.setattr(sys, "argv", ["src/bench.py", *small, f"outputs={tmp_path}"])
    bench.main()
    (file,) = (tmp_path / "bench").glob("*.json")
    figures = json.loads(file.read_text())
    ways = ["this project", "… before normalising", "torchvision, 0 workers", "torchvision, 2 workers"]
    assert list(figures["pass"]["seconds"]) == ways
    assert {"RandomResizedCrop", "AlternatingFlip", "MixUp"} <= set(figures["augmentation"]["medians"])
    assert list(figures["mapped"]["ratios"]) == ["1,600 images", "4,800 images"]
    assert set(figures["folder"]["medians"]) == {"first start", "second start"}
    for part in ("pass", "augmentation", "mapped", "folder"):
        assert all(median > 0 for median in figures[part]["medians"].values())


def test_the_torchvision_side_reads_the_same_images() -> None:
    datamodule = sample_datamodule()
    theirs = torchvision_dataset(datamodule)
    images, targets = datamodule.train_set.__getitems__([0, 7, 1279])
    expected = datamodule.normalize(images)
    for row, i in enumerate((0, 7, 1279)):
        image, label = theirs[i]
        torch.testing.assert_close(image, expected[row], rtol=1e-5, atol=1e-5)
        assert label == targets[row]
