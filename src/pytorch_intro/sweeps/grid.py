"""A grid sweep: one run for each combination of values."""

from collections.abc import Sequence

from pytorch_intro.sweeps.plan import plan_grid
from pytorch_intro.sweeps.runner import Runner


def sweep_grid(runner: Runner, arguments: Sequence[str]) -> None:
    """Run all combinations that are not finished yet.

    Args:
        arguments: Overrides, some with several values.
    """
    before = runner.record()
    plan = plan_grid(runner.parse(arguments), before.swept if before else ())
    waiting = runner.begin(plan, runner.compose(plan.base))
    runner.end(runner.launch(waiting, plan.base))
