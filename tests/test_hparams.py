"""TensorBoard's HPARAMS page, asked of a real server."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "name=s"]


@pytest.fixture
def tensorboard(tmp_path: Path) -> Iterator[Any]:
    """Starts a server on the loopback interface; gives a function that posts a request."""
    servers = []

    def start(folder: Path) -> Any:
        command = [
            sys.executable,
            "-m",
            "tensorboard.main",
            "--logdir",
            str(folder),
            "--port",
            "0",
            "--load_fast=false",
        ]
        server = subprocess.Popen([*command, "--reload_interval=1"], stderr=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stderr is not None
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://localhost:\d+/", line)))

        def ask(path: str, request: dict[str, Any]) -> Any:
            headers = {"Content-Type": "application/json"}
            posted = urllib.request.Request(f"{address}{path}", json.dumps(request).encode(), headers)
            with urllib.request.urlopen(posted, timeout=30) as answer:
                return json.load(answer)

        return ask

    yield start
    for server in servers:
        server.kill()
        server.communicate()


def test_the_page_shows_what_was_swept_beside_what_came_of_it(
    command: Command, tensorboard: Any, tmp_path: Path
) -> None:
    """A line a run, by swept values, with the accuracies of result.json and no made-up metric."""
    assert command("-m", *FEW, "optimizer.lr=0.001,0.05").code == 0
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    ask = tensorboard(sweep)
    names = ("test/accuracy", "best/val/accuracy")
    columns: list[Any] = [{"metric": {"group": "", "tag": name}, "includeInResult": True} for name in names]
    columns.append({"hparam": "optimizer.lr", "includeInResult": True})
    request = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10}
    groups: list[Any] = []
    deadline = time.monotonic() + 60
    while not (len(groups) == 2 and all("hparams" in group for group in groups)):  # it reads in a thread of its own
        assert time.monotonic() < deadline, groups
        answer = ask("data/plugin/hparams/session_groups", request | {"colParams": columns})
        groups = answer.get("sessionGroups", [])
    for group in groups:
        result = json.loads((sweep / f"optimizer.lr={group['hparams']['optimizer.lr']}" / "result.json").read_text())
        shown = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert shown["test/accuracy"] == pytest.approx(result["test/accuracy"])
        assert shown["best/val/accuracy"] == pytest.approx(result["val/accuracy"])
        assert "hp_metric" not in shown
        assert not any(key.startswith(("callbacks.", "logger.", "run_dir")) for key in group["hparams"])
