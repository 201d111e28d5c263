"""Rows reach a server once and in order, whenever it is away; without a server."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytorch_intro.loggers import sender as module
from pytorch_intro.loggers.journal import FILE, Journal, Row, read_rows
from pytorch_intro.loggers.sender import Sender, reason


class Server:
    """A server that fails while it is away.

    Args:
        away: Number of requests that fail.
    """

    def __init__(self, away: int = 0) -> None:
        self.away, self.requests = away, 0
        self.rows: list[Row] = []

    def send(self, rows: Sequence[Row]) -> None:
        self.requests += 1
        if self.requests <= self.away:
            raise ConnectionError("connection refused")
        self.rows += rows


def rows(count: int) -> list[Row]:
    return [Row(number, number, 0.0, {"train/loss": 1 / (1 + number)}) for number in range(count)]


def sender_of(server: Server, **values: Any) -> Sender:
    return Sender(
        "logger.mlflow", server.send, **{"is_rejected": lambda error: False, "remedy": "send them later", **values}
    )


def test_rows_are_sent_in_few_requests() -> None:
    server = Server()
    sender = sender_of(server)
    for row in rows(500):
        sender.put(row)
    sender.start()
    sender.close(timeout=60)
    assert server.rows == rows(500)
    assert server.requests == 3


def test_a_server_that_comes_back_gets_everything_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning; a task waits for the rows before it."""
    monkeypatch.setattr(module, "SEND_SECONDS", 0.001)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    caplog.set_level("INFO", logger="pytorch_intro")
    server, done = Server(away=5), threading.Event()
    seen: list[Row] = []
    sender = sender_of(server)
    sender.start()
    for row in rows(20):
        sender.put(row)

    def look() -> None:
        seen.extend(server.rows)
        done.set()

    sender.put(look)
    assert done.wait(60)
    sender.close(timeout=60)
    assert server.rows == seen == rows(20)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["logger.mlflow: not reached (connection refused); training continues, and it is tried again"]
    assert "logger.mlflow: reached again, nothing was lost" in caplog.messages


def test_at_the_end_a_server_that_is_away_gets_one_more_attempt(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(away=1000)
    sender = sender_of(server)
    for row in rows(20):
        sender.put(row)
    sender.start()
    sender.close(timeout=60)
    assert not sender.is_alive()
    assert server.requests == 1
    assert caplog.messages[-1] == "logger.mlflow: 20 rows could not be sent; send them later"


def test_a_request_that_hangs_does_not_keep_the_run_from_ending() -> None:
    hangs = threading.Event()

    def send(_: object) -> None:
        hangs.wait(60)

    sender = Sender("logger.mlflow", send, lambda error: False, "send them later")
    sender.put(rows(1)[0])
    sender.start()
    sender.close(timeout=0.01)
    assert sender.is_alive()
    hangs.set()
    sender.join(60)


def test_what_the_server_rejects_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(away=1)
    sender = sender_of(server, is_rejected=lambda error: True)
    for row in rows(module.MAX_ROWS + 1):
        sender.put(row)
    sender.start()
    sender.close(timeout=60)
    assert server.rows == rows(module.MAX_ROWS + 1)[-1:]
    assert caplog.messages == ["logger.mlflow: rejected (connection refused); training continues"]


def test_reasons_are_short() -> None:
    text = (
        "API request to http://host/api failed with exception HTTPConnectionPool(host='host', port=5000): Max retries "
        "exceeded with url: /api (Caused by NewConnectionError(\"HTTPConnection(host='host', port=5000): Failed to "
        'establish a new connection: [Errno 111] Connection refused"))'
    )
    assert reason(Exception(text)) == "[Errno 111] Connection refused"


def append(journal: Journal, steps: Sequence[int], value: float = 0.5) -> list[int]:
    """Append a row for each step, and return the numbers of the rows."""
    return [journal.append(step, {"lr": value}).number for step in steps]


def test_a_row_that_is_logged_again_keeps_its_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.open(is_new=True) == []
    assert append(journal, range(5)) == [0, 1, 2, 3, 4]
    journal.close()
    resumed = Journal(tmp_path)  # before the file is truncated
    lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
    (tmp_path / FILE).write_text("".join(lines[:2]))
    assert [row.number for row in resumed.open(is_new=False)] == [0, 1]
    assert append(resumed, range(2, 7)) == [2, 3, 4, 5, 6]
    resumed.close()
    assert [row.step for row in read_rows(tmp_path / FILE)] == list(range(7))


def test_rows_of_a_run_whose_settings_changed_get_new_numbers(tmp_path: Path) -> None:
    """The server has rows 2 to 4 of what was abandoned, and would refuse other rows of these numbers."""
    journal = Journal(tmp_path)
    journal.open(is_new=True)
    append(journal, range(5))
    journal.close()
    resumed = Journal(tmp_path)
    lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
    (tmp_path / FILE).write_text("".join(lines[:2]))
    resumed.open(is_new=False)
    assert append(resumed, [3, 4, 5]) == [5, 6, 7]
    resumed.close()


def test_a_row_that_was_not_written_completely_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open(is_new=True)
    append(journal, range(3))
    journal.close()
    content = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(content[:-5])
    assert [row.number for row in read_rows(tmp_path / FILE)] == [0, 1]


def test_a_run_that_replaces_another_starts_at_row_0(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open(is_new=True)
    append(journal, range(3))
    journal.close()
    replacing = Journal(tmp_path)
    (tmp_path / FILE).unlink()
    assert replacing.open(is_new=True) == []
    assert append(replacing, [0]) == [0]
    replacing.close()
