"""hydra/sweeper=grid and optuna: the sweepers of `python src/train.py -m`, which resume a sweep."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Run all combinations of values. pytorch_intro.sweeps is imported only when it is used.

    Args:
        params: Values of keys to sweep, from a config file: {"optimizer.lr": "0.01,0.1"}.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from pytorch_intro.sweeps.runner import Runner

        self.runner = Runner(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        with self.runner.folder.lock():
            self.run([*(f"{key}={value}" for key, value in self.params.items()), *arguments])

    def run(self, arguments: list[str]) -> None:
        self.runner.run_grid(arguments)


class OptunaSweeper(GridSweeper):
    """Search with Optuna; see sweeps/optuna/search.py.

    Args:
        params: Search space, {"optimizer.lr": "tag(log, interval(0.01, 0.1))"}; see search_space.py.
        n_trials, n_jobs, seed, pruner: See search().
    """

    def __init__(
        self, params: dict[str, Any] | None, n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
    ) -> None:
        super().__init__(params)
        self.settings: dict[str, Any] = {"n_trials": n_trials, "n_jobs": n_jobs, "seed": seed, "pruner": pruner}

    def run(self, arguments: list[str]) -> None:
        from pytorch_intro.sweeps.optuna.search import search

        search(self.runner, arguments, **self.settings)
