"""Batches the work of concurrent requests."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls a function with lists of the items that wait, in a thread of its own.

    It never waits for a batch to fill: an item that comes alone is processed alone, and while the function runs, the
    items for the next batch collect.

    Args:
        function: Maps a list of items to a sequence of as many results.
        batch_size: Maximum number of items per call.
    """

    def __init__(self, function: Callable[[list[Item]], Sequence[Result]], batch_size: int) -> None:
        self.function = function
        self.batch_size = batch_size
        self.waiting: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
        self.thread = Thread(target=self.work, name="batcher")

    def __enter__(self) -> "Batcher[Item, Result]":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.waiting.put(None)
        self.thread.join()

    def submit(self, item: Item) -> "Future[Result]":
        """Add an item and return the future of its result."""
        future: Future[Result] = Future()
        self.waiting.put((item, future))
        return future

    def work(self) -> None:
        """Process batches until the batcher is closed; the items before that are still processed."""
        is_open = True
        while is_open:
            batch = [self.waiting.get()]
            while len(batch) < self.batch_size and not self.waiting.empty():
                batch.append(self.waiting.get())  # this thread is the only one that takes items
            is_open = None not in batch
            wanted = [pair for pair in batch if pair and pair[1].set_running_or_notify_cancel()]
            if wanted:
                self.process(*zip(*wanted, strict=True))

    def process(self, items: Sequence[Item], futures: "Sequence[Future[Result]]") -> None:
        try:
            results = self.function(list(items))
        except Exception as error:  # whatever the function raises is the result of its items
            for future in futures:
                future.set_exception(error)
        else:
            for future, result in zip(futures, results, strict=True):
                future.set_result(result)
