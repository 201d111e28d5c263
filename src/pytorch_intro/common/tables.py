"""Text tables for the terminal and for Markdown files."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as indented text with aligned columns; a cell may have several lines."""
    lines = [line for row in rows for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(escape_cell, line)) + " |" for line in lines)


def escape_cell(text: str) -> str:
    """Return the text on one line, with pipes escaped and characters that UTF-8 cannot encode replaced."""
    return " ".join(text.split()).replace("|", "\\|").encode("utf-8", "replace").decode()
