"""Make any text displayable: names of classes and files can contain anything."""

import itertools
import re
from collections.abc import Iterable

REPLACEMENT = "\ufffd"
NOT_DISPLAYABLE = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and bytes that are not UTF-8


def to_displayable(text: str, max_length: int | None = None) -> str:
    """Return a text on one line, in characters that UTF-8 can encode; longer ones without their middle."""
    line = NOT_DISPLAYABLE.sub(REPLACEMENT, " ".join(text.split()))
    if max_length is None or len(line) <= max_length:
        return line
    kept = max_length - 1
    return f"{line[: kept - kept // 2]}…{line[len(line) - kept // 2 :]}"


def to_display_names(names: Iterable[str]) -> list[str]:
    """Return the names displayable and unique: a number is appended to those that occurred before."""
    unique: dict[str, None] = {}
    for name in map(to_displayable, names):
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        unique[next(text for text in itertools.chain([name], numbered) if text not in unique)] = None
    return list(unique)
