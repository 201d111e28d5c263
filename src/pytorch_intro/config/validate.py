"""Validate a config: compare its values with the signatures that receive them."""

import functools
import inspect
import json
import typing
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, Literal, cast

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.environment import decode

AtLeastMinus1 = Annotated[int, Field(ge=-1)]
Duration = Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | dict[str, float]

# Settings of every model, besides the arguments of its class; see training/weights.py.
MODEL_SETTINGS: dict[str, Any] = {"model.weights": str | None, "model.new_head": bool | None}

# Settings of every loss, likewise; see training/losses.py.
LOSS_SETTINGS: dict[str, Any] = {
    "loss.class_weights": Literal["balanced", "effective_number"]
    | dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    | None,
    "loss.beta": Annotated[float, Field(ge=0, lt=1)],
}

# Settings that were renamed.
RENAMED = {"classifier.label_smoothing": "loss.label_smoothing"}

# Settings that are not arguments of a target, and ranges that the signature of Lightning's Trainer does not state.
SETTINGS: dict[str, Any] = (
    {
        "name": str | int | None,
        "seed": Annotated[int, Field(ge=0, lt=2**32)],
        "compile": bool | Literal["reduce-overhead", "max-autotune"],
        "calibrate": bool | None,
        "find": Literal["lr"] | None,
        "overwrite": bool,
        "resume": str | None,
        "allow": list[str],
        "outputs": str,
        "run_dir": str,
        "trainer.threads": PositiveInt | Literal["auto"],
        "trainer.num_nodes": PositiveInt,
        "trainer.max_epochs": AtLeastMinus1 | None,
        "trainer.max_steps": AtLeastMinus1,
        "trainer.max_time": Duration | None,
        "trainer.check_val_every_n_epoch": PositiveInt | None,
        "trainer.val_check_interval": PositiveInt | Annotated[float, Field(ge=0, le=1)] | Duration | None,
        "trainer.accumulate_grad_batches": PositiveInt,
        "trainer.gradient_clip_val": NonNegativeFloat | None,
        "trainer.log_every_n_steps": NonNegativeInt | None,
    }
    | MODEL_SETTINGS
    | LOSS_SETTINGS
)

# Pydantic's words for types in JSON, and for the pattern of max_time, in plain words.
REWORDED = {"a valid array": "a list", "an object": "a mapping", " after validation": ""}
REWORDED |= {r"match pattern '^\d+:\d\d:\d\d:\d\d$'": "be DD:HH:MM:SS"}


def check_config(config: DictConfig | ListConfig, key: str = "", settings: dict[str, Any] = SETTINGS) -> None:
    """Validate every value of a config, before any work is done; raise a UserError for a wrong key, type or range.

    Text, as from the environment, is converted to the wanted type in place.

    Args:
        config: Config or a node of it; values of a `_target_` are validated by its signature. The node `sweep` is
            skipped: sweeps/ validates it.
        key: Dotted key of the node.
        settings: Type hints by dotted key, of values that are not arguments of a target.
    """
    is_call = isinstance(config, DictConfig) and "_target_" in config
    if is_call:
        check_call(cast(DictConfig, config), key, settings)
    for name, value in config.items() if isinstance(config, DictConfig) else enumerate(config):
        path = f"{key}.{name!s}".lstrip(".")
        if path == "sweep":
            continue
        if path in settings:
            check_item(config, name, settings[path], path)
        elif isinstance(value, DictConfig) or (isinstance(value, ListConfig) and (is_call or _has_target(value))):
            if not is_call or _has_target(value):  # otherwise check_call has compared it as a whole
                check_config(value, path, settings)
        elif not is_call and value is not None and isinstance(config, DictConfig):
            raise UserError(unknown_key(path, settings))


def unknown_key(key: str, known_keys: Iterable[str]) -> str:
    """Return the error line for an unknown key, with a suggestion: the same name elsewhere, or a similar key."""
    known = list(known_keys)
    group, _, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == group]
    names = {other.rpartition(".")[2]: other for other in reversed(known)}
    nearest = (
        RENAMED.get(key)
        or names.get(name)
        or next(iter(get_close_matches(key, siblings, n=1, cutoff=0.5)), None)
        or next((names[match] for match in get_close_matches(name, names, n=1, cutoff=0.7)), None)
    )
    return f"{key}: unknown setting; {f'did you mean {nearest}?' if nearest else 'see --cfg job'}"


def check_call(node: DictConfig, key: str, settings: Iterable[str] = ()) -> None:
    """Validate the values of a node, except for `settings`, by the signature of its `_target_`."""
    try:
        target = hydra.utils.get_object(node["_target_"])
        signature = inspect.signature(target)
    except Exception as error:
        raise UserError(
            f"{key}._target_={node['_target_']}: cannot be imported ({error}); check the spelling"
        ) from error
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:  # annotations that only type checkers import
        hints = {}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    hints |= {"_partial_": bool, "_recursive_": bool}
    for name in node:
        if f"{key}.{name!s}" in settings:
            continue
        if name == "mode" and node[name] is None and "monitor" in node:  # follows from the metric that is monitored
            continue
        is_argument = str(name) not in ("_target_", "_convert_", "_args_", "_partial_", "_recursive_")
        if is_argument and name not in signature.parameters and not takes_any:
            raise UserError(unknown_key(f"{key}.{name!s}", [f"{key}.{known}" for known in signature.parameters]))
        if name in hints:
            check_item(node, name, hints[str(name)], f"{key}.{name!s}")


def check_item(node: DictConfig | ListConfig, name: Any, hint: Any, key: str) -> None:
    """Validate a value of a node and convert it in place; see check_value. A reference stays as it is."""
    value = node[name]
    checked = check_value(key, value, hint)
    if checked is not value and not OmegaConf.is_interpolation(node, name):
        node[name] = checked


def check_value(key: str, value: Any, hint: Any) -> Any:
    """Validate a value or node by a type hint, in pydantic's strict mode: true is not an integer.

    Return the value; a text whose value on the command line would be valid, such as "5" for an integer, is converted.
    """
    original = value
    if isinstance(value, (DictConfig, ListConfig)):
        if _has_target(value):
            return original
        value = OmegaConf.to_container(value, resolve=True)
    adapter = type_adapter(hint)
    if adapter is None:
        return original
    try:
        _validate(adapter, value)
        return original
    except ValidationError as error:
        with suppress(ValidationError):
            decoded = decode(value)
            _validate(adapter, decoded)
            return decoded
        shown = value if isinstance(value, str) else json.dumps(value)
        raise UserError(f"{key}={shown}: invalid value; {_expectation(error)}") from None


def _validate(adapter: TypeAdapter[Any], value: Any) -> None:
    encoded = json.dumps(value, ensure_ascii=False).encode(errors="replace")  # paths need not be valid UTF-8
    adapter.validate_json(encoded, strict=True)


@functools.cache
def type_adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return pydantic's validator for a type hint, None if it has none; a sweep needs each of them for every job."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type with a config of its own, such as a dataclass
        return TypeAdapter(hint)


def _expectation(error: ValidationError) -> str:
    """Return what is expected: the messages of pydantic, one for each type of a union."""
    details = [detail for detail in error.errors() if detail["type"] not in ("needs_python_object", "none_required")]
    expected = " or ".join(dict.fromkeys(detail["msg"] for detail in details)).lower()
    for message, words in REWORDED.items():
        expected = expected.replace(message, words)
    return expected or "use another value"


def _has_target(value: DictConfig | ListConfig) -> bool:
    nodes = value.values() if isinstance(value, DictConfig) else value
    return "_target_" in value or any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)
