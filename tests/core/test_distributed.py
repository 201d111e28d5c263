"""Distributed training with real processes on the CPU."""

import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_PICTURES, Process, epochs_trained, train_here, wait_until
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from test_resume import curves


class Losses(Callback):
    """Appends the loss of each step, averaged over the ranks, to a file."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")
        if trainer.is_global_zero:
            with self.file.open("a") as file:
                file.write(f"{float(loss)!r}\n")


# Without what differs between ranks: the statistics of batch norm and the random numbers of the augmentation.
STEPS = [
    "data=sample", "data.val_fraction=0.1606", "data/augment=[]", "data.batch_size=64", "model=mlp",
    "trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.precision=32-true",
    "+callbacks.losses._target_=test_distributed.Losses", "+callbacks.losses.file='${run_dir}/losses'",
    *NO_PICTURES,
]  # fmt: skip
TWO = ["trainer=ddp", "trainer.accelerator=cpu"]
NODES = [*STEPS, *TWO, "trainer.devices=1", "trainer.num_nodes=2"]


def started(
    tmp_path: Path,
    *arguments: str,
    launcher: Sequence[str] = (),
    variables: dict[str, str] | None = None,
    processes: int = 0,
) -> Process:
    variables = {"OMP_NUM_THREADS": "1", **(variables or {})}
    outputs = f"outputs={tmp_path / 'outputs'}"
    return Process(*arguments, outputs, launcher=launcher, variables=variables, processes=processes)


def output(process: Process) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    return out


def is_group(number: int) -> bool:
    """Return whether the process group still has a process."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def single_process_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with one process."""
    outputs = tmp_path_factory.mktemp("single")
    train_here(*STEPS, "trainer=cpu", "name=one", f"outputs={outputs}")
    return outputs / "one"


def assert_same_metrics(run: Path, single: Path) -> None:
    """Assert equal losses in 20 steps, and equal metrics of validation and test, which count each image once.

    The last batch of the 257 validation images is a single image, so that rank 1 has none of it.
    """
    losses = [[float(line) for line in (folder / "losses").read_text().split()] for folder in (run, single)]
    assert len(losses[1]) == 20
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    points = [curves(folder)["train/loss_step"] for folder in (run, single)]
    assert [[step for step, _ in each] for each in points] == [[*range(1, 21)]] * 2
    for each in points:
        assert [loss for _, loss in each] == pytest.approx(losses[1], rel=1e-5)
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, single)]
    for metric in ("val/accuracy", "val/loss", "test/accuracy", "test/loss"):
        assert results[0][metric] == pytest.approx(results[1][metric], rel=1e-4), metric
    assert results[0]["temperature"] == pytest.approx(results[1]["temperature"], rel=1e-3)
    assert not list(run.glob("train_ddp*"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Process, str, str]:
    """A sweep of jobs with two processes each: its folder, its first process, its stdout and its stderr.

    The first job has the settings of single_process_run; the second is interrupted with Ctrl-C, which a terminal sends
    to the whole process group.
    """
    path = tmp_path_factory.mktemp("sweep")
    folder = path / "outputs" / "sweeps" / "s"
    few = [argument for argument in STEPS if "max_epochs" not in argument]
    process = started(
        path, "-m", *few, *TWO, "trainer.devices=2", "trainer.max_epochs=1,500,600", "name=s", processes=2
    )
    wait_until(lambda: epochs_trained(folder / "trainer.max_epochs=500") >= 2, process)
    os.killpg(process.pid, signal.SIGINT)
    return folder, process, *process.communicate()


def test_two_ranks_train_with_the_same_batches_as_one_process(
    sweep: tuple[Path, Process, str, str], single_process_run: Path
) -> None:
    """In a sweep, each job starts its own processes and has its own folder."""
    folder, _, out, _ = sweep
    assert_same_metrics(folder / "trainer.max_epochs=1", single_process_run)
    assert out.count("batches: 64 images per step, 32 per device") == 2
    assert out.count("data: ") == 2  # rank 1 logs nothing
    assert out.count("finished: ") == 1
    assert len(list(folder.parents[1].rglob("config.yaml"))) == 2


def test_two_ranks_sample_the_images_of_one_process(tmp_path: Path) -> None:
    """By class, 20 batches of an epoch that is longer than the data set."""
    sampled = [*STEPS, "data.sampler=balanced", "data.samples_per_epoch=1600", "optimizer.lr=0.02"]
    train_here(*sampled, "trainer=cpu", "name=one", f"outputs={tmp_path / 'outputs'}")
    output(started(tmp_path, *sampled, *TWO, "trainer.devices=2", "name=two", processes=1))
    assert_same_metrics(tmp_path / "outputs" / "two", tmp_path / "outputs" / "one")


def test_ctrl_c_stops_a_sweep_and_all_its_processes_after_the_step(sweep: tuple[Path, Process, str, str]) -> None:
    """The interrupted job has a checkpoint, and no further job is started."""
    folder, process, _, err = sweep
    assert process.returncode == 130, err
    deadline = time.monotonic() + 30
    while is_group(process.pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not is_group(process.pid)
    assert (folder / "trainer.max_epochs=500" / "checkpoints" / "last.ckpt").exists()
    assert not (folder / "trainer.max_epochs=500" / "error.txt").exists()
    assert not (folder / "trainer.max_epochs=600").exists()


def test_torchrun_launches_two_nodes(tmp_path: Path, single_process_run: Path) -> None:
    launcher = ["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    launcher.append(f"--master-port={free_port()}")
    nodes = [
        started(tmp_path, *NODES, "name=two", launcher=[*launcher, f"--node-rank={rank}"], processes=1)
        for rank in range(2)
    ]
    for node in nodes:
        output(node)
    assert_same_metrics(tmp_path / "outputs" / "two", single_process_run)


def test_slurm_launches_two_nodes(tmp_path: Path, single_process_run: Path) -> None:
    """srun is simulated by the environment variables that it sets."""
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0", "SLURM_NODELIST": "localhost"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    tasks = [
        started(tmp_path, *NODES, "name=two", variables={**job, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)})
        for rank in range(2)
    ]
    for task in tasks:
        output(task)
    assert_same_metrics(tmp_path / "outputs" / "two", single_process_run)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {"WORLD_SIZE": "2", "RANK": "0"}, "name=NAME"),
        (["-m", "seed=0,1", "name=s"], {"WORLD_SIZE": "2", "RANK": "0"}, "run it without torchrun or srun"),
    ],
)
def test_an_unsupported_distributed_launch_is_a_one_line_error(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    process = started(tmp_path, "data=sample", *arguments, variables=variables)
    _, err = process.communicate()
    assert process.returncode == 2
    assert message in err
