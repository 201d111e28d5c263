"""Text that any terminal and file can show: names of classes and files can contain anything."""

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest

REPLACEMENT = "\ufffd"
NOT_DISPLAYABLE = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and bytes that are not UTF-8


def to_displayable(text: str, max_length: int | None = None) -> str:
    """Return a text on one line, in characters that UTF-8 can encode; longer ones without their middle."""
    line = NOT_DISPLAYABLE.sub(REPLACEMENT, " ".join(text.split()))
    if max_length is None or len(line) <= max_length:
        return line
    kept = max_length - 1
    return f"{line[: kept - kept // 2]}…{line[len(line) - kept // 2 :]}"


def pluralize(number: int, noun: str) -> str:
    """Return the number with its noun: 1 job, 2 jobs, 1,000 classes."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as indented text with aligned columns; a cell may have several lines."""
    cells = ([[to_displayable(line) for line in cell.split("\n")] for cell in row] for row in rows)
    lines = [line for row in cells for line in zip_longest(*row, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
