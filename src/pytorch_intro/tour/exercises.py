"""Exercises of the chapters: print the tasks, check answers, print solutions.

The exercises of a chapter are a file of cells next to it, in chapters/exercises/. Each exercise has five cells:

- `# %% [markdown]`: title and task
- `# %% template`: what the learner starts from, with ... or raise NotImplementedError where code is missing
- `# %% solution`
- `# %% wrong`: a typical wrong answer, for the tests
- `# %% check`: assertions, each with a sentence that helps; they run with the names of the answer
"""

import ast
import os
import re
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import with_commands
from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.chapter import FOLDER, read_chapter, split_cells, to_paragraphs

SECONDS = 20.0  # for an answer; the slowest solution takes one
KINDS = ("template", "solution", "wrong", "check")


@dataclass
class Exercise:
    """An exercise: number of its chapter and its own from 1, title, paragraphs of the task, and its cells of code."""

    chapter: int
    number: int
    title: str
    task: list[str]
    template: str
    solution: str
    wrong: str
    check: str
    check_line: int

    @property
    def name(self) -> str:
        """Number and title: 5.1 One block of memory."""
        return f"{self.chapter}.{self.number} {self.title}"

    @property
    def names(self) -> list[str]:
        """Names that an answer has to define."""
        return defined_names(self.template)


def exercises_file(chapter: int) -> Path:
    return FOLDER / "exercises" / f"{CHAPTERS[chapter - 1]}.py"


def read_exercises(chapter: int) -> list[Exercise]:
    """Read the exercises of a chapter."""
    exercises: list[Exercise] = []
    cells: dict[str, str] = {}
    for kind, line, body in split_cells(exercises_file(chapter).read_text(encoding="utf-8")):
        if kind == "[markdown]":
            title, *task = to_paragraphs(body)
            cells = {}
        else:
            cells[kind] = body.strip("\n")
        if kind == "check":
            line += len(body) - len(body.lstrip("\n"))
            code = {name: cells[name] for name in KINDS}
            title = re.sub(r"^## \d+\. ", "", title)
            exercises.append(Exercise(chapter, len(exercises) + 1, title, task, **code, check_line=line))
    return exercises


def defined_names(code: str) -> list[str]:
    """Return the names of functions, classes and variables that some code defines, without imports."""
    names = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def answer_file(chapter: int) -> str:
    """Return a Python file with the tasks as comments and the templates, for the learner to complete."""
    lines = [f"Exercises of chapter {chapter}: {read_chapter(chapter).title}."]
    lines += ["Replace each ... and each raise NotImplementedError by your code. Then check this file:"]
    lines += [f"python src/tour.py {chapter} --check FILE"]
    parts = ["\n".join(f"# {with_commands(line)}" for line in lines)]
    for exercise in read_exercises(chapter):
        text = [exercise.name, *(textwrap.fill(paragraph, 94) for paragraph in exercise.task)]
        comment = "\n\n".join(text).replace("\n", "\n# ").replace("# \n", "#\n")
        parts.append(f"# %% {comment}\n\n{exercise.template}")
    return "\n\n\n".join(parts) + "\n"


def solutions(chapter: int, number: int | None = None) -> str:
    """Return the solutions of a chapter, or of one of its exercises, with their titles."""
    chosen = [exercise for exercise in read_exercises(chapter) if number in (None, exercise.number)]
    return "\n\n\n".join(f"# {exercise.name}\n\n{exercise.solution}" for exercise in chosen) + "\n"


class CheckFailure(Exception):  # noqa: N818 (a result, not an error of the program)
    """A wrong answer: one sentence that helps, or more lines if there is a traceback."""


