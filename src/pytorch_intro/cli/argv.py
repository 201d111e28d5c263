"""Read and adapt the arguments before Hydra does: --help, names and paths with special characters."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.groups import choices, config_file, is_group, is_own, subgroups
from pytorch_intro.config.paths import with_commands

LITERAL = ("images", "run")  # paths in which even ${ has no meaning
PATHS = (*LITERAL, "resume", "outputs", "output", "data.root", "data.labels", "data.cache_dir")
CLASS = "positive"  # name of a class, which may be true, 1.50 or null
TEXTS = (*PATHS, "name", CLASS)
# What Hydra's grammar reads as plain text: a word that is not another kind of value, or anything with a slash.
PLAIN = re.compile(r"(?!(?:true|false|nan|inf)$)[a-z][\w.-]*|[\w.-]*/[\w./+@%-]*", re.ASCII | re.IGNORECASE)


def print_help(config_name: str) -> None:
    """Print the help text in conf/<config_name>.yaml, with a description of each choice for $APP_CONFIG_GROUPS.

    Hydra's own --help composes the config and lists the choices without descriptions.
    """
    config = OmegaConf.load(config_file(config_name))
    groups = "\n".join(describe_group(group, default) for group, default in find_groups(config.defaults).items())
    print(with_commands(config.hydra.help.template.replace("$APP_CONFIG_GROUPS", groups)))


def find_groups(defaults: object) -> dict[str, str | list[str] | None]:
    """Return the config groups of a defaults list, with the groups below them, and each one's default choice."""
    groups: dict[str, str | list[str] | None] = {}
    entries = list(OmegaConf.to_container(defaults))  # type: ignore[arg-type]
    for entry in entries:
        ((key, default),) = entry.items() if isinstance(entry, dict) else [(entry, None)]
        group = key.removeprefix("optional ")
        if is_group(group):
            groups[group] = default
            groups |= dict.fromkeys(subgroups(group))
    if "model" not in groups:  # nothing is trained, and therefore nothing augmented
        groups = {group: default for group, default in groups.items() if "/" not in group}
    if "finished_run" in entries:  # the default is the choice of the run
        groups = dict.fromkeys(groups)
    if "sweep" in groups:
        groups |= {"hydra/sweeper": "grid", "hydra/launcher": None}
    return {group: default for group, default in groups.items() if is_group(group)}


def describe_group(group: str, default: str | list[str] | None) -> str:
    """Return the group's name and a line for each of its choices: the project's own first, then the default."""
    defaults = default if isinstance(default, list) else [default]
    files = sorted(choices(group), key=lambda file: (not is_own(file), file.stem not in defaults, file.stem))
    lines = [f"    {file.stem:<20} {first_comment(file)}{' (default)' * (file.stem in defaults)}" for file in files]
    return "\n".join([f"  {group}", *lines])


def first_comment(file: Path) -> str:
    """Return the first comment line of a config file, which describes it."""
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package"))
    return next((line[2:] for line in lines if line.startswith("# ")), "")


def quote_texts(arguments: Sequence[str]) -> list[str]:
    """Quote names and paths that Hydra's grammar would read as something else, so that any character is allowed."""
    is_sweep = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))
    return [quote_text(argument, is_sweep) for argument in arguments]


def quote_text(argument: str, is_sweep: bool) -> str:
    """Return an argument, with its value quoted if it is a name or path that needs it."""
    key, equals, text = argument.partition("=")
    setting = key.lstrip("+")
    if setting == "outputs" and text in ("", "null"):
        raise UserError(f"{argument}: no folder; use outputs=DIR")
    if not equals or setting not in TEXTS or (is_sweep and re.search(r"[\[{('\"]", text)):  # such as choice(a,b)
        return argument
    values = text.split(",") if is_sweep else [text]
    return f"{key}={','.join(literal(setting, value) for value in values)}"


def literal(setting: str, text: str) -> str:
    """Return the value of a setting in Hydra's grammar, with ~ expanded in paths."""
    if setting in PATHS:
        text = os.path.expanduser(text)  # noqa: PTH111, which would drop a final slash
    is_written_for_hydra = text[:1] in ("'", '"') or ("${" in text and setting not in LITERAL)
    is_plain = PLAIN.fullmatch(text) and not (setting == CLASS and text.lower() == "null")
    return text if is_written_for_hydra or is_plain else quoted(text)


def quoted(text: str) -> str:
    """Return any text as a value in Hydra's grammar."""
    # A backslash is doubled only before a quotation mark, the closing one included.
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (end[2] and "\\'"), text).replace("${", "\\${")
    return f"'{escaped}'"
