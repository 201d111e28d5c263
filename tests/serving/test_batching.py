"""Concurrent work is batched without waiting for a batch to fill."""

from threading import Event

import pytest

from pytorch_intro.serving.batching import Batcher


class Function:
    """Doubles numbers, and records the batches; it waits in each call until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.has_started, self.may_end = Event(), Event()

    def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.has_started.set()
        assert self.may_end.wait(60)
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


@pytest.fixture
def function() -> Function:
    return Function()


def test_items_that_wait_are_processed_in_batches_of_at_most_that_size(function: Function) -> None:
    with Batcher(function, batch_size=3) as batcher:
        futures = [batcher.submit(0)]
        assert function.has_started.wait(60)  # alone, without waiting for others
        futures += [batcher.submit(number) for number in range(1, 6)]
        function.may_end.set()
        assert [future.result(60) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert function.batches == [[0], [1, 2, 3], [4, 5]]


def test_an_error_is_the_result_of_its_batch_only(function: Function) -> None:
    with Batcher(function, batch_size=1) as batcher:
        futures = [batcher.submit(number) for number in (13, 1)]
        function.may_end.set()
        with pytest.raises(ValueError, match="unlucky"):
            futures[0].result(60)
        assert futures[1].result(60) == 2


def test_items_of_requests_that_were_canceled_are_not_processed(function: Function) -> None:
    with Batcher(function, batch_size=2) as batcher:
        first = batcher.submit(0)
        assert function.has_started.wait(60)
        canceled, last = batcher.submit(1), batcher.submit(2)
        canceled.cancel()
        function.may_end.set()
        assert (first.result(60), last.result(60)) == (0, 4)
    assert function.batches == [[0], [2]]


def test_closing_processes_what_was_submitted_before(function: Function) -> None:
    with Batcher(function, batch_size=2) as batcher:
        futures = [batcher.submit(number) for number in range(3)]
        function.may_end.set()
    assert [future.result(0) for future in futures] == [0, 2, 4]
