"""Instantiate config nodes; errors of a target become one line that names the setting."""

import re
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError


def instantiate(node: DictConfig, key: str, **values: Any) -> Any:
    """Call the `_target_` of a node with its values.

    Args:
        node: Config node with a `_target_`.
        key: Dotted key of the node, for error messages.
        values: Further arguments, which take precedence over those in the node.

    Raises:
        UserError: if the target rejects a value.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        if _is_about_arguments(cause):
            raise invalid_value_error(key, node, cause) from error
        raise cause from error


def invalid_value_error(key: str, node: DictConfig, cause: BaseException) -> UserError:
    """Return a UserError with the target's message and the settings that the message mentions."""
    message = " ".join(str(cause).split())
    settings = [f"{key}.{name!s}={value}" for name, value in node.items() if _mentions(message, str(name), value)]
    return UserError(f"{', '.join(settings) or key}: {message}")


def _is_about_arguments(cause: BaseException) -> bool:
    # Imported here because it imports torch; after an error in a target, that is loaded already or does not matter.
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    return isinstance(cause, (ValueError, TypeError, MisconfigurationException))


def _mentions(message: str, name: str, value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) in [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)]
    return re.search(rf"\b{re.escape(name)}\b", message) is not None
