"""A chapter of the tour: a Python file in cells, each with what is said about it."""

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
        sentences: Of the notes, word by word: comments that begin with # >
        prose: What is said about it, in paragraphs; a correction of the notes, Rightly: …, is one of its own.
        code: What runs.
        line: The line of the file that the code begins in, from 1.
        at_work: Where in this project the idea is at work: comments # At work: FILE: NAME
    """

    line: int
    sentences: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    code: str = ""
    at_work: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Chapter:
    """Its number, counted from 1, its title, what to read on, and its cells."""

    number: int
    path: Path
    title: str
    further: str
    cells: list[Cell]


def read_chapter(number: int) -> Chapter:
    """The chapter of this number, counted from 1."""
    return parse_chapter(number, FOLDER / f"{CHAPTERS[number - 1]}.py")


def parse_chapter(number: int, path: Path) -> Chapter:
    """A chapter from its file, whose docstring is the title, a blank line, and what to read on."""
    text = path.read_text(encoding="utf-8")
    head, *bodies = CELL.split(text)
    title, _, further = head.strip().strip('"').partition("\n\n")
    starts = [text.count("\n", 0, match.end()) + 2 for match in CELL.finditer(text)]
    cells = [parse_cell(body, start) for body, start in zip(bodies, starts, strict=True)]
    return Chapter(number, path, title.strip().removesuffix("."), " ".join(further.split()), cells)


def parse_cell(body: str, line: int) -> Cell:
    """A cell from its text: comments before the code, the code, comments about the project after it.

    Args:
        line: Of the file, that the body begins in.
    """
    lines = body.strip("\n").splitlines()
    cell = Cell(line + len(body) - len(body.lstrip("\n")) - 1)
    while lines and lines[0].startswith("#"):
        comment = lines.pop(0).removeprefix("#").strip()
        if comment.startswith("> "):
            cell.sentences.append(comment.removeprefix("> "))
        elif comment.startswith("Rightly: ") or not cell.prose:
            cell.prose.append(comment)
        else:
            cell.prose[-1] += f" {comment}"
        cell.line += 1
    while lines and lines[-1].startswith("# At work: "):
        file, _, name = lines.pop().removeprefix("# At work: ").partition(": ")
        cell.at_work.insert(0, (file, name))
    cell.code = "\n".join(lines).rstrip()
    return cell
