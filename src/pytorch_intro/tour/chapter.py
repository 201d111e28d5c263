"""Chapters of the tour: Python files in cells, each with its text."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from pytorch_intro.tour import CHAPTERS

FOLDER = Path(__file__).parent / "chapters"
CELL = re.compile(r"^# %%.*$", re.MULTILINE)


@dataclass
class Cell:
    """A step of the tour.

    Attributes:
        sentences: Sentences of the notes, quoted exactly: comments that start with # >
        prose: Explanation, in paragraphs; a correction of the notes, # Note: …, is a separate paragraph.
        code: Code of the cell.
        line: Line of the file where the code starts, from 1.
        at_work: Places in this project that use the idea, (file, name): comments # At work: FILE: NAME
    """

    line: int
    sentences: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    code: str = ""
    at_work: list[tuple[str, str]] = field(default_factory=list)


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
    """Parse a file, whose docstring is the title, a blank line, and further reading."""
    text = path.read_text(encoding="utf-8")
    head, *bodies = CELL.split(text)
    title, _, further = head.strip().strip('"').partition("\n\n")
    starts = [text.count("\n", 0, match.end()) + 2 for match in CELL.finditer(text)]
    cells = [parse_cell(body, start) for body, start in zip(bodies, starts, strict=True)]
    return Chapter(number, path, title.strip().removesuffix("."), " ".join(further.split()), cells)


def parse_cell(body: str, line: int) -> Cell:
    """Parse a cell that starts in this line of the file: comments, code, and comments about the project."""
    lines = body.strip("\n").splitlines()
    cell = Cell(line + len(body) - len(body.lstrip("\n")) - 1)
    while lines and lines[0].startswith("#"):
        comment = lines.pop(0).removeprefix("#").strip()
        if comment.startswith("> "):
            cell.sentences.append(comment.removeprefix("> "))
        elif comment.startswith("Note: ") or not cell.prose:
            cell.prose.append(comment)
        else:
            cell.prose[-1] += f" {comment}"
        cell.line += 1
    while lines and lines[-1].startswith("# At work: "):
        file, _, name = lines.pop().removeprefix("# At work: ").partition(": ")
        cell.at_work.insert(0, (file, name))
    cell.code = "\n".join(lines).rstrip()
    return cell
