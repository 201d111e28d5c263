"""hydra/sweeper=optuna: a search by Optuna."""

from typing import TYPE_CHECKING, Any

from hydra_plugins.grid_sweeper import GridSweeper

if TYPE_CHECKING:
    from pytorch_intro.sweeps.runner import Runner


class OptunaSweeper(GridSweeper):
    """Hands over to pytorch_intro.sweeps.search.

    Args:
        params: The search space, {"optimizer.lr": "tag(log, interval(0.01, 0.1))"}; see search_space.py.
        n_trials: Trials in all, those of earlier sessions included.
        n_jobs: Trials at once, where the launcher runs jobs in parallel.
        seed: Of Optuna's draws.
        pruner: median or asha; None: every trial is trained to its end.
    """

    def __init__(
        self, params: dict[str, Any] | None, n_trials: int, n_jobs: int, seed: int | None, pruner: str | None
    ) -> None:
        super().__init__(params)
        self.settings: dict[str, Any] = {"n_trials": n_trials, "n_jobs": n_jobs, "seed": seed, "pruner": pruner}

    def run(self, runner: "Runner", arguments: list[str]) -> None:
        from pytorch_intro.sweeps.search import search

        search(runner, arguments, **self.settings)
