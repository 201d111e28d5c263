"""From config nodes to objects: each `_target_` is called with its node's values, checked against its signature."""

import inspect
import json
import re
import typing
from typing import Any

import hydra
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from pytorch_intro.errors import UserError, unknown_key


def build(node: DictConfig, key: str, **values: Any) -> Any:
    """Call the node's `_target_` with its values and those given here, which take precedence.

    Args:
        key: The node's place in the config, for the messages.

    Raises:
        UserError: if the target says that a value is wrong.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (ValueError, TypeError)) or type(cause).__name__ == "MisconfigurationException":
            raise rejected(key, node, cause) from error
        raise cause or error from error


def build_optimization(optimizer: DictConfig, scheduler: DictConfig) -> tuple[Any, Any]:
    """The functions that make the optimizer and its schedule, tried on a stand-in: they refuse wrong values only then.

    Raises:
        UserError: if one of them refuses a value.
    """
    make_optimizer, make_scheduler = build(optimizer, "optimizer"), build(scheduler, "scheduler")
    key, node = "optimizer", optimizer
    try:
        stand_in = make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        key, node = "scheduler", scheduler
        make_scheduler(stand_in, 10)
    except (ValueError, TypeError) as error:
        raise rejected(key, node, error) from error
    return make_optimizer, make_scheduler


def rejected(key: str, node: DictConfig, cause: BaseException) -> UserError:
    """The user's mistake, in the words of the function that found it, with the setting that its words are about."""
    message = " ".join(str(cause).split())
    settings = [f"{key}.{name}={value}" for name, value in node.items() if _mentions(message, str(name), value)]
    return UserError(f"{', '.join(settings) or key}: {message}")


def _mentions(message: str, name: str, value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) in [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)]
    return re.search(rf"\b{re.escape(name)}\b", message) is not None


def check(config: DictConfig | ListConfig, key: str = "") -> None:
    """Compare every value in a config with the signature that it is meant for, before any work is done.

    Raises:
        UserError: for an unknown name, or a value of the wrong type or range; it names the dotted key.
    """
    if isinstance(config, DictConfig) and "_target_" in config:
        check_call(config, key)
    for name in config if isinstance(config, DictConfig) else range(len(config)):
        value = config[name]
        if isinstance(value, (DictConfig, ListConfig)):
            check(value, f"{key}.{name}".lstrip("."))


def check_call(node: DictConfig, key: str) -> None:
    """Compare a node's values with the signature of its `_target_`."""
    try:
        target = hydra.utils.get_object(node["_target_"])
        signature = inspect.signature(target)
    except Exception as error:
        raise UserError(f"{key}._target_={node['_target_']}: it cannot be imported ({error})") from error
    hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target, include_extras=True)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for name, value in node.items():
        if str(name) in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
            continue
        if name not in signature.parameters and not takes_any:
            raise UserError(unknown_key(f"{key}.{name}", [f"{key}.{known}" for known in signature.parameters]))
        if name in hints:
            check_value(f"{key}.{name}", value, hints[str(name)])


def check_value(key: str, value: object, hint: Any) -> None:
    """Compare one value with a type hint, in pydantic's strict sense: "5" and true are no integers.

    Raises:
        UserError: if it does not fit.
    """
    if isinstance(value, (DictConfig, ListConfig)):
        if _has_target(value):
            return
        value = OmegaConf.to_container(value, resolve=True)
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return
    except PydanticUserError:
        adapter = TypeAdapter(hint)
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise UserError(f"{key}={_as_typed(value)}: {_expectation(error)}") from None


def _expectation(error: ValidationError) -> str:
    """What would have been right: pydantic's sentences, one for each kind of value that is allowed."""
    sentences = [detail["msg"] for detail in error.errors() if detail["type"] not in ("needs_python_object", "none_required")]
    return " or ".join(dict.fromkeys(sentences)).lower() or "this is not a value that it takes"


def _as_typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _has_target(value: DictConfig | ListConfig) -> bool:
    nodes = value.values() if isinstance(value, DictConfig) else value
    return "_target_" in value or any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)
