"""Run the tour: print the text of each cell and its code, run it, print its result and the places that use the idea."""

import ast
import builtins
import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.common.streams import protect_streams
from pytorch_intro.config.paths import PROJECT, with_commands
from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.chapter import Cell, Chapter, read_chapter
from pytorch_intro.tour.exercises import answer_file, check_answers, exit_now, read_exercises, solutions

WIDTH = 96
BOLD, DIM, GREEN, PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[0m"
OPTIONS = ("--exercises", "--check", "--solution")
USAGE = """\
PyTorch in 20 chapters: each statement with running code, its result, and where this project uses it.

  python src/tour.py         all of it, in about 20 seconds
  python src/tour.py 5       one chapter, or several: 3 5

Each chapter has three exercises:

  python src/tour.py 5 --exercises > answers.py    a file with the tasks, for you to complete
  python src/tour.py 5 --check answers.py          what is right, and a hint for what is not
  python src/tour.py 5 --solution [2]              the solutions, or that of one exercise
"""


class Tour:
    """Runs the chosen chapters on the command line, or cell by cell in a notebook.

    Args:
        name: __name__ of the script; unless it is "__main__", as in worker processes that import it, nothing runs.
        arguments: Numbers of the chosen chapters; by default, the arguments of the command line.
    """

    def __init__(self, name: str, arguments: Sequence[str] | None = None) -> None:
        self.is_running = name == "__main__"
        self.is_notebook = hasattr(builtins, "__IPYTHON__")  # sys.argv is then that of the kernel
        if self.is_running and not self.is_notebook:
            protect_streams()
        if arguments is None:
            arguments = [] if self.is_notebook or not self.is_running else sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(f"{with_commands(USAGE)}\n{contents()}")
            self.is_running = False
        try:
            if self.is_running and {*OPTIONS} & {*arguments}:
                practice(arguments)
                self.is_running = False
            self.chosen = chosen_chapters(arguments if self.is_running else [])
        except UserError as error:
            exit_with_error(str(error))

    def chapter(self, number: int) -> None:
        """Run a chapter, if it is chosen."""
        if not self.is_running or number not in self.chosen:
            return
        is_whole = len(self.chosen) == len(CHAPTERS)
        if self.is_notebook:
            walk(read_chapter(number), is_whole)
            return
        try:
            walk(read_chapter(number), is_whole)
        except KeyboardInterrupt:
            sys.exit(130)


def chosen_chapters(arguments: Sequence[str]) -> set[int]:
    """Return the numbers of the chosen chapters; all of them without arguments.

    Raises:
        UserError: if a chapter does not exist.
    """
    known = {str(number): number for number in range(1, len(CHAPTERS) + 1)}
    for argument in arguments:
        if argument not in known:
            raise UserError(f"{argument}: unknown chapter; use a number from 1 to {len(CHAPTERS)}, or none for all")
    return {known[argument] for argument in arguments or known}


def practice(arguments: Sequence[str]) -> None:
    """Print the exercises or solutions of a chapter, or check answers; exit with 1 if an answer is wrong.

    Raises:
        UserError: if the arguments are not those of USAGE, or if the file of answers cannot be read.
    """
    place = next(place for place, argument in enumerate(arguments) if argument in OPTIONS)
    (option, *values), chosen = arguments[place:], arguments[:place]
    if len(chosen) != 1:
        raise UserError(f"{option}: write the number of one chapter before it, as in 5 {option}")
    (chapter,) = chosen_chapters(chosen)
    if option == "--check":
        if len(values) != 1:
            raise UserError(f"--check: write the file of your answers after it, as in {chapter} --check answers.py")
        if code := check_answers(chapter, Path(values[0])):
            exit_now(code)
    elif option == "--exercises":
        if values:
            raise UserError(f"{values[0]}: --exercises is the last argument; remove what is after it")
        print(answer_file(chapter), end="")
    else:
        known = [str(exercise.number) for exercise in read_exercises(chapter)]
        if values and (len(values) > 1 or values[0] not in known):
            raise UserError(f"--solution {' '.join(values)}: unknown exercise; use 1, 2 or 3, or none for all")
        print(solutions(chapter, int(values[0]) if values else None), end="")


def contents() -> str:
    """Return the titles of all chapters, one per line."""
    chapters = [read_chapter(number) for number in range(1, len(CHAPTERS) + 1)]
    return "\n".join(f"  {chapter.number:>2}  {chapter.title}" for chapter in chapters)


def walk(chapter: Chapter, is_whole: bool = False) -> None:
    """Run the cells of a chapter in order, in a new namespace; as a part of the whole tour without slow cells."""
    print(f"\n{styled(BOLD, f'{chapter.number}. {chapter.title}')}")
    print(f"{styled(DIM, wrap(f'To read on: {chapter.further}'))}\n")
    namespace: dict[str, Any] = {"__name__": f"pytorch_intro.tour.chapters.{chapter.path.stem}"}
    for cell in chapter.cells:
        step(cell, chapter, namespace, is_whole)
    if 1 <= chapter.number <= len(CHAPTERS):
        print(styled(DIM, with_commands(f"Exercises: python src/tour.py {chapter.number} --exercises > answers.py\n")))


def step(cell: Cell, chapter: Chapter, namespace: dict[str, Any], is_whole: bool) -> None:
    """Print the text and code of a cell, run it, print its result and the places that use the idea."""
    for sentence in cell.sentences:
        print(styled(BOLD, wrap(f"The notes: {sentence}")))
    for place, paragraph in enumerate(cell.prose):
        if place and not paragraph[0].isdigit():
            print()
        print(laid_out(paragraph))
    print(styled(DIM, textwrap.indent(f"\n{cell.code.strip()}\n", "    ")), flush=True)
    if missing := [name for name in cell.needs if not is_installed(name)]:
        print(f"  left out, since it is not installed: {', '.join(missing)}\n")
        return
    if cell.is_slow and is_whole:
        print(with_commands(f"  left out of the whole tour; to run it: python src/tour.py {chapter.number}\n"))
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = run(cell, chapter, namespace)
    if printed.getvalue():
        print(styled(GREEN, f"  = {shown(printed.getvalue())}"))
    if isinstance(result, Image.Image):
        print(styled(GREEN, f"  = picture: {save_picture(result, cell)}"))
    elif result is not None:
        print(styled(GREEN, f"  = {shown(result)}"))
    for file, name in cell.at_work:
        print(f"  at work in {file}: {name}")
    print()


def is_installed(name: str) -> bool:
    """Return whether a module can be found, without importing it."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a parent of the module
        return False


def run(cell: Cell, chapter: Chapter, namespace: dict[str, Any]) -> Any:
    """Run the code of a cell and return the value of its last expression, as in a notebook."""
    tree = ast.parse(cell.code)
    ast.increment_lineno(tree, cell.line - 1)
    file = str(chapter.path)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, file, "exec"), namespace)
    return eval(compile(ast.Expression(last.value), file, "eval"), namespace) if isinstance(last, ast.Expr) else None


def save_picture(picture: Image.Image, cell: Cell) -> Path:
    """Save a picture that a cell shows, as outputs/tour/NAME.png; NAME is the variable in the cell's last line."""
    from pytorch_intro.analysis.plots import save

    file = PROJECT / "outputs" / "tour" / f"{cell.code.splitlines()[-1]}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    save(picture, file)
    return file


def shown(result: Any) -> str:
    """Return a result as text of up to WIDTH columns, with all lines but the first indented by four."""
    lines = (result if isinstance(result, str) else repr(result)).splitlines()
    wrapped = [part for line in lines for part in textwrap.wrap(line, WIDTH - 4, drop_whitespace=False) or [""]]
    return "\n    ".join(part.rstrip() for part in wrapped)


def wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH)


def laid_out(paragraph: str) -> str:
    """Return a paragraph in lines of WIDTH: a note has a line at its left side, and a table its columns."""
    if paragraph.startswith("|"):
        return lay_out_table(paragraph)
    margin = "  | " if paragraph.startswith("Note: ") else ""
    return textwrap.fill(paragraph, WIDTH, initial_indent=margin, subsequent_indent=margin)


def lay_out_table(text: str) -> str:
    """Return a table of Markdown in columns; the middle one gets the width that the first and the last one leave."""
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()]
    first, last = 34, max(len(row[-1]) for row in [head, *rows])
    widths = (first, WIDTH - first - last - 4, last)
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        columns = [textwrap.wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*columns, fillvalue=""):
            line = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append(line.rstrip())
    return "\n".join(lines)


def styled(style: str, text: str) -> str:
    """Return the text in a style, or as it is if stdout is not a terminal or NO_COLOR is set."""
    return f"{style}{text}{PLAIN}" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
