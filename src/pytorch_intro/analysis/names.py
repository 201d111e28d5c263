"""Names of classes for tables, plots and files."""

import itertools
from collections.abc import Iterable

from pytorch_intro.common.text import to_displayable


def to_display_names(names: Iterable[str]) -> list[str]:
    """Return the names displayable and unique: a number is appended to those that occurred before."""
    unique: dict[str, None] = {}
    for name in map(to_displayable, names):
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        unique[next(text for text in itertools.chain([name], numbered) if text not in unique)] = None
    return list(unique)
