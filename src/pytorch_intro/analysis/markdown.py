"""Markdown tables, for model cards and summaries."""

from collections.abc import Iterable, Sequence

from pytorch_intro.common.text import to_displayable


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(escape_cell, line)) + " |" for line in lines)


def escape_cell(text: str) -> str:
    """Return the text on one line, displayable and with pipes escaped."""
    return to_displayable(text).replace("|", "\\|")
