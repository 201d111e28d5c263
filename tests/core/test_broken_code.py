"""A class of the user's own that fails when it is constructed: one line with its name, the error and its place."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from explained import assert_explained
from torch import nn
from torch.optim import SGD, Optimizer

FEW = ["trainer=cpu", "trainer.fast_dev_run=true", "logger=none"]


class Network(nn.Module):
    """A network of the user's own, which fails in one of many ways."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, way: str) -> None:
        super().__init__()
        numbers: Any = {"classes": num_classes}
        if way == "KeyError":
            numbers["width"]  # here KeyError
        elif way == "ZeroDivisionError":
            self.width = 1 / (num_classes - num_classes)  # here ZeroDivisionError
        elif way == "AssertionError":
            assert num_classes == 3  # here AssertionError
        elif way == "AttributeError":
            self.layer = numbers.missing  # here AttributeError
        elif way == "ValueError":
            self.height, self.width = image_shape  # type: ignore[misc]  # here ValueError
        elif way == "TypeError":
            self.layer = nn.Linear(None, num_classes)  # type: ignore[arg-type]  # here TypeError
        elif way == "FileNotFoundError":
            self.names = Path("no-such-file.txt").read_text()  # here FileNotFoundError
        elif way == "RuntimeError":
            self.weight = torch.zeros(2) @ torch.zeros(3)  # here RuntimeError
        raise ValueError("way: must be one of those above")


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = [1.0][1]  # here Loss


class Halves(SGD):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        assert len(list(params)) % 2 == 0  # here Halves


class Pairs(SGD):
    """Fails only with the parameters of the network, not with the single one that its settings are checked with."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        groups = list(params)
        assert len(groups) == 1, "one parameter"  # here Pairs
        super().__init__(groups, lr)


def schedule(optimizer: Optimizer, total_steps: float) -> Any:
    rates: dict[float, float] = {}
    return rates[total_steps]  # here schedule


class Images(torch.utils.data.Dataset[Any]):
    def __init__(self) -> None:
        files: dict[str, str] = {}
        self.files = files["train"]  # here Images


class Augmentation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        assert self.training is None  # here Augmentation


class Reporter:
    def __init__(self) -> None:
        self.first = [1, 2][2]  # here Reporter


PLAIN = ["~optimizer.momentum", "~optimizer.nesterov", "~optimizer.weight_decay"]
WAYS = [
    "KeyError", "ZeroDivisionError", "AssertionError", "AttributeError", "ValueError", "TypeError",
    "FileNotFoundError", "RuntimeError",
]  # fmt: skip
OTHERS = {
    "Loss": ("IndexError", ["loss._target_=test_broken_code.Loss", "~loss.label_smoothing"]),
    "Halves": (
        "AssertionError",
        ["optimizer=sgd", "optimizer._target_=test_broken_code.Halves", *PLAIN],
    ),
    "Pairs": (
        "AssertionError: one parameter",
        ["optimizer=sgd", "optimizer._target_=test_broken_code.Pairs", *PLAIN],
    ),
    "schedule": ("KeyError", ["scheduler=constant", "scheduler._target_=test_broken_code.schedule"]),
    "Images": ("KeyError: 'train'", ["data=custom", "data.dataset._target_=test_broken_code.Images"]),
    "Augmentation": ("AssertionError", ["+data.augment.mine._target_=test_broken_code.Augmentation"]),
    "Reporter": ("IndexError", ["+callbacks.mine._target_=test_broken_code.Reporter"]),
}  # fmt: skip


def place(marker: str) -> str:
    """Return the place of the line with a marker as an error names it."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if line.endswith(f"# here {marker}")]
    return f"test_broken_code.py, line {number}"


def network(way: str) -> list[str]:
    settings = ("hidden_features",)
    return [
        "data=sample", "model=mlp", "model._target_=test_broken_code.Network", f"+model.way={way}",
        *(f"~model.{name}" for name in settings), *FEW,
    ]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_network_gives_one_line_with_the_error_and_its_place(command: Command, way: str) -> None:
    arguments = network(way)
    answer = command(*arguments)
    assert answer.code == 2, answer.err
    assert_explained(
        answer.err, arguments, ["test_broken_code.Network", place(way)], f"raises {way}\\b", "fix it, or set HYDRA_FULL"
    )


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_broken_class_gives_such_a_line(command: Command, name: str) -> None:
    kind, given = OTHERS[name]
    arguments = [*([] if name == "Images" else ["data=sample"]), *given, *FEW]
    answer = command(*arguments)
    assert answer.code == 2, answer.err
    remedy = "check its arguments" if name == "Images" else "fix it, or set HYDRA_FULL"
    assert_explained(answer.err, arguments, [name, place(name)], re.escape(kind), remedy)


def test_a_message_about_a_value_stays_as_it_is(command: Command) -> None:
    """The user's own check, which raises a ValueError on purpose."""
    answer = command(*network("none"))
    assert answer.code == 2
    assert answer.err == "error: model.way=none: way: must be one of those above; use another value\n"


def test_the_whole_traceback_is_shown_if_wanted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer = command(*network("KeyError"))
    assert answer.code == 2
    assert 'numbers["width"]' in answer.err
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.splitlines()[-1].startswith("error: model: test_broken_code.Network raises KeyError: 'width' in ")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("numbers = {}\nnumbers['width']", "KeyError: 'width' in .*mine.py, line 2"),
        ("x = 1\n\ndef f(:", "SyntaxError: invalid syntax .* in .*mine.py, line 3"),
        ("import no_such_module", "No module named 'no_such_module' in .*mine.py, line 1"),
    ],
)
def test_a_module_that_cannot_be_imported_gives_its_error_and_place(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["data=sample", "model=mlp", "model._target_=mine.Network", *FEW]
    answer = command(*arguments)
    assert answer.code == 2
    assert_explained(answer.err, arguments, ["model._target_=mine.Network"], problem, "; fix it")
