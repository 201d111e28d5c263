"""The command line, before Hydra reads it: --help at once, flags anywhere, paths of any characters."""

import re
import sys

from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from pytorch_intro.errors import ended_by_closed_pipe, leave
from pytorch_intro.paths import CONFIG_DIR

LITERAL = ("images", "run")  # settings that hold nothing but paths, ${ in them included
PATHS = (*LITERAL, "resume", "outputs", "data.root", "data.labels", "data.cache_dir")
# What Hydra reads as it is written: a word that is no value of another kind, or what has a slash.
PLAIN = re.compile(r"(?!(?:true|false|nan|inf)$)[a-z][\w.-]*|[\w.-]*/[\w./+@%-]*", re.ASCII | re.IGNORECASE)


def print_help(config_name: str) -> None:
    """Hydra's --help, without its search through all groups, which takes half a second.

    Choices that the text does not name, such as files of one's own in conf/, are added to their group's paragraph.
    """
    template = OmegaConf.load(CONFIG_DIR / f"{config_name}.yaml").hydra.help.template
    with ended_by_closed_pipe():
        print(re.sub(r"Choices .*?\n\n", with_other_choices, template, flags=re.DOTALL), flush=True)


def with_other_choices(text: re.Match[str]) -> str:
    """Each paragraph that begins with a group's name, and the choices of that group that it does not name."""

    def completed(paragraph: re.Match[str]) -> str:
        choices = sorted(path.stem for path in (CONFIG_DIR / paragraph[1]).glob("[!_]*.yaml"))
        others = [choice for choice in choices if not re.search(rf"\b{choice}\b", paragraph[0])]
        return "; ".join([paragraph[0], *others])

    return re.sub(r"^  ([a-z/]+)(?=\s).*(?:\n {5,}\S.*)*", completed, text[0], flags=re.MULTILINE)


def order_flags() -> None:
    """Let -m stand anywhere among the settings, and answer flags that Hydra does not have in one line."""
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    parser = get_args_parser()
    parser.error = lambda message: leave(f"{message}; --help shows what can be said")  # type: ignore[method-assign]
    parser.parse_args()


def quote_paths() -> None:
    """Let paths be of any characters, as the shell hands them over; Hydra's grammar has its own ideas of some."""
    if {"-m", "--multirun"} & set(sys.argv):  # where commas part one value from another
        return
    for number, argument in enumerate(sys.argv):
        key, _, value = argument.partition("=")
        is_written_for_hydra = value[:1] in ("'", '"') or ("${" in value and key not in LITERAL)
        if key in PATHS and not (is_written_for_hydra or PLAIN.fullmatch(value)):
            sys.argv[number] = f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """A text of any characters as a value in Hydra's grammar."""
    # A backslash is doubled before a quotation mark alone, also before the one at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (end[2] and "\\'"), text).replace("${", "\\${")
    return f"'{escaped}'"
