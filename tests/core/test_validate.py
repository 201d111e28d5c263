"""Config values are validated by type hints, strictly."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from explained import AT_LEAST_0, BOOLEAN, INTEGER, NUMBER
from omegaconf import OmegaConf
from pydantic import Field

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check_config, check_value

VALID: list[tuple[object, Any]] = [
    (1, int), (1, float), (5e-4, float), (None, int | None), ("cpu", str), (True, bool), ([1, 2], Sequence[int]),
    ([0.9, 0.99], tuple[float, float]), ("16", Literal["16", "32"]), (float("inf"), float),
]  # fmt: skip
# The value, the hint, the value as shown in the message, and what the message expects instead.
INVALID: list[tuple[object, Any, str, str]] = [
    ("1.5", int, "1.5", INTEGER), (True, int, "true", INTEGER), (1.0, int, "1.0", INTEGER), ("x", float, "x", NUMBER),
    (None, int, "null", INTEGER), (3, str, "3", "string"), (1, bool, "1", BOOLEAN),
    ([1, "a"], Sequence[int], '[1, "a"]', INTEGER), ([0.9], tuple[float, float], "[0.9]", "field required|2 values"),
    ("8", Literal["16", "32"], "8", "'16' or '32'"), (-1, Annotated[int, Field(ge=0)], "-1", AT_LEAST_0),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), VALID)
def test_config_values_that_match_their_type_hint_are_valid(value: object, hint: Any) -> None:
    check_value("key", value, hint)


@pytest.mark.parametrize(("value", "hint", "shown", "expected"), INVALID)
def test_a_config_value_of_the_wrong_type_is_an_error_that_names_its_key(
    value: object, hint: Any, shown: str, expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as error:
        check_value("group.key", value, hint)
    assert str(error.value).startswith(f"group.key={shown}: ")


def test_invalid_config_values_are_found_in_nested_lists_of_nodes() -> None:
    flip = {"_target_": "pytorch_intro.data.augment.basic.RandomHorizontalFlip"}
    relu = {"_target_": "torch.nn.ReLU", "inplace": "no"}
    config = OmegaConf.create({"steps": [flip, {"inner": relu}]})
    with pytest.raises(UserError, match=rf"^steps\.1\.inner\.inplace=no: .*({BOOLEAN})"):
        check_config(config, "", {})


class Base:
    def __init__(self, width: int, **kwargs: Any) -> None: ...


class Derived(Base):
    def __init__(self, *, depth: int, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("values", [{"width": "wide"}, {"depth": "deep"}], ids=str)
def test_arguments_that_a_class_passes_to_its_base_class_are_validated(values: dict[str, str]) -> None:
    """By keyword, as those of a subclass of Classifier."""
    check_config(OmegaConf.create({"_target_": f"{__name__}.Derived", "width": 1, "depth": 2}), "classifier")
    ((name, value),) = values.items()
    with pytest.raises(UserError, match=f"^classifier.{name}={value}: invalid value; input should be a valid integer"):
        check_config(OmegaConf.create({"_target_": f"{__name__}.Derived", **values}), "classifier")
