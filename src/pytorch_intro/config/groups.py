"""The files of the config groups: those in the project's conf/ before the built-in ones, which they override."""

from pathlib import Path

from pytorch_intro.config.paths import CONFIG_DIR, IS_CLONE, PROJECT

CONFIG_DIRS = [CONFIG_DIR] if IS_CLONE or not (PROJECT / "conf").is_dir() else [PROJECT / "conf", CONFIG_DIR]


def is_group(name: str) -> bool:
    """Return whether a folder of this name, such as data/augment, is in a conf/."""
    return any((folder / name).is_dir() for folder in CONFIG_DIRS)


def config_file(name: str) -> Path:
    """Return the file conf/<name>.yaml that is used."""
    files = [folder / f"{name}.yaml" for folder in CONFIG_DIRS]
    return next((file for file in files if file.is_file()), files[-1])


def subgroups(group: str) -> list[str]:
    """Return the groups in a group, such as data/augment in data; in "", those of the top level."""
    paths = [(root, path) for root in CONFIG_DIRS for path in (root / group).glob("*") if path.is_dir()]
    return sorted({path.relative_to(root).as_posix() for root, path in paths})


def choices(group: str) -> list[Path]:
    """Return one file for each choice of a group, by name."""
    files = {file.stem: file for root in reversed(CONFIG_DIRS) for file in (root / group).glob("[!_]*.yaml")}
    return [files[name] for name in sorted(files)]


def is_own(file: Path) -> bool:
    """Return whether a file is in the project's conf/ and not a built-in one."""
    return not file.is_relative_to(CONFIG_DIRS[-1])
