"""Results are recorded before they are shown, and shown even if they cannot be recorded."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, write_images
from explained import assert_explained

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.config.resolvers import checked_name
from pytorch_intro.inference import evaluate
from pytorch_intro.inference.finished_run import resolve_run

CPU = "trainer.accelerator=cpu"


def raise_read_only(*_: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "the file")


def test_an_evaluation_is_recorded_before_it_is_shown(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(_: evaluate.Evaluation) -> None:
        assert (run_copy / "eval.json").exists()
        assert (run_copy / "confusion_matrix.png").exists()

    (run_copy / "confusion_matrix.png").unlink()
    monkeypatch.setattr(evaluate, "show", show)
    answer = script("eval", f"run={run_copy}", CPU)
    assert answer.code == 0, answer.err
    figures = (os.path.relpath(run_copy / name) for name in ("confusion_matrix.png", "reliability.png"))
    assert answer.out.endswith("eval.json, " + ", ".join(figures) + "\n")


def test_an_evaluation_on_a_read_only_disk_is_shown(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "write_atomically", raise_read_only)
    answer = script("eval", f"run={run_copy}", CPU)
    accuracy = json.loads((run_copy / "result.json").read_text())["test/accuracy"]
    assert re.search(rf"test/accuracy +{accuracy:.2%}", answer.out)
    assert answer.code == 1
    assert_explained(answer.err, [str(run_copy)], [str(run_copy)], "read-only", "copy the run to another folder")


def test_predictions_on_a_read_only_disk_are_shown(
    script: Command, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", "a.png", "b.png")
    monkeypatch.setattr("pytorch_intro.inference.prediction_report.atomic_write", raise_read_only)
    answer = script("predict", f"run={run_copy}", f"images={tmp_path / 'photos'}", CPU)
    assert answer.out.count(".png ") == 2
    assert answer.code == 1
    assert_explained(answer.err, [str(run_copy)], [str(run_copy)], "read-only", "copy the run to another folder")
    assert not (run_copy / "predictions.png").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["open", "write"])
def test_a_disk_without_space_for_the_output_is_named(
    code: int, step: str, script: Command, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the run is another one."""

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    write_images(tmp_path / "photos", "a.png")
    (tmp_path / "full").mkdir()
    target = "pytorch_intro.inference.prediction_report.atomic_write" if step == "open" else "os.fsync"
    monkeypatch.setattr(target, fail)
    output = tmp_path / "full" / "x.csv"
    answer = script("predict", f"run={run_copy}", f"images={tmp_path / 'photos'}", f"output={output}", CPU)
    assert answer.code == 1
    problem = "disk is full|quota is used up|read-only|no permission"
    assert_explained(answer.err, [str(output)], [f"error: {output.parent}: "], problem, "or use another output=")
    assert str(run_copy) not in answer.err
    assert not list(output.parent.iterdir())


def test_an_evaluation_whose_reader_has_gone_is_recorded(run_copy: Path) -> None:
    """In an encoding that lacks characters of the output."""
    command = [sys.executable, str(PROJECT / "src" / "eval.py"), f"run={run_copy}", CPU]
    variables = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
    assert process.stdout
    process.stdout.close()
    _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, b"")
    assert (run_copy / "eval.json").exists()


def test_a_closed_stdin_has_no_paths(script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    answer = script("predict", f"run={run_copy}", "images=-", CPU)
    sys.stdin.close()
    assert answer.code == 2
    assert_explained(answer.err, [], ["images=-"], "no paths on stdin", "give a file, a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("way", ["file", "list"])
def test_a_pipe_among_the_images_is_not_waited_for(
    script: Command, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pipe}\n"))
    answer = script("predict", f"run={run_copy}", f"images={pipe if way == 'file' else '-'}", CPU)
    assert answer.code == 2
    first, last = answer.err.splitlines()
    assert first.startswith(f"failed to read {pipe}: ")
    assert "not a regular file" in first
    assert "none could be read" in last


def test_latest_skips_a_run_whose_result_is_damaged(
    run_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = tmp_path / "outputs"
    for name, finished in (("good", 10), ("damaged", 20)):
        shutil.copytree(run_copy, outputs / name)
        if name == "damaged":
            (outputs / name / "result.json").write_text("{")
        os.utime(outputs / name / "result.json", (finished, finished))
    assert resolve_run("latest", str(outputs)) == str(outputs / "good")
    assert str(outputs / "damaged" / "result.json") in caplog.text
    shutil.rmtree(outputs / "good")
    with pytest.raises(UserError, match="no finished run"):
        resolve_run("latest", str(outputs))


def test_the_best_run_of_a_sweep_is_one_whose_result_can_be_read(run_copy: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for job in ("a", "b"):
        shutil.copytree(run_copy, sweep / job)
    (sweep / "sweep.json").write_text(json.dumps({"objective": "val/accuracy", "jobs": {"a": {}, "b": {}}}))
    assert resolve_run(str(sweep), "") == str(sweep / "a")
    (sweep / "a" / "result.json").write_text("{}")
    assert resolve_run(str(sweep), "") == str(sweep / "b")


@pytest.mark.parametrize("name", ["latest", "Latest", "sweeps", "Sweeps", "BENCH", "2026-01-31"])
def test_names_with_a_meaning_are_reserved_also_where_case_is_ignored(name: str) -> None:
    with pytest.raises(UserError, match=f"name='{name}': .*not sweeps, bench, latest or a date"):
        checked_name(name)
    assert checked_name(f"{name}2") == f"{name}2"
