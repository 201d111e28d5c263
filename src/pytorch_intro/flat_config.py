"""Configs as flat dicts, for comparing them and for finding keys."""

from typing import Any

from omegaconf import DictConfig, OmegaConf


def flatten(config: DictConfig) -> dict[str, Any]:
    """{"data.batch_size": 256, …}: dotted keys to plain values; interpolations stay as they are written."""
    return _flatten(OmegaConf.to_container(config, resolve=False), "")


def _flatten(node: Any, key: str) -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {key: node}
    flat: dict[str, Any] = {}
    for name, value in node.items():
        flat |= _flatten(value, f"{key}.{name}" if key else str(name))
    return flat
