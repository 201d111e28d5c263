"""hydra/sweeper=grid: the sweeper of `python src/train.py -m`, which resumes a sweep."""

import functools
import inspect
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from pytorch_intro.sweeps.runner import Runner


class GridSweeper(Sweeper):
    """Sets up the launcher and calls pytorch_intro.sweeps, which is imported only when it is used.

    Args:
        params: Values of keys to sweep, from a config file: {"optimizer.lr": "0.01,0.1"}.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from pytorch_intro.common.distributed import check_alone
        from pytorch_intro.sweeps.job import run_job
        from pytorch_intro.sweeps.runner import check_plugin

        check_alone()
        check_plugin(config.hydra.sweeper._target_)
        check_plugin(config.hydra.launcher._target_)
        self.hydra_context = hydra_context
        self.config = config
        # The task without entrypoint.wrap_task: run_job needs its errors, not exit codes.
        job = functools.partial(run_job, inspect.unwrap(task_function))
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=job, config=config
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
