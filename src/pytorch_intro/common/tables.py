"""Text tables for the terminal."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as indented text with aligned columns; a cell may have several lines."""
    lines = [line for row in rows for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
