"""Instantiate config nodes; errors of a target become one line that names the setting."""

import re
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError, first_lines


def instantiate(node: DictConfig, key: str, **values: Any) -> Any:
    """Call the `_target_` of a node with its values and further ones, which take precedence."""
    try:
        return hydra.utils.instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        cause = error.__cause__ or error
        # The last by its name: importing Lightning takes seconds.
        if isinstance(cause, (ValueError, TypeError)) or type(cause).__name__ == "MisconfigurationException":
            raise invalid_value_error(key, node, cause) from error
        if isinstance(cause, ImportError):
            raise UserError(f"{key}: {first_lines(cause)}; install the package, or use another value") from error
        raise cause from error


def invalid_value_error(key: str, node: DictConfig, cause: BaseException) -> UserError:
    """Return a UserError with the target's message, the settings that it mentions and, if it has none, a remedy."""
    message = " ".join(str(cause).split())
    settings = [f"{key}.{name!s}={value}" for name, value in node.items() if _mentions(message, str(name), value)]
    remedy = "" if ";" in message else "; use another value"
    return UserError(f"{', '.join(settings) or key}: {message.rstrip('.')}{remedy}")


def _mentions(message: str, name: str, value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) in [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)]
    return re.search(rf"\b{re.escape(name)}\b", message) is not None
