"""What Hydra does not document, for the command line (written for 1.3.8); sweeps/ has its own, for launchers."""

import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import OverrideParseException
from hydra.types import RunMode, TaskFunction
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.config import groups
from pytorch_intro.config.flatten import flatten
from pytorch_intro.config.paths import IS_CLONE

VERSION_BASE = "1.3"
LIST_GROUPS = ("data/augment", "metrics")  # of which any number is chosen


def run_app(task: TaskFunction, config_name: str, arguments: Sequence[str]) -> None:
    """Compose the config and run the task, like hydra.main, but raise errors instead of printing them.

    hydra.main prints the errors of composing in several lines and exits with code 1, unless HYDRA_FULL_ERROR=1. It also
    composes each config twice, first to look for hydra.mode, which takes 0.1 s.
    """
    parser = get_args_parser()
    parser.error = lambda message: exit_with_error(f"{message}; see --help")  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(arguments)  # -m may stand between settings
    if args.experimental_rerun:
        raise UserError("--experimental-rerun: not supported; use resume=DIR")
    if (args.resolve or args.package) and not args.cfg:
        raise UserError("--resolve, --package: require --cfg; add --cfg job")
    name, overrides = args.config_name or config_name, args.overrides
    app = build_app(config_name, args.config_path, args.config_dir)
    actions = {
        "cfg": lambda: app.show_cfg(name, overrides, args.cfg, args.package, args.resolve),
        "info": lambda: app.show_info(args.info, name, overrides),
        "shell_completion": lambda: app.shell_completion(name, overrides),
        "hydra_help": lambda: app.hydra_help(name, parser, args),
        "multirun": lambda: app.multirun(name, task, [*overrides, "hydra.mode=MULTIRUN"]),
        "run": lambda: app.run(name, task, [*overrides, "hydra.mode=RUN"]),
    }
    default = "multirun" if "hydra.mode=MULTIRUN" in overrides else "run"
    chosen = [flag for flag in actions if getattr(args, flag)] or [default]
    try:
        check_choices(app, config_name, overrides)
        if len(chosen) > 1:
            flags = ", ".join(f"--{flag}".replace("_", "-") for flag in chosen)
            raise UserError(f"{flags}: cannot be combined; use one of them")
        if args.info or args.package:  # show_info and show_cfg would print their errors instead of raising them
            config = app.get_sanitized_cfg(app.compose_config(name, overrides, RunMode.RUN), args.cfg or "job")
            if args.package not in (None, "_global_") and OmegaConf.select(config, args.package) is None:
                raise UserError(f"--package={args.package}: not in the config; see --cfg {args.cfg}")
        actions[chosen[0]]()
    finally:
        GlobalHydra.instance().clear()


def compose_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config that a task of these overrides gets."""
    app = build_app(config_name)
    try:
        check_choices(app, config_name, overrides)
        return app.get_sanitized_cfg(app.compose_config(config_name, list(overrides), RunMode.RUN), "job")
    finally:
        GlobalHydra.instance().clear()


def run_task(task: TaskFunction, config_name: str, overrides: Sequence[str]) -> None:
    """Compose the config and run the task, without reading the command line."""
    app = build_app(config_name)
    try:
        check_choices(app, config_name, overrides)
        app.run(config_name, task, [*overrides, "hydra.mode=RUN"])
    finally:
        GlobalHydra.instance().clear()


def build_app(job_name: str, config_path: str | None = None, config_dir: str | None = None) -> Hydra:
    """Return Hydra's application for the folders conf/, or for those of --config-path and --config-dir."""
    setbase(VERSION_BASE)
    *own, built_in = map(str, groups.CONFIG_DIRS)
    if config_path:
        own, built_in = [], config_path if IS_CLONE else str(Path(config_path).absolute())
    search_path = create_automatic_config_search_path(sys.argv[0], None, built_in)
    for folder in own:
        search_path.prepend("project", f"file://{folder}", anchor=SearchPathQuery(provider="main"))
    if config_dir:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir={config_dir}: no such folder; use an existing one")
        folder = f"file://{Path(config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    return Hydra.create_main_hydra2(job_name, search_path)


