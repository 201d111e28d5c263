"""Markdown tables, for model cards and summaries."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(escape_cell, line)) + " |" for line in lines)


def escape_cell(text: str) -> str:
    """Return the text on one line, with pipes escaped and characters that UTF-8 cannot encode replaced."""
    return " ".join(text.split()).replace("|", "\\|").encode("utf-8", "replace").decode()
