"""Jobs on other machines: a real Ray of two nodes on this one, and SLURM's stand-in by submitit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_PICTURES, Command, epochs_trained, read_summary, wait_until

from pytorch_intro.paths import PROJECT

SWEEP = ["-m", "data=sample", "trainer=cpu", "name=s", *NO_PICTURES]
TRAIN = [sys.executable, str(PROJECT / "src" / "train.py"), *SWEEP]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray of two nodes with one core each, as if they were two machines that share a folder."""
    from ray.cluster_utils import Cluster

    # Else it takes half a minute until a node is known to be lost.
    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    node: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"_system_config": checks})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def is_under_way(file: Path, node: str) -> bool:
    """Whether the job that wrote the file is training on this node."""
    return file.read_text() == node and epochs_trained(file.parent) >= 2


def test_ray_does_jobs_of_a_lost_node_again_and_tells_of_one_that_kills_its_process(
    cluster: Any, tmp_path: Path, sweep: Path
) -> None:
    """seed=2 is killed each time it is tried; a node is killed when another is in the midst of its training there.

    Each job computes with as many threads as it has been given cores.
    """
    arguments = [
        "hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}", "model=mlp",
        "trainer.max_epochs=60", "hydra.launcher.ray.remote.max_retries=1", "seed=2,0,1",
        "+callbacks.killer._target_=killer.Killer", "+callbacks.killer.run_dir='${run_dir}'",
        "+callbacks.killer.fatal='seed=2'", f"outputs={tmp_path / 'outputs'}",
    ]  # fmt: skip
    with subprocess.Popen(
        [*TRAIN, *arguments],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        (node,) = cluster.worker_nodes
        wait_until(lambda: any(map(is_under_way, sweep.glob("seed=*/node"), [node.node_id] * 3)), process)
        assert process.poll() is None, process.stdout and process.stdout.read()
        cluster.remove_node(node, allow_graceful=False)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 1, out
    assert "1 of 3 jobs failed, the others were run: seed=2" in out
    rows = {row["seed"]: row for row in read_summary(sweep)}
    assert [rows[seed]["status"] for seed in "012"] == ["finished", "finished", "failed"]
    assert rows["2"]["reason"].startswith("its process was lost: ")
    assert {rows[seed]["epochs"] for seed in "01"} == {"60"}
    carried_on = [seed for seed in range(2) if "carried on" in (sweep / f"seed={seed}" / "train.log").read_text()]
    assert len(carried_on) == 1
    assert all(epochs_trained(sweep / f"seed={seed}") <= 61 for seed in range(2))
    threads = [file.read_text() for file in sweep.glob("seed=*/threads")]
    assert threads == ["1"] * 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_one_line(command: Command, sweep: Path, address: str) -> None:
    answer = command(*SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address='{address}'", "seed=0,1")
    assert answer.code == 2
    assert answer.err.startswith(f"error: hydra.launcher.ray.init.address={address}: no cluster answers there")
    assert answer.err.count("\n") == 1


def test_slurm_s_jobs_are_waited_for_one_by_one(tmp_path: Path, sweep: Path) -> None:
    """By submitit's local executor, which starts what SLURM would; one job kills its process, and the other is run."""
    arguments = [
        "hydra/launcher=slurm", "hydra.launcher.cluster=local", "trainer.max_epochs=1", "seed=0,1",
        "+callbacks.killer._target_=killer.Killer", "+callbacks.killer.run_dir='${run_dir}'",
        "+callbacks.killer.fatal='seed=0'", f"outputs={tmp_path / 'outputs'}",
    ]  # fmt: skip
    path = os.environ | {"PYTHONPATH": str(PROJECT / "tests")}
    done = subprocess.run([*TRAIN, *arguments], env=path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    rows = {row["seed"]: row for row in read_summary(sweep)}
    assert {seed: row["status"] for seed, row in rows.items()} == {"0": "failed", "1": "finished"}
    assert rows["0"]["reason"].startswith("its job ")
    assert "1 of 2 jobs failed, the others were run: seed=0; see error.txt" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error:")


def test_slurm_that_is_not_there_is_one_line(command: Command, sweep: Path) -> None:
    answer = command(*SWEEP, "hydra/launcher=slurm", "seed=0,1")
    assert answer.code == 2
    assert answer.err.startswith("error: hydra/launcher=slurm: ")
    assert answer.err.count("\n") == 1
