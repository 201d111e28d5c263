"""Jobs in other processes, on a real Ray cluster of two nodes and with submitit's local executor instead of SLURM."""

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import submitit
from conftest import FORKS, NO_PICTURES, Command, Process, epochs_trained, read_summary, wait_until
from hydra._internal.core_plugins.basic_launcher import BasicLauncher

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.sweeps.hydra_internals import failed_job, job_error, runs_jobs_in_turn
from pytorch_intro.sweeps.job import JobLostError

SWEEP = ["-m", "data=sample", "trainer=cpu", "name=s", *NO_PICTURES, "logger=none"]

PATH = f"{PROJECT / 'src'}:{PROJECT / 'tests' / 'sweeps'}"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


def kill(job: str) -> list[str]:
    """Return overrides of a sweep that kill the process of a job at every attempt."""
    return ["+hydra.callbacks.kill._target_=kill_job.KillJob", f"+hydra.callbacks.kill.job='{job}'"]


NODE: dict[str, Any] = {
    "num_cpus": 1, "include_dashboard": False, "no_monitor": True, "include_log_monitor": False,
    "object_store_memory": 80 * 2**20,
}  # fmt: skip


def run_cluster(test: Connection) -> None:
    """Run a Ray cluster: a head node without cores for jobs and a node with one core, like two machines.

    It sends the test its address and the ID of the second node. When it receives "replace", it adds another node and
    removes this one. It runs until the next message.
    """
    from ray.cluster_utils import Cluster

    # By default, Ray takes half a minute to notice a lost node.
    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    settings = checks | {"enable_worker_prestart": False}  # no job would use these processes
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0, "_system_config": settings})
    node = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    test.send((cluster.address, node.node_id))
    if test.recv() == "replace":
        cluster.add_node(**NODE)
        cluster.remove_node(node, allow_graceful=False)
        test.recv()
    cluster.shutdown()


@pytest.fixture
def cluster() -> Iterator[Connection]:
    """Start a Ray cluster, in a process of its own: one that was connected to Ray cannot fork reliably."""
    connection, other = Pipe()
    process = FORKS.Process(target=run_cluster, args=(other,))
    process.start()
    other.close()  # so that the end of the process is an error here
    yield connection
    connection.send("stop")
    process.join()


def test_ray_resumes_the_job_of_a_lost_node_and_reports_a_job_that_kills_its_process(
    cluster: Connection, sweep: Path
) -> None:
    """The process of seed=1 is killed at every attempt; the node is lost in the third epoch of seed=0.

    Each job uses one thread per core assigned to it.
    """
    address, node = cluster.recv()
    process = Process(
        *SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}", "model=mlp",
        "trainer.max_epochs=4", "hydra.launcher.ray.remote.max_retries=1", "seed=1,0",
        *kill("seed=1"), "+callbacks.node._target_=node_callback.NodeCallback",
        "+callbacks.node.run_dir='${run_dir}'", f"+callbacks.node.doomed={node}",
        f"outputs={sweep.parents[1]}", variables={"PYTHONPATH": PATH},
    )  # fmt: skip
    wait_until(lambda: epochs_trained(sweep / "seed=0") >= 2, process)
    assert (sweep / "seed=0" / "node").read_text() == node
    cluster.send("replace")
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "1 of 2 jobs failed, the others were run: seed=1" in err
    rows = {row["seed"]: row for row in read_summary(sweep)}
    assert rows["1"]["status"] == "failed"
    assert rows["1"]["reason"].startswith("its process was lost: ")
    assert (rows["0"]["status"], rows["0"]["epochs"]) == ("finished", "4")
    assert "resuming from" in (sweep / "seed=0" / "train.log").read_text()
    assert (sweep / "seed=0" / "node").read_text() != node
    assert epochs_trained(sweep / "seed=0") <= 5
    assert (sweep / "seed=0" / "threads").read_text() == "1"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_unreachable_ray_cluster_gives_a_one_line_error(command: Command, sweep: Path, address: str) -> None:
    answer = command(*SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address='{address}'", "seed=0,1")
    assert answer.code == 2
    assert answer.err.startswith(f"error: hydra.launcher.ray.init.address={address}: no cluster answers there")
    assert answer.err.count("\n") == 1


def test_a_lost_slurm_job_does_not_affect_the_others(
    command: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job kills its process, and the other finishes."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 1)  # seconds to wait for the result file of an ended job
    answer = command(
        *SWEEP, "hydra/launcher=slurm", "hydra.launcher.cluster=local", "model=mlp", "trainer.max_epochs=1", "seed=0,1",
        *kill("seed=0"),
    )  # fmt: skip
    assert answer.code == 1, answer.err
    rows = {row["seed"]: row for row in read_summary(sweep)}
    assert {seed: row["status"] for seed, row in rows.items()} == {"0": "failed", "1": "finished"}
    assert rows["0"]["reason"].startswith("its job ")
    assert "1 of 2 jobs failed, the others were run: seed=0; see error.txt" in answer.err
    assert answer.err.splitlines()[-1].startswith("error:")


def test_missing_slurm_gives_a_one_line_error(command: Command, sweep: Path) -> None:
    answer = command(*SWEEP, "hydra/launcher=slurm", "seed=0,1")
    assert answer.code == 2
    assert answer.err.startswith("error: hydra/launcher=slurm: ")
    assert answer.err.count("\n") == 1


def test_the_error_of_a_failed_job_can_be_read_without_raising_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The uses of Hydra's private API in sweeps/hydra_internals.py."""
    error = JobLostError("its process was lost")
    assert job_error(failed_job(error)) is error
    assert capsys.readouterr().err == ""
    assert runs_jobs_in_turn(BasicLauncher())
