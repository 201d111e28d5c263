"""Text tables for the terminal."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from pytorch_intro.common.text import to_displayable


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as indented text with aligned columns; a cell may have several lines."""
    cells = ([[to_displayable(line) for line in cell.split("\n")] for cell in row] for row in rows)
    lines = [line for row in cells for line in zip_longest(*row, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
