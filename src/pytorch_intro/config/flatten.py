"""Configs as flat dicts, to compare them and to find keys."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.config.environment import decode


def flatten(node: Any) -> dict[str, Any]:
    """Return {"data.batch_size": 256, …}: plain values by dotted key; interpolations are not resolved."""
    return dict(iter_values(OmegaConf.to_container(node) if isinstance(node, DictConfig) else node))


def iter_values(node: Any, key: str = "", types: Any = dict) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and value of each leaf of nested mappings, or with types=(dict, list) also of lists."""
    if not node or not isinstance(node, types):
        yield key, node
        return
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from iter_values(value, f"{key}.{name}".lstrip("."), types)


def diff(before: dict[str, Any], now: dict[str, Any], ignored: Sequence[str]) -> list[str]:
    """Return "key: before → now" for each value of two flat configs that differs, except for `ignored` keys.

    A text of now may equal a number of before: values from the environment are converted when they are validated.
    """
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and not is_under(key, ignored)]
    changed = [key for key in keys if key not in now or before.get(key, ...) != decode(now[key])]
    return [f"{key}: {before.get(key, 'absent')} → {now.get(key, 'absent')}" for key in changed]


def is_under(key: str, parents: Sequence[str]) -> bool:
    """Return whether a dotted key is one of these settings or inside one of these groups (`+group` is accepted)."""
    return any(f"{key}.".startswith(f"{parent.lstrip('+~').replace('/', '.')}.") for parent in parents)
