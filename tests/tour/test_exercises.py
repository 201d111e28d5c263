"""The exercises: every solution is right, every template and typical wrong answer gets a sentence that helps."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.exercises import (
    CheckFailure,
    Exercise,
    answer_file,
    check,
    check_answers,
    defined_names,
    read_exercises,
    solutions,
)
from pytorch_intro.tour.guide import Tour
from pytorch_intro.tour.practice import MISTAKES

NUMBERS = range(1, len(CHAPTERS) + 1)
EXERCISES = [exercise for number in NUMBERS for exercise in read_exercises(number)]
FILE = "answers.py"


def failure_of(exercise: Exercise, code: str) -> str:
    """Return what the check of an exercise finds wrong in some code; "" if nothing."""
    namespace: dict[str, Any] = {"__name__": "answers"}
    exec(compile(code, FILE, "exec"), namespace)
    try:
        check(exercise, namespace, FILE)
    except CheckFailure as failure:
        return str(failure)
    return ""


def test_every_chapter_has_three_exercises_with_names_of_their_own() -> None:
    assert [len(read_exercises(number)) for number in NUMBERS] == [3] * 20
    names = [name for exercise in EXERCISES for name in exercise.names]
    assert len(names) == len(set(names)) > 60, "one file can have the answers of all chapters"
    for exercise in EXERCISES:
        assert defined_names(exercise.solution) == defined_names(exercise.wrong) == exercise.names


# Exercise, a part of its solution, and what makes it a mistake that the exercise is about.
MISTAKEN = {
    "a fixed name": (2, 2, "tensor.device.type", "str(tensor.device)"),
    "the last device": (2, 3, 'for name in ("cuda", "mps")', "for name in reversed(available)"),
    "the answer is moved": (3, 3, "network.to(device)\n    data = data.to(device)\n    return network(data)",
                            "return network(data).to(device)"),
    "the first channel only": (4, 3, "pictures.float()", "pictures[:, :1].float()"),
    "one transform for all": (8, 2, "self.transform = transform",
                              "self.pictures, self.transform = transform(pictures), lambda picture: picture"),
    "no ReLU": (11, 3, "            nn.ReLU(),\n", ""),
    "softmax at the end": (11, 3, "nn.Linear(8 * 14 * 14, 10),", "nn.Linear(8 * 14 * 14, 10), nn.Softmax(dim=1),"),
    "a smaller rate instead of zero_grad": (12, 2, "optimizer.zero_grad()", "optimizer.param_groups[0]['lr'] = 0.001"),
    "no map_location": (14, 3, ', map_location="cpu"', ""),
    "a name of venvs": (15, 1, "prefix != base_prefix", 'prefix.endswith(".venv")'),
    "not shuffled": (16, 3, "torch.randperm(len(images))", "torch.arange(len(images))"),
    "a part of the name": (17, 3, "cup in cups_for_the_test", "any(known in cup for known in cups_for_the_test)"),
    "the first layer only": (18, 3, "network.requires_grad_(False)", "network[0].requires_grad_(False)"),
    "one standard error": (19, 2, "> 3 * error", "> error"),
    "two standard errors": (19, 2, "> 3 * error", "> 2 * error"),
    "three standard deviations": (19, 2, " / len(differences) ** 0.5", ""),
}  # fmt: skip
ACCEPTED = {
    "NumPy's True": (19, 2, "mean(differences) > 3 * error", "np.bool_(mean(differences) > 3 * error)"),
    "a dict with the loss": (13, 2, "return cross_entropy(self.network(features), targets)",
                             'return {"loss": cross_entropy(self.network(features), targets)}'),
    "a list of optimizers": (13, 2, "torch.optim.SGD(self.network.parameters(), lr=self.rate)",
                             "[torch.optim.SGD(self.network.parameters(), lr=self.rate)]"),
    "another place for the CPU": (14, 3, 'map_location="cpu"', 'map_location=torch.device("cpu")'),
}  # fmt: skip


def changed_solution(chapter: int, number: int, part: str, other: str) -> tuple[Exercise, str]:
    exercise = read_exercises(chapter)[number - 1]
    assert part in exercise.solution
    return exercise, "import numpy as np\n" + exercise.solution.replace(part, other)


@pytest.mark.parametrize("change", MISTAKEN.values(), ids=MISTAKEN)
def test_the_mistake_that_an_exercise_is_about_gets_a_hint(change: tuple[int, int, str, str]) -> None:
    hint = failure_of(*changed_solution(*change))
    assert len(hint.split()) > 8, hint
    assert "Error" not in hint


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_other_right_answers_are_accepted(change: tuple[int, int, str, str]) -> None:
    assert failure_of(*changed_solution(*change)) == ""


@pytest.mark.parametrize(("chapter", "number", "method"), [(11, 2, "forward"), (8, 1, "__getitem__")])
def test_an_error_of_pytorch_is_not_an_answer_that_has_not_started(chapter: int, number: int, method: str) -> None:
    """PyTorch raises NotImplementedError for a method that is missing, here because its name is misspelled."""
    hint = failure_of(*changed_solution(chapter, number, f"def {method}", f"def {method}s"))
    assert "not started" not in hint
    assert "NotImplementedError" in hint


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_a_solution_is_right_and_a_wrong_answer_gets_a_hint(exercise: Exercise) -> None:
    namespace: dict[str, Any] = {"__name__": "answers"}
    exec(compile(exercise.solution, FILE, "exec"), namespace)
    check(exercise, {name: namespace[name] for name in exercise.names}, FILE)  # without what the template imports
    hint = failure_of(exercise, exercise.wrong)
    assert len(hint.split()) > 8, hint
    assert "Error" not in hint, "a sentence about the answer, not a failed check"
    untouched = failure_of(exercise, exercise.template)
    if "..." in exercise.template or "NotImplementedError" in exercise.template:
        assert untouched.startswith("You have not started yet: replace ")
    else:
        assert "Repair" in exercise.title
        assert len(untouched.split()) > 8
        assert "Error" not in untouched


def test_each_of_the_five_mistakes_is_found_by_itself() -> None:
    exercise = read_exercises(16)[2]
    mistakes = {
        "no zero_grad": ("            optimizer.zero_grad()\n", "", "zero_grad()"),
        "softmax before cross-entropy": ("network(batch), targets", "network(batch).softmax(dim=1), targets", "1.46"),
        "learning rate 100 times too high": ("lr=0.1", "lr=10.0", "divide it by 100"),
        "labels not shuffled with the pictures": ("labels[order]", "labels", "in the same order"),
        "no eval": ("    network.eval()\n", "", "network.eval()"),
    }
    assert tuple(mistakes) == MISTAKES
    for before, after, hint in mistakes.values():
        assert exercise.solution.count(before) == 1
        assert hint in failure_of(exercise, exercise.solution.replace(before, after))


def test_check_prints_what_is_right_and_how_to_see_a_solution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / FILE
    file.write_text(solutions(3))
    assert check_answers(3, file) == 0
    assert "All answers are right." in capsys.readouterr().out
    file.write_text(f"{solutions(3, 1)}\n{read_exercises(3)[1].wrong}")
    assert check_answers(3, file) == 1
    out = capsys.readouterr().out
    assert "right    3.1 Move a tensor" in out
    assert "not yet  3.2 Count the parameters\n         You counted the blocks" in out
    assert "not yet  3.3 Move everything\n         The name answer_on is missing." in out
    assert out.endswith("To see the solution: python src/tour.py 3 --solution 2\n")


def test_an_error_in_an_answer_shows_only_the_lines_of_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / FILE
    file.write_text("import torch\ndef move_to(tensor, device):\n    return torch.stack([tensor, None])\n")
    assert check_answers(3, file) == 1
    out = capsys.readouterr().out
    assert (
        "Your code stops with an error:\n         line 3: return torch.stack([tensor, None])\n         TypeError" in out
    )
    assert "exercises.py" not in out
    file.write_text("def move_to(:\n")
    assert check_answers(3, file) == 1
    assert "SyntaxError" in capsys.readouterr().out
    file.write_text("exit()\n")
    assert check_answers(3, file) == 1
    assert "remove exit()" in capsys.readouterr().out


@pytest.mark.parametrize("code", ["while True: pass", "def is_in_venv(a, b):\n    while True: pass"])
def test_an_endless_loop_ends_with_a_message_and_exit_code_1(tmp_path: Path, code: str) -> None:
    """In a process of its own, since the thread with the loop ends with its process."""
    file = tmp_path / FILE
    file.write_text(code)
    program = (
        "from pathlib import Path\nfrom pytorch_intro.tour.exercises import check_answers, exit_now\n"
        f"exit_now(check_answers(15, Path({str(file)!r}), seconds=0.2))"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Your code did not end within 0.2 seconds. Is there a loop that never ends?" in done.stdout


def test_the_file_of_tasks_is_python_with_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    for number in NUMBERS:
        names = defined_names(answer_file(number))
        assert names == [name for exercise in read_exercises(number) for name in exercise.names]
    Tour("__main__", ["5", "--exercises"])
    out = capsys.readouterr().out
    assert out == answer_file(5)
    assert "# python src/tour.py 5 --check FILE" in out
    Tour("__main__", ["5", "--solution", "2"])
    assert capsys.readouterr().out == solutions(5, 2)
    assert "5.1" not in solutions(5, 2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--check", FILE], "--check: write the number of one chapter before it"),
        (["3", "5", "--check", FILE], "--check: write the number of one chapter before it"),
        (["5", "--check"], "--check: write the file of your answers after it, as in 5 --check answers.py"),
        (["5", "--check", "nowhere.py"], "--check nowhere.py: no such file; start one with"),
        (["21", "--exercises"], "21: unknown chapter; use a number from 1 to 20"),
        (["5", "--exercises", "2"], "2: --exercises is the last argument; remove"),
        (["5", "--solution", "4"], "--solution 4: unknown exercise; use 1, 2 or 3"),
    ],
)
def test_a_usage_mistake_gives_one_line_and_exit_code_2(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        Tour("__main__", arguments)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith(f"error: {problem}")
    assert err.count("\n") == 1
