"""Instantiate config nodes; errors of a target become one line that names the setting."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary, extract_tb
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from pytorch_intro.common.errors import OUT_OF_MEMORY, TRACEBACK, RunError, StopRun, UserError, first_lines
from pytorch_intro.config.paths import PACKAGE, display_path

LIBRARIES = ("site-packages", "dist-packages")
STANDARD_LIBRARY = Path(os.__file__).parent
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def instantiate(node: DictConfig, key: str, **values: Any) -> Any:
    """Call the `_target_` of a node with its values and further ones, which take precedence."""
    try:
        return hydra.utils.instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        target = re.match("Error in call to target '([^']+)'", str(error))  # maybe that of a node within this one
        raise construction_error(key, node, error.__cause__ or error, target and target[1]) from error


@contextmanager
def explained_construction(key: str, node: DictConfig) -> Iterator[None]:
    """Raise what construction_error makes of any error within."""
    try:
        yield
    except Exception as error:  # any kind: it may be of the user's class
        failure = construction_error(key, node, error)
        if failure is error:
            raise
        raise failure from error


def construction_error(key: str, node: DictConfig, cause: BaseException, name: str | None = None) -> BaseException:
    """Return the error to raise if the target of a node cannot be constructed.

    That is a UserError, unless the error is one of the system, such as a full disk, or of this package's code.

    Args:
        name: Class or function that failed, if not the target of the node.
    """
    # By its name: importing Lightning takes seconds.
    is_value = isinstance(cause, (ValueError, TypeError)) or type(cause).__name__ == "MisconfigurationException"
    place = find_user_code(cause)
    if is_value and (place is None or is_raised_there(cause, place)):
        return invalid_value_error(key, node, cause)
    if isinstance(cause, ImportError):
        return UserError(f"{key}: {first_lines(cause)}; install the package, or use another value")
    is_of_system = isinstance(cause, MemoryError) or re.search(OUT_OF_MEMORY, str(cause))
    is_of_disk = isinstance(cause, OSError) and cause.errno in FULL_DISK
    if place is None or is_of_system or is_of_disk or isinstance(cause, (UserError, RunError, StopRun)):
        return cause
    line = f"{name or node._target_} raises {describe(cause)} in {place_in_code(cause)}"
    return UserError(f"{key}: {line}; fix it, or set {TRACEBACK}=1 to see the traceback")


def describe(error: BaseException) -> str:
    """Return the type and the message of an error, as Python prints them."""
    return ": ".join(filter(None, [type(error).__name__, first_lines(error).rstrip(".")]))


def place_in_code(error: BaseException) -> str | None:
    """Return file and line of the user's code that an error comes from; None if it comes from other code."""
    if isinstance(error, SyntaxError):
        return f"{display_path(error.filename)}, line {error.lineno}" if error.filename else None
    place = find_user_code(error)
    return place and f"{display_path(place.filename)}, line {place.lineno}"


def find_user_code(error: BaseException) -> FrameSummary | None:
    """Return the last place in the traceback that is in neither this package nor an installed one; None without one."""
    for place in reversed(extract_tb(error.__traceback__)):
        file = Path(place.filename)
        is_installed = file.is_relative_to(STANDARD_LIBRARY) or file.is_relative_to(PACKAGE)
        if file.is_file() and not is_installed and not {*LIBRARIES} & {*file.parts}:
            return place
    return None


def is_raised_there(error: BaseException, place: FrameSummary) -> bool:
    """Return whether the code at this place raises the error itself, so that its message is about a value."""
    return extract_tb(error.__traceback__)[-1] == place and (place.line or "").startswith("raise ")


def invalid_value_error(key: str, node: DictConfig, cause: BaseException) -> UserError:
    """Return a UserError with the target's message, the settings that it mentions and, if it has none, a remedy."""
    message = " ".join(str(cause).split())
    settings = [f"{key}.{name!s}={value}" for name, value in node.items() if _mentions(message, str(name), value)]
    remedy = "" if ";" in message else "; use another value"
    if is_called_too_early(key, node, message):
        remedy = f"; add _partial_: true to its file, or ++{key}._partial_=true"
    return UserError(f"{', '.join(settings) or key}: {message.rstrip('.')}{remedy}")


def is_called_too_early(key: str, node: DictConfig, message: str) -> bool:
    """Return whether the target lacks arguments that it gets later; a class of losses gets none later."""
    missing = re.search(r"(\.__init__)?\(\) missing \d+ required", message)
    if missing is None or node.get("_partial_"):
        return False
    return key in ("optimizer", "scheduler", "finetune") or (key == "loss" and not missing[1])


def _mentions(message: str, name: str, value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) in [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)]
    return re.search(rf"\b{re.escape(name)}\b", message) is not None
