"""Any argument on the command line gives a run or a one-line error, never a traceback."""

from pathlib import Path

import pytest
from conftest import Command, compose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytorch_intro.config.flatten import flatten

# Valid values of these start processes or take all memory.
COSTLY = {"trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.num_workers", "compile"}
KEYS = sorted(key for key in flatten(compose()) if key not in COSTLY and not key.startswith("data.dataset."))
VALUES = ["", "0", "-1", "1", "2", "1.5", "-0.0", "1e400", "nan", "inf", "null", "true", "off", "'", '"', "''", "a b"]
VALUES += ["[]", "[1,2]", "[a]", "{}", "{a: 1}", "${seed}", "${nope}", "${", "${oc.env:HOME}", "???", "a,b", "range(3)"]
VALUES += ["../..", "/dev/null", "é", "\\", "=", "a=b", "x" * 3000, "[" * 100, "_target_", "00:00:00:01"]
WORDS = st.text(st.characters(exclude_categories=["Cs", "Nd"], exclude_characters="\0"), max_size=20)
VALUE = st.sampled_from(VALUES) | WORDS
OVERRIDE = st.builds("{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), st.sampled_from(KEYS), VALUE)
ARGUMENT = OVERRIDE | st.builds("{}={}".format, WORDS, VALUE) | WORDS.filter(lambda word: not word.startswith("-"))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=ARGUMENT)
def test_any_argument_gives_a_run_or_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command("data=sample", "trainer=cpu", "trainer.fast_dev_run=true", argument)
    assert answer.code in (0, 2), answer.err
    lines = 1 if answer.code else 0
    assert (answer.err.startswith("error: "), answer.err.count("\n")) == (bool(answer.code), lines), answer.err
    assert ("test/accuracy" in answer.out) == (answer.code == 0), answer.out
    assert len(answer.err) < 1100
