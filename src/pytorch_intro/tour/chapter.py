"""Chapters of the tour: Python files in cells, in the percent format that editors and jupytext read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytorch_intro.tour import CHAPTERS

FOLDER = Path(__file__).parent / "chapters"
CELL = re.compile(r"^# %%.*$", re.MULTILINE)
NEEDS = re.compile(r"^# Needs: (.+)$", re.MULTILINE)
TERM = re.compile(r"\*\*(?!Note:)(.+?)\*\*")


@dataclass
class Cell:
    """A step of the tour: a cell of text, if there is one before it, and a cell of code.

    Attributes:
        sentences: Sentences of the notes, quoted exactly: > SENTENCE
        prose: Explanation, in paragraphs; a correction of the notes is one of its own, **Note:** more precisely, …
        code: Code of the cell.
        line: Line of the file where the code starts, from 1.
        at_work: Places in this project that use the idea, (file, name): comments # At work: FILE: NAME
        needs: Modules without which the cell is left out: a comment # Needs: MODULE, MODULE
        is_slow: Whether the whole tour leaves the cell out, which one chapter runs: a comment # Slow: REASON
        marked: The prose with the marks of the terms that it explains, **TERM**
    """

    line: int
    sentences: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    code: str = ""
    at_work: list[tuple[str, str]] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    is_slow: bool = False
    marked: list[str] = field(default_factory=list)

    @property
    def terms(self) -> list[str]:
        """Terms that the prose explains."""
        return [term for paragraph in self.marked for term in TERM.findall(paragraph)]


@dataclass
class Chapter:
    """A chapter: number, counted from 1, file, title, further reading, and cells."""

    number: int
    path: Path
    title: str
    further: str
    cells: list[Cell]


def read_chapter(number: int) -> Chapter:
    """Read the chapter of a number, counted from 1."""
    return parse_chapter(number, FOLDER / f"{CHAPTERS[number - 1]}.py")


def parse_chapter(number: int, path: Path) -> Chapter:
    """Parse a file whose first cell is the text `# NUMBER. TITLE` and, after an empty line, further reading."""
    (_, _, head), *rest = split_cells(path.read_text(encoding="utf-8"))
    title, further = to_paragraphs(head)
    cells, text = [], ""
    for kind, line, body in rest:
        if kind == "[markdown]":
            text = body
        else:
            cells.append(parse_cell(text, body, line))
            text = ""
    return Chapter(number, path, re.sub(r"^# \d+\. ", "", title), further.removeprefix("To read on: "), cells)


def split_cells(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield kind, number of the first line and text of each cell; `# %% [markdown]` is of the kind [markdown]."""
    marks = [*CELL.finditer(text)]
    for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)], strict=True):
        yield mark[0].removeprefix("# %%").strip(), text.count("\n", 0, mark.end()) + 2, text[mark.end() + 1 : end]


def to_paragraphs(comments: str) -> list[str]:
    """Return the paragraphs of a cell of text, whose lines are comments; an item of a list is a paragraph.

    Only a table, | CELL | CELL |, keeps its lines.
    """
    text = re.sub(r"^# ?", "", comments.strip(), flags=re.MULTILINE)
    parts = re.split(r"\n\n+|\n(?=\d+\. )", text)
    return [part if part.startswith("|") else " ".join(part.split()) for part in parts if part.strip()]


def parse_cell(text: str, body: str, line: int) -> Cell:
    """Parse a cell of text and the cell of code after it, whose first line has this number."""
    cell = Cell(line + len(body) - len(body.lstrip("\n")))
    for paragraph in to_paragraphs(text):
        if paragraph.startswith("> "):
            cell.sentences.append(paragraph.removeprefix("> "))
        else:
            cell.prose.append(paragraph.replace("**", ""))
            cell.marked.append(paragraph)
    lines = body.strip("\n").splitlines()
    while lines and lines[-1].startswith("# At work: "):
        file, _, name = lines.pop().removeprefix("# At work: ").partition(": ")
        cell.at_work.insert(0, (file, name))
    cell.code = "\n".join(lines).rstrip()
    if needs := NEEDS.search(cell.code):
        cell.needs = needs[1].split(", ")
    cell.is_slow = "# Slow: " in cell.code
    return cell
