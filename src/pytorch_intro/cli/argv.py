"""Read and adapt sys.argv before Hydra does: --help, names and paths with special characters."""

import os
import re
import sys
from pathlib import Path

from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import CONFIG_DIR

LITERAL = ("images", "run")  # paths in which even ${ has no meaning
PATHS = (*LITERAL, "resume", "outputs", "data.root", "data.labels", "data.cache_dir")
TEXTS = (*PATHS, "name")
# What Hydra's grammar reads as plain text: a word that is not another kind of value, or anything with a slash.
PLAIN = re.compile(r"(?!(?:true|false|nan|inf)$)[a-z][\w.-]*|[\w.-]*/[\w./+@%-]*", re.ASCII | re.IGNORECASE)


def print_help(config_name: str) -> None:
    """Print the help text in conf/<config_name>.yaml, with a description of each choice for $APP_CONFIG_GROUPS.

    Hydra's own --help composes the config and lists the choices without descriptions.
    """
    config = OmegaConf.load(CONFIG_DIR / f"{config_name}.yaml")
    groups = "\n".join(describe_group(group, default) for group, default in find_groups(config.defaults).items())
    print(config.hydra.help.template.replace("$APP_CONFIG_GROUPS", groups))


def find_groups(defaults: object) -> dict[str, str | None]:
    """Return the config groups of a defaults list, with the groups below them, and each one's default choice."""
    groups: dict[str, str | None] = {}
    entries = list(OmegaConf.to_container(defaults))  # type: ignore[arg-type]
    for entry in entries:
        ((key, default),) = entry.items() if isinstance(entry, dict) else [(entry, None)]
        group = key.removeprefix("optional ")
        if (CONFIG_DIR / group).is_dir():
            groups[group] = default
            groups |= {f"{group}/{path.name}": None for path in (CONFIG_DIR / group).iterdir() if path.is_dir()}
    if "model" not in groups:  # nothing is trained, and therefore nothing augmented
        groups = {group: default for group, default in groups.items() if "/" not in group}
    if "finished_run" in entries:  # the default is the choice of the run
        groups = dict.fromkeys(groups)
    if "sweep" in groups:
        groups |= {"hydra/sweeper": "grid", "hydra/launcher": None}
    return {group: default for group, default in groups.items() if (CONFIG_DIR / group).is_dir()}


def describe_group(group: str, default: str | None) -> str:
    """Return the group's name and a line for each of its choices, the default first."""
    files = sorted((CONFIG_DIR / group).glob("[!_]*.yaml"), key=lambda file: (file.stem != default, file.stem))
    lines = [f"    {file.stem:<20} {first_comment(file)}{' (default)' * (file.stem == default)}" for file in files]
    return "\n".join([f"  {group}", *lines])


def first_comment(file: Path) -> str:
    """Return the first comment line of a config file, which describes it."""
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package"))
    return next((line[2:] for line in lines if line.startswith("# ")), "")


def quote_texts() -> None:
    """Quote names and paths that Hydra's grammar would read as something else, so that any character is allowed."""
    is_sweep = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(sys.argv))
    for number, argument in enumerate(sys.argv):
        key, equals, text = argument.partition("=")
        setting = key.lstrip("+")
        if setting == "outputs" and text in ("", "null"):
            raise UserError(f"{argument}: no folder; use outputs=DIR")
        if equals and setting in TEXTS and not (is_sweep and re.search(r"[\[{('\"]", text)):  # such as choice(a,b)
            values = text.split(",") if is_sweep else [text]
            sys.argv[number] = f"{key}={','.join(literal(setting, value) for value in values)}"


def literal(setting: str, text: str) -> str:
    """Return the value of a setting in Hydra's grammar, with ~ expanded in paths."""
    if setting in PATHS:
        text = os.path.expanduser(text)  # noqa: PTH111, which would drop a final slash
    is_written_for_hydra = text[:1] in ("'", '"') or ("${" in text and setting not in LITERAL)
    return text if is_written_for_hydra or PLAIN.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """Return any text as a value in Hydra's grammar."""
    # A backslash is doubled only before a quotation mark, the closing one included.
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (end[2] and "\\'"), text).replace("${", "\\${")
    return f"'{escaped}'"