def check_choices(app: Hydra, config_name: str, overrides: Sequence[str]) -> None:
    """Raise a UserError for an unknown choice of a config group; of an optional group, Hydra would leave it out."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException:
        return  # composing raises it again
    for override in parsed:
        value = override.value()
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        choices = [choice for each in values for choice in (each if isinstance(each, list) else [each])]
        known = app.config_loader.get_group_options(override.key_or_group)
        if override.is_delete() and known:
            check_deletion(config_name, override.key_or_group, known)
        for each in values:
            if known and isinstance(each, list) and (repeated := [name for name in each if each.count(name) > 1]):
                raise UserError(f"{override.key_or_group}: {repeated[0]} is in the list twice; list it once")
        for choice in (choice for choice in choices if isinstance(choice, (str, QuotedString))):
            choice = choice.text if isinstance(choice, QuotedString) else choice
            if known and is_path(choice, override.key_or_group):
                raise UserError(explain_path(config_name, override.key_or_group, choice))
            if known and choice not in known and "/" not in choice:
                raise UserError(unknown_choice(override.key_or_group, choice, known))


def check_deletion(config_name: str, group: str, known: Iterable[str]) -> None:
    """Raise a UserError if the command needs the config group that is deleted; an optional one may be missing."""
    for entry in OmegaConf.load(groups.config_file(config_name)).defaults:
        for name, choice in entry.items() if isinstance(entry, DictConfig) else ():
            is_optional = choice is None or (name == f"optional {group}" and isinstance(choice, str))
            if name in (group, f"optional {group}") and is_optional:
                return
    remedy = f"use {group}=none" if "none" in known else f"choose one of {', '.join(public(known))}"
    if group in LIST_GROUPS:
        remedy = f"use {group}=[]"
    raise UserError(f"~{group}: a config group cannot be deleted; {remedy}")


def public(choices: Iterable[str]) -> list[str]:
    """Return the sorted choices without those that others extend, such as _base."""
    return sorted(name for name in choices if not name.startswith("_"))


def is_path(choice: str, group: str) -> bool:
    """Return whether the choice of a group is none, but a file or folder, or looks like one."""
    is_choice = groups.config_file(f"{group}/{choice}").exists()
    return not is_choice and ("/" in choice or (group == "data" and bool(choice) and Path(choice).exists()))


def explain_path(config_name: str, group: str, path: str) -> str:
    """Return the error line for a path instead of a choice, with the setting that takes it."""
    remedies = {"data": f"data=folder data.root={path}", "model": f"model.weights={path}"}
    remedy = remedies.get(group, "one of its choices, see --help")
    if group == "data" and path.endswith(".csv"):
        remedy = f"data=csv data.labels={path} data.root=DIR"
    if config_name == "predict":
        remedy = f"images={path}"
    return f"{group}={path}: a path, not a choice; use {remedy}"


def unknown_choice(group: str, choice: str, known: Iterable[str]) -> str:
    names = public(known)
    nearest = "".join(f"did you mean {name}? " for name in get_close_matches(choice.lower(), names, n=1))
    if group == "model" and "torchvision" in names and choice:
        from torchvision.models import list_models

        if choice.lower() in list_models():
            nearest = f"did you mean model=torchvision model.name={choice.lower()}? "
    return f"{group}={choice}: unknown choice; {nearest}choose from {', '.join(names)}"


def invalid_default(error: Exception) -> str | None:
    """Return the file and the entry of a defaults list that Hydra cannot read; None if the error is another one."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or frames[-1].f_code.co_name != "_create_defaults_list":
        return None
    return f"{frames[-1].f_locals['config_path']}.yaml: defaults: {frames[-1].f_locals['item']}"


def known_keys(error: Exception) -> list[str]:
    """Return the dotted keys of the config that lacks an overridden key, or the groups if a group is unknown."""
    node = getattr(error.__cause__, "parent_node", None)  # where OmegaConf looked for the key
    if node is None:
        top = groups.subgroups("")
        return [*top, *(name for group in top for name in groups.subgroups(group))]
    config = node._get_root()
    return [*flatten(config), *map(str, config)]
