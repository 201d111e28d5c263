"""OmegaConf resolvers of the configs: ${project:PATH}, ${new_run_dir:…} and ${new_sweep_dir:…}."""

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf

from pytorch_intro.config.paths import PROJECT, new_run_dir, new_sweep_dir


def register_resolvers(more: Mapping[str, Callable[..., Any]] | None = None) -> None:
    """Register the resolvers, and further ones by name; each is called once per config, as some create a folder."""
    OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)
    for name, resolver in {"new_run_dir": new_run_dir, "new_sweep_dir": new_sweep_dir, **(more or {})}.items():
        OmegaConf.register_new_resolver(name, resolver, use_cache=True, replace=True)
