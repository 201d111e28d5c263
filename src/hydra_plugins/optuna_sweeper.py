"""hydra/sweeper=optuna: search with Optuna."""

from typing import TYPE_CHECKING, Any

from hydra_plugins.grid_sweeper import GridSweeper

if TYPE_CHECKING:
    from pytorch_intro.sweeps.runner import Runner


class OptunaSweeper(GridSweeper):
    """Run pytorch_intro.sweeps.optuna.search.

    Args:
        params: Search space, {"optimizer.lr": "tag(log, interval(0.01, 0.1))"}; see search_space.py.
        n_trials: Total number of trials, including those of earlier commands.
        n_jobs: Number of trials in parallel, if the launcher supports it.
        seed: Seed of Optuna's sampler.
        pruner: "median" or "asha"; None trains every trial to its end.
    """

    def __init__(
        self, params: dict[str, Any] | None, n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
    ) -> None:
        super().__init__(params)
        self.settings: dict[str, Any] = {"n_trials": n_trials, "n_jobs": n_jobs, "seed": seed, "pruner": pruner}

    def run(self, runner: "Runner", arguments: list[str]) -> None:
        from pytorch_intro.sweeps.optuna.search import search

        search(runner, arguments, **self.settings)
