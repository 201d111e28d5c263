"""Worker processes that cannot deliver never leave their parent waiting, and end when it is killed."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FORKS, StartMethod, reset_start_method, run_command, write_images
from forked import TRAIN
from omegaconf import OmegaConf
from torch.utils.data import Dataset

from pytorch_intro.cli.explain import explain_failure, explain_fault
from pytorch_intro.common.errors import UserError
from pytorch_intro.data.augment.crops import RandomResizedCrop
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.parallel import parallel_map
from pytorch_intro.data.ingest.workers import WorkerDataLoader, WorkerError, init_worker
from pytorch_intro.data.sampler import ResumableBatchSampler

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=none"]
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def mount_shared_memory(options: str) -> bool:
    """Mount a file system on /dev/shm that only this process sees; return whether that is allowed."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS) != 0:
        return False
    private, tmpfs = ["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", options, "none", "/dev/shm"]
    return all(subprocess.run(command, check=False).returncode == 0 for command in (private, tmpfs))


def train_with_shared_memory(options: str, out: Path, err: Path, *arguments: str) -> None:
    if not mount_shared_memory(options):
        os._exit(77)
    run_command([TRAIN, *arguments, *SHORT], out, err, {}, None, 0)


def run(options: str, folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Train with this /dev/shm; return exit code, stdout and stderr. The exit code is None if it hangs."""
    out, err = folder / "out", folder / "err"
    command = (options, out, err, *arguments, f"outputs={folder / 'outputs'}", "name=first")
    process = FORKS.Process(target=train_with_shared_memory, args=command)
    process.start()
    process.join(60)
    code = process.exitcode
    process.kill()
    if code == 77:
        pytest.skip("mounting is not allowed")
    return code, out.read_text(), err.read_text()


@pytest.mark.parametrize("options", ["size=100k", "size=32k", "size=4k", "size=100k,ro"])
def test_workers_without_shared_memory_are_an_error_that_names_settings(tmp_path: Path, options: str) -> None:
    """As in Docker, which gives 64 MB; it must not hang."""
    code, _, err = run(options, tmp_path, "data=sample", "data.num_workers=2")
    assert code == 1, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: data.num_workers=2: ")
    assert "use data.num_workers=0, or allow more shared memory, in Docker with --shm-size=8g or --ipc=host" in err


def test_without_workers_no_shared_memory_is_needed(tmp_path: Path) -> None:
    """Images are decoded in one process, and a line says so."""
    write_images(tmp_path / "images", *(f"{number % 2}/{number}.png" for number in range(120)))
    code, out, err = run("size=100k,ro", tmp_path, "data=folder", f"data.root={tmp_path / 'images'}")
    assert (code, err) == (0, "")
    assert "decoding in one process" in out
    assert "2 classes; training 97" in out


@pytest.mark.parametrize("options", [{}, {"in_memory": False}, {"cache": "none"}], ids=str)
def test_workers_that_inherit_nothing_give_the_same_batches(
    start_method: StartMethod, tmp_path: Path, options: dict[str, Any]
) -> None:
    """As on macOS and Windows, and everywhere since Python 3.14. They decode the files, too."""
    write_images(tmp_path / "images", *(f"{number % 2}/{number}.png" for number in range(120)), size=(16, 16))
    batches = []
    for method in ("fork", "forkserver"):
        start_method(method)
        values: dict[str, Any] = {
            "cache_dir": str(tmp_path / method),
            "augment": {"crop": RandomResizedCrop()},
            **options,
        }
        datamodule = DataModule(
            ImageFolder, str(tmp_path / "images"), image_size=8, batch_size=50, num_workers=2, **values
        )
        datamodule.setup("fit")
        batches.append(list(datamodule.train_dataloader()))
    assert len(batches[0]) == 2
    for (images, labels), (same_images, same_labels) in zip(*batches, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)


class Unsendable(Dataset[Any]):
    """Batches that cannot be pickled."""

    def __getitem__(self, index: int) -> Any:
        return lambda: index

    def __len__(self) -> int:
        return 200


def loader(dataset: Any, **options: Any) -> WorkerDataLoader[Any]:
    return WorkerDataLoader(dataset, num_workers=2, worker_init_fn=init_worker, **options)


def test_a_batch_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(
        WorkerError, match=r"^data\.num_workers=2: a worker process cannot send .*local object.*; use data"
    ):
        list(loader(Unsendable(), collate_fn=list))


def return_unsendable(_: Any) -> Any:
    return lambda: None


class Numbers(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return np.zeros((1, 1, 1), np.uint8), 0

    def __getitems__(self, indices: Any) -> Any:
        return torch.as_tensor(indices)

    def __len__(self) -> int:
        return 200


def test_a_decoded_image_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(WorkerError, match="cannot send"):
        list(parallel_map(Numbers(), return_unsendable, range(200), 2))


def test_indices_need_no_shared_memory(monkeypatch: pytest.MonkeyPatch, start_method: StartMethod) -> None:
    """The parent would not notice that it cannot send them; the batches, which need it, raise."""
    start_method("fork")  # the workers inherit what is patched

    def full(*_: Any) -> None:
        raise RuntimeError("no shared memory")

    batches: Any = ResumableBatchSampler(200, 10)
    assert sum(len(batch) for batch in loader(Numbers(), batch_sampler=batches, collate_fn=np.asarray)) == 200
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    assert sum(len(batch) for batch in loader(Numbers(), batch_sampler=batches, collate_fn=np.asarray)) == 200
    with pytest.raises(WorkerError, match="no shared memory"):
        list(loader(Numbers(), batch_sampler=batches, collate_fn=torch.as_tensor))


@pytest.mark.parametrize("errno", [11, 28])
def test_workers_that_cannot_be_started_are_replaced_by_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder, errno: int
) -> None:
    """The second process cannot be started; the first one is ended."""
    started: list[Any] = []
    original = torch.multiprocessing.Process.start

    def start(self: Any) -> None:
        if started:
            raise OSError(errno, os.strerror(errno))
        started.append(self)
        original(self)

    monkeypatch.setattr(torch.multiprocessing.Process, "start", start)
    assert len([row for chunk in parallel_map(Numbers(), np.sum, range(200), 2) for row in chunk]) == 200
    assert f"decoding in one process, since no other can be started ([Errno {errno}]" in caplog.text
    started[0].join(10)
    assert not started[0].is_alive()
    messages = [str(warning.message) for warning in recwarn.list]
    assert not [text for text in messages if "use of fork() may lead to deadlocks" not in text]  # since Python 3.12


def pause_after_first(make: Callable[[Path], Any], pids: Path) -> None:
    """Fetch one chunk of large results, then none, so that the workers wait until theirs are received."""
    reset_start_method()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, and inherited, if the tests themselves run under nohup
    chunks = iter(make(pids))
    next(chunks)
    time.sleep(60)


class Large(Dataset[Any]):
    """Samples larger than a pipe; writes the number of the process to a file."""

    def __init__(self, pids: Path) -> None:
        self.pids = pids

    def __getitem__(self, index: int) -> Any:
        with self.pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return np.zeros((1, 500, 500), np.uint8), 0

    def __len__(self) -> int:
        return 2000


def decode_large(pids: Path) -> Any:
    return parallel_map(Large(pids), np.asarray, range(2000), 2)


def load_large(pids: Path) -> Any:
    return loader(Large(pids), batch_size=8)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("make", [decode_large, load_large])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, make: Callable[[Path], Any], number: int) -> None:
    pids = tmp_path / "pids"
    process = FORKS.Process(target=pause_after_first, args=(make, pids))
    process.start()
    deadline = time.monotonic() + 60
    while not pids.exists() or len(workers := {int(pid) for pid in pids.read_text().split()}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)  # until the workers wait
    assert all(is_running(pid) for pid in workers)
    assert process.pid not in workers
    os.kill(process.pid or 0, number)
    process.join()
    deadline = time.monotonic() + 3
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers are left behind"
        time.sleep(0.05)


CONFIG = OmegaConf.create({"resume": None, "run_dir": "outputs/first"})


def test_too_many_open_files_is_explained_whatever_was_opened() -> None:
    """Also where the function that opens a file blames the file."""
    error = UserError("data.root=x: Too many open files; use a readable folder: data.root=DIR")
    error.__cause__ = OSError(24, "Too many open files")
    for failure in (error, OSError(24, "Too many open files"), RuntimeError("received 0 items of ancdata")):
        assert explain_failure(failure, CONFIG) == (
            "too many open files; raise the limit with ulimit -n 4096, then rerun the same command",
            1,
        )


def test_a_worker_error_is_explained_even_if_the_cleanup_fails_after_it() -> None:
    """Lightning's does if a DataLoader could not be started."""
    failure = RuntimeError("Please call `iter(combined_loader)` first.")
    failure.__context__ = WorkerError("data.num_workers=2: cannot be started; use data.num_workers=0")
    assert explain_fault(failure, CONFIG) == str(failure.__context__)
