"""Jobs on other machines: a real Ray of two nodes on this one, and SLURM's stand-in by submitit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, epochs_trained, read_summary, wait_until

from pytorch_intro.paths import PROJECT

SWEEP = ["-m", "data=sample", "trainer=cpu", "name=s"]
TRAIN = [sys.executable, str(PROJECT / "src" / "train.py"), *SWEEP]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


def finished(command: list[str], tmp_path: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    outputs = f"outputs={tmp_path / 'outputs'}"
    return subprocess.run([*command, outputs], capture_output=True, text=True, timeout=200, **options)


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


def test_ray_runs_jobs_on_two_nodes_and_does_those_of_a_lost_one_again(
    cluster: Any, tmp_path: Path, sweep: Path
) -> None:
    """The second node is killed when both jobs are in the midst of their training."""
    arguments = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}"]
    jobs = ["trainer.max_epochs=20", "seed=0,1"]
    command = [*TRAIN, *arguments, *jobs, f"outputs={tmp_path / 'outputs'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_until(lambda: all(epochs_trained(sweep / f"seed={seed}") >= 2 for seed in range(2)), process)
        assert process.poll() is None, process.stdout and process.stdout.read()
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert [row["status"] for row in read_summary(sweep)] == ["finished"] * 2
    assert {row["epochs"] for row in read_summary(sweep)} == {"20"}
    carried_on = [seed for seed in range(2) if "carried on" in (sweep / f"seed={seed}" / "train.log").read_text()]
    assert len(carried_on) == 1
    assert all(epochs_trained(sweep / f"seed={seed}") <= 21 for seed in range(2))


def test_ray_on_this_machine_gives_each_job_its_threads_and_survives_one_that_is_killed(
    tmp_path: Path, sweep: Path
) -> None:
    """One job kills its own process, each time; it is told, and the other is run."""
    arguments = [
        "hydra/launcher=ray", "hydra.launcher.ray.remote.max_retries=0", "trainer.max_epochs=1",
        "trainer.limit_train_batches=2", "+callbacks.killer._target_=killer.Killer",
        f"+callbacks.killer.file={tmp_path / 'threads'}", "+callbacks.killer.fatal=true,false",
    ]  # fmt: skip
    path = os.environ | {"PYTHONPATH": str(PROJECT / "tests")}
    done = finished([*TRAIN, *arguments], tmp_path, env=path)
    assert done.returncode == 1, done.stderr
    rows = {row["callbacks.killer.fatal"].lower(): row for row in read_summary(sweep)}
    assert rows["false"]["status"] == "finished"
    assert rows["true"]["status"] != "finished"
    assert "1 of 2 jobs failed" in done.stderr
    assert (tmp_path / "threads").read_text().split() == ["1", "1"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_one_line(command: Command, sweep: Path, address: str) -> None:
    answer = command(*SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address='{address}'", "seed=0,1")
    assert answer.code == 2
    assert answer.err.startswith(f"error: hydra.launcher.ray.init.address={address}: no cluster answers there")
    assert answer.err.count("\n") == 1


def test_jobs_by_submitit_are_processes_of_their_own_and_summed_up(tmp_path: Path, sweep: Path) -> None:
    """Its local executor, which starts what SLURM would; the configuration of SLURM takes the same settings."""
    arguments = ["hydra/launcher=submitit_local", "trainer.max_epochs=1", "seed=0,1"]
    done = finished([*TRAIN, *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in read_summary(sweep)] == ["finished"] * 2
