"""A value from an environment variable is text, unless it is decoded; the error says how."""

import json
from pathlib import Path

import pytest
from conftest import Command
from test_resume import SMALL

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check_value


@pytest.mark.parametrize(("text", "is_number"), [("7", True), ("x", False), ("", False)])
def test_the_error_for_a_number_given_as_text_names_the_decoder(text: str, is_number: bool) -> None:
    with pytest.raises(UserError) as error:
        check_value("seed", text, int)
    assert ('seed="${oc.decode:${oc.env:NAME}}"' in str(error.value)) == is_number


def test_a_decoded_environment_variable_is_a_number(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", "7")
    answer = command(*SMALL, "seed=${oc.env:SEED}", "name=text")
    assert (answer.code, "oc.decode" in answer.err) == (2, True)
    assert command(*SMALL, "trainer.max_epochs=1", 'seed="${oc.decode:${oc.env:SEED}}"', "name=first").code == 0
    assert json.loads((tmp_path / "outputs" / "first" / "result.json").read_text())["seed"] == 7
