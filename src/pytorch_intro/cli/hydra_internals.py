"""The only module that uses what Hydra does not document (written for 1.3.8); an upgrade touches this file alone."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode, TaskFunction
from hydra.version import setbase
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.config.paths import CONFIG_DIR

VERSION_BASE = "1.3"
ACTIONS = ("run", "multirun", "cfg", "info", "shell_completion", "hydra_help", "experimental_rerun")


def run_app(task: TaskFunction, config_name: str) -> None:
    """Compose the config and run the task, like hydra.main, but raise errors instead of printing them.

    hydra.main prints the errors of composing in several lines and exits with code 1, unless HYDRA_FULL_ERROR=1. It also
    composes each config twice, first to look for hydra.mode, which takes 0.1 s.
    """
    parser = get_args_parser()
    parser.error = lambda message: exit_with_error(f"{message}; see --help")  # type: ignore[method-assign]
    args = parser.parse_args()
    if len(actions := [f"--{name}".replace("_", "-") for name in ACTIONS if getattr(args, name)]) > 1:
        raise UserError(f"{', '.join(actions)}: cannot be combined; use one of them")
    if args.experimental_rerun:
        raise UserError("--experimental-rerun: not supported; use resume=DIR")
    if (args.resolve or args.package) and not args.cfg:
        raise UserError("--resolve, --package: require --cfg; add --cfg job")
    app = build_app(args, config_name)
    try:
        run_action(app, parser, args, args.config_name or config_name, task)
    finally:
        GlobalHydra.instance().clear()


def build_app(args: Namespace, job_name: str) -> Hydra:
    """Return Hydra's application for the folder conf/, or for those of --config-path and --config-dir."""
    setbase(VERSION_BASE)
    search_path = create_automatic_config_search_path(sys.argv[0], None, args.config_path or str(CONFIG_DIR))
    if args.config_dir:
        if not Path(args.config_dir).is_dir():
            raise UserError(f"--config-dir={args.config_dir}: no such folder; use an existing one")
        folder = f"file://{Path(args.config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    return Hydra.create_main_hydra2(job_name, search_path)


def run_action(app: Hydra, parser: ArgumentParser, args: Namespace, config_name: str, task: TaskFunction) -> None:
    overrides = args.overrides
    if args.info or args.package:  # show_info and show_cfg would print their errors instead of raising them
        config = app.get_sanitized_cfg(app.compose_config(config_name, overrides, RunMode.RUN), args.cfg or "job")
        if args.package not in (None, "_global_") and OmegaConf.select(config, args.package) is None:
            raise UserError(f"--package={args.package}: not in the config; see --cfg {args.cfg}")
    if args.cfg:
        app.show_cfg(config_name, overrides, args.cfg, args.package, args.resolve)
    elif args.info:
        app.show_info(args.info, config_name, overrides)
    elif args.shell_completion:
        try:
            app.shell_completion(config_name, overrides)
        except ValueError as error:
            raise UserError(f"--shell-completion: {error}; use install=bash") from error
    elif args.hydra_help:
        app.hydra_help(config_name, parser, args)
    elif args.multirun or "hydra.mode=MULTIRUN" in overrides:
        app.multirun(config_name, task, [*overrides, "hydra.mode=MULTIRUN"])
    else:
        app.run(config_name, task, [*overrides, "hydra.mode=RUN"])
