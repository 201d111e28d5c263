"""The benchmark measures both ways on the same images and keeps the figures. How fast they are is not for a test."""

import json
import sys
from pathlib import Path

import pytest

import bench


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
