"""Let all commands of one process share what Hydra composes of the same choices from the same files.

Most tests differ in values only, which are set afterwards; composing the rest takes longer than many trainings. So
does copying configs, of which instantiating makes many.
"""

import copy
import pickle
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf.base import Metadata

from pytorch_intro.config.paths import CONFIG_DIR

load_yaml = OmegaConf.load
merge_files = ConfigLoaderImpl._compose_config_from_defaults_list
FILES: dict[Any, bytes] = {}
LISTS: dict[Any, DefaultsList] = {}
CONFIGS: dict[Any, bytes] = {}


def cache_composition() -> None:
    """Cache parsed files, lists of files, and what merging them gives; copy configs fast."""
    for name, cached in (
        ("CachingConfigRepository", CachedRepository),
        ("create_defaults_list", cached_defaults_list),
    ):
        assert hasattr(config_loader_impl, name)
        setattr(config_loader_impl, name, cached)
    ConfigLoaderImpl._compose_config_from_defaults_list = cached_config  # type: ignore[method-assign, assignment]
    OmegaConf.load = cached_load  # type: ignore[method-assign, assignment]
    Metadata.__deepcopy__ = copy_metadata  # type: ignore[attr-defined]
    AnyNode.__deepcopy__ = copy_node  # type: ignore[method-assign, assignment]
    DictConfig.__deepcopy__ = copy_config  # type: ignore[method-assign, assignment]


class CachedRepository(CachingConfigRepository):
    """The repository of one composition: its files and the sources that they are from."""

    def __init__(self, delegate: ConfigRepository) -> None:
        self.delegate = copy.copy(delegate)
        self.cache = {}
        self.versions = versions(delegate)

    def initialize_sources(self, config_search_path: Any) -> None:
        super().initialize_sources(config_search_path)
        self.versions = versions(self.delegate)

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.cache:
            key = (*self.versions, config_path)
            if key not in FILES:
                FILES[key] = pickle.dumps(self.delegate.load_config(config_path))
            self.cache[config_path] = pickle.loads(FILES[key])
        return self.cache[config_path]


def versions(repository: Any) -> tuple[Any, ...]:
    """Return what changes with any file of a repository; no test changes those of the project."""
    paths = [source.full_path() for source in repository.get_sources()]
    folders = {path.removeprefix("file://") for path in paths if path.startswith("file://")} - {str(CONFIG_DIR)}
    files = [(file, file.stat()) for folder in folders for file in Path(folder).rglob("*.yaml")]
    return (*paths, *sorted((str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in files))


def cached_defaults_list(
    repo: CachedRepository, config_name: str, overrides_list: list[Override], **flags: bool
) -> DefaultsList:
    values = Overrides(repo, overrides_list).config_overrides
    choices = [override.input_line for override in overrides_list if not any(override is value for value in values)]
    key = (*repo.versions, config_name, *choices, *flags.items())
    if key not in LISTS:
        LISTS[key] = create_defaults_list(repo, config_name, overrides_list, **flags)
    return replace(LISTS[key], config_overrides=values)


def cached_config(loader: ConfigLoaderImpl, defaults: Sequence[Any], repo: CachedRepository) -> DictConfig:
    key = (*repo.versions, repr(defaults))
    if key not in CONFIGS:
        config = merge_files(loader, defaults=[*defaults], repo=repo)
        OmegaConf.clear_cache(config)  # the time of ${now:}
        CONFIGS[key] = pickle.dumps(config)
    return pickle.loads(CONFIGS[key])


def cached_load(file: Any) -> Any:
    """Load a YAML file, or take the config of an earlier file with the same content."""
    if not isinstance(file, (str, Path)):  # an open file
        return load_yaml(file)
    content = Path(file).read_bytes()
    if content not in FILES:
        FILES[content] = pickle.dumps(load_yaml(file))
    return pickle.loads(FILES[content])


def copy_metadata(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """Copy what can change: flags and the values of resolvers."""
    copied = object.__new__(type(metadata))
    copied.__dict__.update(metadata.__dict__, flags=dict(metadata.flags or {}), resolver_cache=defaultdict(dict))
    if metadata.resolver_cache:
        copied.resolver_cache = copy.deepcopy(metadata.resolver_cache, memo)
    return copied


def copy_node(node: Any, memo: dict[int, Any]) -> Any:
    """Copy a node without its content; the parent stays the same."""
    copied = object.__new__(type(node))
    copied.__dict__.update(node.__dict__, _metadata=copy_metadata(node._metadata, memo), _flags_cache=None)
    return copied


def copy_config(config: DictConfig, memo: dict[int, Any]) -> DictConfig:
    copied = copy_node(config, memo)
    content = config.__dict__["_content"]
    if isinstance(content, dict):  # not an interpolation
        copied.__dict__["_content"] = {key: copy.deepcopy(value, memo) for key, value in content.items()}
        for value in copied.__dict__["_content"].values():
            value.__dict__["_parent"] = copied
    return copied
