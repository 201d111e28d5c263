"""Send rows to a server in a thread, so that training never waits for it."""

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence

from pytorch_intro.common.errors import first_lines
from pytorch_intro.loggers.journal import Row

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0  # time between two requests: rows are collected
RETRY_SECONDS = 30.0
LAST_SECONDS = 5.0  # wait for the last attempt, if the one before has failed
MAX_ROWS = 200  # per request

Task = Callable[[], None]


class Sender(threading.Thread):
    """Sends rows, and performs other tasks, in their order.

    When the server cannot be reached, it logs one warning, keeps everything and tries again later. What the server
    rejects is logged and dropped.

    Args:
        name: Setting of the logger, such as logger.mlflow, and address, for messages.
        send: Function that sends rows.
        is_rejected: Function that returns whether an error means that the server does not accept the request.
        remedy: How to send later what could not be sent.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Row]], None],
        is_rejected: Callable[[Exception], bool],
        remedy: str,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.send = send
        self.is_rejected = is_rejected
        self.remedy = remedy
        self.pending: deque[Row | Task] = deque()
        self.closing = threading.Event()
        self.has_warned = self.is_failing = False
        self.sent = 0  # requests

    def put(self, item: Row | Task) -> None:
        self.pending.append(item)

    def run(self) -> None:
        while not self.closing.wait(RETRY_SECONDS if self.is_failing else SEND_SECONDS):
            self.send_pending()
        self.send_pending()

    def send_pending(self) -> None:
        """Send everything, until the first failure."""
        while self.pending:
            items = self.first_items()
            try:
                if isinstance(items[0], Row):
                    self.send([item for item in items if isinstance(item, Row)])
                else:
                    items[0]()
            except Exception as error:  # whatever a client raises, training continues
                if not self.is_rejected(error):
                    self.warn_once(error)
                    self.is_failing = True
                    return
                log.warning(f"{self.name}: rejected ({reason(error)}); training continues")
            if self.is_failing:
                log.info(f"{self.name}: reached again, nothing was lost")
            self.is_failing = False
            self.sent += 1
            for _ in items:
                self.pending.popleft()

    def first_items(self) -> list[Row | Task]:
        """Return the next rows up to the first task, or that task."""
        items: list[Row | Task] = []
        for item in list(self.pending)[:MAX_ROWS]:
            if not isinstance(item, Row):
                return items or [item]
            items.append(item)
        return items

    def warn_once(self, error: Exception) -> None:
        if not self.has_warned:
            log.warning(f"{self.name}: not reached ({reason(error)}); training continues, and it is tried again")
        self.has_warned = True

    def close(self, timeout: float) -> None:
        """Send the rest; after a failure, try once more.

        Args:
            timeout: Longest wait for one request, in seconds.
        """
        self.closing.set()
        sent = -1
        while self.is_alive() and self.sent > sent:
            sent = self.sent
            self.join(LAST_SECONDS if self.is_failing else timeout)
        if pending := list(self.pending):
            rows = sum(isinstance(item, Row) for item in pending)
            log.warning(f"{self.name}: {f'{rows} rows' if rows else 'the files'} could not be sent; {self.remedy}")


def reason(error: Exception) -> str:
    """Return the cause of an error of a client, without the addresses and objects before it."""
    text = re.sub(r".*(Caused by \w+\(|HTTPS?Connection\w*\([^)]*\): |new connection: )", "", first_lines(error))
    return text[:200].rstrip(". )'\"")
