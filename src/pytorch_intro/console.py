"""Log lines and a progress bar on the same terminal."""

import logging

from tqdm import tqdm


class ConsoleHandler(logging.Handler):
    """Prints log lines on stdout, above a progress bar that may be there."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
