"""Worker processes of DataLoaders: every error reaches the parent process, and they end when it ends."""

import multiprocessing
import os
from multiprocessing.queues import Queue
from threading import Thread
from typing import Annotated, Any, TypeVar

from pydantic import Field
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pytorch_intro.common.errors import RunError, first_lines

T_co = TypeVar("T_co", covariant=True)

Workers = Annotated[int, Field(ge=0, le=512)]


class WorkerError(RunError):
    """Worker processes cannot be started, or one cannot send its result.

    A worker passes it on as the text of its traceback, which ends with the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("WorkerError: ")[2].strip())


class WorkerDataLoader(DataLoader[T_co]):
    """A DataLoader that raises a WorkerError if its worker processes cannot be started; pass it init_worker."""

    def _get_iterator(self) -> Any:
        return WorkerIterator(self) if self.num_workers else super()._get_iterator()


class WorkerIterator(_MultiProcessingDataLoaderIter):
    def __init__(self, loader: DataLoader[Any]) -> None:
        try:
            super().__init__(loader)
        except (OSError, RuntimeError) as error:  # out of shared memory, memory, processes, threads or file descriptors
            if not getattr(self, "_worker_pids_set", False):  # this object is not complete enough for its __del__
                self._shutdown = True
                for worker in getattr(self, "_workers", []):
                    worker.kill()  # it may not handle signals yet
            raise cannot_start(loader.num_workers, error) from error

    def _next_index(self) -> Any:
        # A tensor would go through shared memory; if that fails, the thread that sends the indices drops them.
        index = super()._next_index()
        return index.numpy() if isinstance(index, Tensor) else index


def share(tensor: Tensor, num_workers: int) -> None:
    """Move a tensor, in place, to memory shared with worker processes that are started later."""
    try:
        tensor.share_memory_()
    except RuntimeError as error:
        raise cannot_start(num_workers, error) from error


def cannot_start(num_workers: int, error: Exception) -> WorkerError:
    return worker_error(num_workers, f"worker processes cannot be started ({first_lines(error)})")


def worker_error(num_workers: int, problem: str) -> WorkerError:
    remedy = "use data.num_workers=0, or allow more shared memory, in Docker with --shm-size=8g or --ipc=host"
    return WorkerError(f"data.num_workers={num_workers}: {problem}; {remedy}")


def init_worker(_: int) -> None:
    """Prepare a worker process; the worker_init_fn of a DataLoader.

    Without it, the parent waits forever for a batch that cannot be sent: the thread that sends batches prints
    the error and continues. And a worker whose parent was killed waits forever until its batches are received.
    """
    Queue._on_queue_feeder_error = send_error  # type: ignore[attr-defined]
    Thread(target=exit_with_parent, daemon=True).start()


def send_error(queue: "Queue[Any]", error: Exception, item: Any) -> None:
    """Send the error of sending an item (index, batch), instead of the batch."""
    info = get_worker_info()
    if info is None or not isinstance(item, tuple):  # the worker is about to end, or the pipe is broken
        os._exit(1)
    reason = first_lines(error) or type(error).__name__
    problem = worker_error(info.num_workers, f"a worker process cannot send its images ({reason})")
    queue.put((item[0], ExceptionWrapper((WorkerError, problem, None), "in a worker process")))


def exit_with_parent() -> None:
    """Wait until the parent process has ended, however it ended, then exit."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
