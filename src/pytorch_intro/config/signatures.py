"""Parameters of functions and classes, including those that a class passes to its bases."""

import inspect
from typing import Any


def has_kwargs(signature: inspect.Signature) -> bool:
    """Return whether any further argument is accepted by keyword."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def get_parameters(function: Any) -> set[str]:
    """Return the names of all parameters, including those passed to a base class as **kwargs."""
    names: set[str] = set()
    for layer in inspect.getmro(function) if inspect.isclass(function) else [function]:
        signature = inspect.signature(layer.__init__ if inspect.isclass(layer) else layer)
        names |= set(signature.parameters)
        if not has_kwargs(signature):
            break
    return names - {"self"}
