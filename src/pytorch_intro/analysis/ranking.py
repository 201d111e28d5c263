"""Which of several runs is best: for sweeps, and for run=FOLDER of a sweep."""

from collections.abc import Mapping

from pytorch_intro.runs.folder import Result


def sort_key(score: float | None, maximize: bool) -> tuple[bool, float]:
    """Return a key that sorts the best score first and missing scores last."""
    return score is None, (-1 if maximize else 1) * (score or 0.0)


def best_run(objective: str, maximize: bool, results: Mapping[str, Result]) -> str | None:
    """Return the name of the run with the best objective, the first of equals; None if no run has one."""
    scores = {name: result.get(objective) for name, result in results.items()}
    scored = [name for name, score in scores.items() if score is not None]
    return min(scored, key=lambda name: sort_key(scores[name], maximize), default=None)