def check_answers(chapter: int, file: Path, seconds: float = SECONDS) -> int:
    """Check a file of answers, and print for each exercise what is right or wrong.

    Returns:
        Exit code: 0 if all answers are right, otherwise 1.

    Raises:
        UserError: if the file cannot be read.
    """
    code = read_answers(chapter, file)
    print(f"\nExercises of chapter {chapter}: {read_chapter(chapter).title}\n", flush=True)
    namespace: dict[str, Any] = {"__name__": "answers", "__file__": str(file)}
    try:
        limit(lambda: exec(compile(code, str(file), "exec"), namespace), str(file), seconds)
    except CheckFailure as failure:
        print(f"{file} does not run, so no answer was checked.\n{textwrap.indent(str(failure), '  ')}\n")
        return 1
    wrong = []
    for exercise in read_exercises(chapter):
        try:
            check(exercise, namespace, str(file), seconds)
            print(f"right    {exercise.name}", flush=True)
        except CheckFailure as failure:
            wrong.append(exercise.number)
            print(f"not yet  {exercise.name}\n{textwrap.indent(wrap(str(failure)), ' ' * 9)}", flush=True)
    if not wrong:
        print("\nAll answers are right.")
        return 0
    print(with_commands(f"\nTo see the solution: python src/tour.py {chapter} --solution {wrong[0]}"))
    return 1


def read_answers(chapter: int, file: Path) -> str:
    """Read a file of answers.

    Raises:
        UserError: if it cannot be read.
    """
    start = with_commands(f"python src/tour.py {chapter} --exercises > {file}")
    if not file.exists():
        raise UserError(f"--check {file}: no such file; start one with {start}")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--check {file}: not a readable Python file ({error}); start one with {start}") from error


def check(exercise: Exercise, namespace: dict[str, Any], file: str = "", seconds: float = SECONDS) -> None:
    """Check an answer.

    Args:
        namespace: Names that the answers define.
        file: File of the answers, whose lines tracebacks show.

    Raises:
        CheckFailure: if the answer is wrong or missing.
    """
    for name in exercise.names:
        if name not in namespace:
            raise CheckFailure(f"The name {name} is missing. Did you rename or delete it?")
        if namespace[name] is ...:
            raise CheckFailure(f"You have not started yet: replace the ... of {name} by your answer.")
    tree = ast.increment_lineno(ast.parse(exercise.check), exercise.check_line - 1)
    imports = (ast.Import, ast.ImportFrom)  # the check may use those of the template, also if the answer does not
    tree.body[:0] = [node for node in ast.parse(exercise.template).body if isinstance(node, imports)]
    path = str(exercises_file(exercise.chapter))
    limit(lambda: exec(compile(tree, path, "exec"), dict(namespace)), file, seconds)


def limit(action: Callable[[], None], file: str, seconds: float) -> None:
    """Run an action in a thread for a limited time; only the lines of this file show in a traceback.

    A thread that does not end is left alone: it is a daemon, so it ends with the program.

    Raises:
        CheckFailure: if it fails or does not end.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # also sys.exit() in an answer
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise CheckFailure(f"Your code did not end within {seconds:g} seconds. Is there a loop that never ends?")
    if errors:
        raise CheckFailure(explain(errors[0], file))


def explain(error: BaseException, file: str) -> str:
    """Return the message of a failed check, or the error with the lines of the answers that lead to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, NotImplementedError) and not error.args:  # PyTorch's own have a message
        return "You have not started yet: replace raise NotImplementedError by your code."
    if isinstance(error, AssertionError) and Path(last.filename).parent == FOLDER / "exercises":
        return str(error)
    text = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SystemExit):
        text = "SystemExit: remove exit() from your code"
    if frames or isinstance(error, SyntaxError):
        lines = [f"line {frame.lineno}: {frame.line}" for frame in frames]
        return "\n".join(["Your code stops with an error:", *lines, text])
    return f"The answer cannot be used: {text}"


def wrap(text: str) -> str:
    return "\n".join(textwrap.fill(line, 87, break_long_words=False) for line in text.splitlines())


def exit_now(code: int) -> None:
    """End the program, even if an answer still runs in a thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def check_cell(chapter: int, number: int, namespace: dict[str, Any]) -> None:
    """Check an answer in a notebook: check_cell(5, 1, globals())."""
    exercise = read_exercises(chapter)[number - 1]
    try:
        check(exercise, namespace)
        print(f"right: {exercise.name}")
    except CheckFailure as failure:
        print(f"not yet: {exercise.name}\n{failure}")
