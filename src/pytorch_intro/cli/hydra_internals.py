"""The only module that uses what Hydra does not document (written for 1.3.8); an upgrade touches this file alone."""

import hydra

# Private: the parser with Hydra's own flags. Otherwise a wrong flag prints a usage text instead of one line.
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.types import TaskFunction

from pytorch_intro.common.errors import exit_with_error
from pytorch_intro.config.paths import CONFIG_DIR

VERSION_BASE = "1.3"
# With these flags, hydra.main is used unchanged.
RARE_FLAGS = (
    "hydra_help", "info", "shell_completion", "config_path", "config_name", "config_dir", "experimental_rerun",
)  # fmt: skip


def run_app(task: TaskFunction, config_name: str) -> None:
    """Compose the config and run the task, like hydra.main, but raise errors instead of printing them.

    hydra.main prints the errors of composing in a form of its own and exits with code 1, unless HYDRA_FULL_ERROR=1.
    It also composes each config twice, first to look for hydra.mode, which takes 0.1 s. The methods run, multirun and
    show_cfg that it calls are not documented.
    """
    parser = get_args_parser()
    parser.error = lambda message: exit_with_error(f"{message}; see --help")  # type: ignore[method-assign]
    args = parser.parse_args()
    if any(getattr(args, flag) for flag in RARE_FLAGS):
        hydra.main(config_path=str(CONFIG_DIR), config_name=config_name, version_base=VERSION_BASE)(task)()
        return
    if args.cfg and (args.run or args.multirun):
        exit_with_error("--cfg prints the config of one run; leave out --run and --multirun")
    if args.resolve and not args.cfg:
        exit_with_error("--resolve needs --cfg job")
    with hydra.initialize_config_dir(str(CONFIG_DIR), job_name=config_name, version_base=VERSION_BASE):
        app = GlobalHydra.instance().hydra
        assert app is not None
        if args.cfg:
            app.show_cfg(config_name, args.overrides, cfg_type=args.cfg, package=args.package, resolve=args.resolve)
        elif args.multirun or "hydra.mode=MULTIRUN" in args.overrides:
            app.multirun(config_name, task, [*args.overrides, "hydra.mode=MULTIRUN"])
        else:
            app.run(config_name, task, [*args.overrides, "hydra.mode=RUN"])
