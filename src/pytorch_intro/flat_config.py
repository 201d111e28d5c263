"""Configs as flat dicts, for comparing them and for finding keys."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf


def flatten(config: DictConfig) -> dict[str, Any]:
    """{"data.batch_size": 256, …}: dotted keys to plain values; interpolations stay as they are written."""
    return _flatten(OmegaConf.to_container(config, resolve=False), "")


def differences(before: dict[str, Any], now: dict[str, Any], besides: Sequence[str]) -> list[str]:
    """Dotted keys whose values differ, with both values.

    Args:
        before, now: Flat configs.
        besides: Settings and groups that are not compared.
    """
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and not belongs_to(key, besides)]
    return [f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here" for key in changed]


def belongs_to(key: str, parts: Sequence[str]) -> bool:
    """Whether a dotted key is one of these settings or in one of these groups, which overrides may write +group."""
    return any(f"{key}.".startswith(f"{part.lstrip('+~').replace('/', '.')}.") for part in parts)


def _flatten(node: Any, key: str) -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {key: node}
    flat: dict[str, Any] = {}
    for name, value in node.items():
        flat |= _flatten(value, f"{key}.{name}" if key else str(name))
    return flat
