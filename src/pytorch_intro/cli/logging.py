"""Print log lines above a progress bar."""

import logging

from tqdm import tqdm


class ConsoleHandler(logging.Handler):
    """Prints log lines on stdout without breaking tqdm's progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
