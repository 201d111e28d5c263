"""hydra/sweeper=grid: the sweeper of `python src/train.py -m`, which finishes what it began."""

from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from pytorch_intro.sweeps.runner import Runner


class GridSweeper(Sweeper):
    """Finds the launcher that was chosen and hands over to pytorch_intro.sweeps, loaded when it is needed.

    Args:
        params: Values of keys to sweep, from a config file: {"optimizer.lr": "0.01,0.1"}.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from pytorch_intro.sweeps.runner import check_alone, check_plugin

        check_alone()
        check_plugin(config.hydra.sweeper._target_)
        check_plugin(config.hydra.launcher._target_)
        self.hydra_context = hydra_context
        self.config = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from pytorch_intro.sweeps.folder import SweepFolder
        from pytorch_intro.sweeps.runner import Runner

        params = [f"{key}={value}" for key, value in self.params.items()]
        assert self.hydra_context is not None
        assert self.config is not None
        folder = SweepFolder(self.config.hydra.sweep.dir)
        with folder.claimed():
            self.run(Runner(folder, self.hydra_context, self.config, self.launcher), [*params, *arguments])

    def run(self, runner: "Runner", arguments: list[str]) -> None:
        from pytorch_intro.sweeps.runner import run_grid

        run_grid(runner, arguments)
