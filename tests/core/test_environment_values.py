"""A value from an environment variable is text, and is converted to the type of its setting."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import Command
from omegaconf import OmegaConf
from test_resume import SMALL

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.environment import resolve_environment
from pytorch_intro.config.validate import check_config, check_value

# Text, type hint, and the value that the setting gets.
CONVERTED: list[tuple[Any, Any, Any]] = [
    ("7", int, 7), ("7", float, 7), ("1e-3", float, 0.001), (".5", float, 0.5), ("true", bool, True),
    ("False", bool, False), ("null", int | None, None), ("2", int | Literal["auto"], 2),
    ("[0.5,1]", list[float], [0.5, 1]),
    (["0.5", "1"], Sequence[float], [0.5, 1]), ({"beta": "0.9"}, dict[str, float], {"beta": 0.9}),
    ("auto", int | Literal["auto"], "auto"), ("7", str, "7"), ("1.10", str | None, "1.10"), ("007", str, "007"),
    ("1_000", str | int, "1_000"), ("null", str, "null"), ("${seed}", str, "${seed}"),
]  # fmt: skip
REFUSED: list[tuple[str, Any]] = [("x", int), ("", int), ("1.5", int), ("007", int), ("1", bool), ("${seed}", int)]


@pytest.mark.parametrize(("text", "hint", "value"), CONVERTED)
def test_text_is_converted_to_the_wanted_type_unless_text_is_valid(text: Any, hint: Any, value: Any) -> None:
    converted = check_value("key", text, hint)
    assert converted == value
    assert type(converted) is type(value) or hint is float


@pytest.mark.parametrize(("text", "hint"), REFUSED)
def test_text_that_does_not_read_as_the_wanted_type_is_refused(text: str, hint: Any) -> None:
    with pytest.raises(UserError, match=r"^key="):
        check_value("key", text, hint)


def test_validation_converts_text_in_place_and_leaves_references() -> None:
    call = {"_target_": "torch.nn.Dropout", "p": "${p}", "inplace": "true"}
    config = OmegaConf.create({"drop": call, "p": "0.5"})
    check_config(config, settings={"p": float})
    assert OmegaConf.to_container(config) == {"drop": call | {"inplace": True}, "p": 0.5}
    assert config.drop.p == 0.5
    network = OmegaConf.create({"model": {"_target_": "pytorch_intro.models.cnn.CNN", "new_head": "false"}})
    check_config(network)
    assert network.model.new_head is False  # a setting of all models, which the class does not take


def test_variables_are_replaced_by_their_text_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "a ${b} \\${c}")
    config = OmegaConf.create({"a": {"b": ["${oc.env:X}", "${d}"]}, "d": "1${oc.env:Y,2}", "e": "${oc.decode:${d}}"})
    resolve_environment(config)
    assert OmegaConf.to_container(config, resolve=True) == {"a": {"b": ["a ${b} \\${c}", "12"]}, "d": "12", "e": 12}
    monkeypatch.delenv("X")
    with pytest.raises(UserError, match=r"^a\.b\[0\]=\$\{oc\.env:X\}: .*; set the variable$"):
        resolve_environment(OmegaConf.create({"a": {"b": ["${oc.env:X}"]}}))


FROM_ENVIRONMENT = [
    *("seed=${oc.env:SEED}", "optimizer.lr=${oc.env:LR}", "trainer.max_epochs=${oc.env:EPOCHS}"),
    *("classifier.compile=${oc.env:COMPILE}", "trainer.precision=${oc.env:BITS}", "trainer.devices=${oc.env:DEVICES}"),
]


def test_a_run_records_the_values_of_variables_and_is_only_repeated_with_the_same(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "outputs" / "first"
    variables = {"SEED": "7", "LR": "1e-3", "EPOCHS": "1", "COMPILE": "false", "BITS": "32", "DEVICES": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    answer = command(*SMALL, *FROM_ENVIRONMENT, "name=first")
    assert answer.code == 0, answer.err
    recorded = OmegaConf.load(run / "config.yaml")
    values = recorded.seed, recorded.optimizer.lr, recorded.trainer.max_epochs, recorded.classifier.compile
    assert values == (7, 0.001, 1, False)
    assert json.loads((run / "result.json").read_text())["seed"] == 7
    again = command(*SMALL, *FROM_ENVIRONMENT, "name=first")
    assert (again.code, "stored result" in again.out) == (0, True), again.err
    monkeypatch.setenv("SEED", "8")
    refused = command(*SMALL, *FROM_ENVIRONMENT, "name=first")
    assert (refused.code, "(seed: 7 → 8)" in refused.err) == (2, True), refused.err
    monkeypatch.setenv("EPOCHS", "2")
    extended = command(f"resume={run}", "trainer.max_epochs=${oc.env:EPOCHS}")
    assert extended.code == 0, extended.err
    assert "trainer.max_epochs: 2\n" in (run / "config_extended.yaml").read_text()
    monkeypatch.delenv("SEED")
    missing = command(*SMALL, *FROM_ENVIRONMENT, "name=other")
    assert missing.err.startswith("error: seed=${oc.env:SEED}: "), missing.err
    assert "Environment variable 'SEED' not found\"; set the variable" in missing.err
