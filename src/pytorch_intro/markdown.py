"""Tables in Markdown, whatever is in their cells."""

from collections.abc import Iterable, Sequence


def markdown_table(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """The names of the columns, and a line each."""
    rows = [names, ["---"] * len(names), *lines]
    return "\n".join("| " + " | ".join(map(in_cell, row)) + " |" for row in rows)


def in_cell(text: str) -> str:
    """A text with nothing in it that ends a cell or that UTF-8 does not know."""
    return " ".join(text.split()).replace("|", "\\|").encode("utf-8", "replace").decode()
