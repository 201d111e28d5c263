"""Two classes: what predict.py decides for each image, by a threshold."""

import json
from typing import Annotated, Literal, NamedTuple

from omegaconf import DictConfig
from pydantic import Field

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check_value
from pytorch_intro.inference.finished_run import FinishedRun

Share = Annotated[float, Field(gt=0, le=1)]
ClassName = str | int | float | bool | None


class Decision(NamedTuple):
    """An image is of class `positive` (0 or 1) if the probability of that class is at least `threshold`."""

    positive: int
    threshold: float


def check_decision(config: DictConfig, run: FinishedRun) -> Decision | None:
    """Return the decision of src/predict.py, None without threshold; raise a UserError for an invalid value."""
    threshold = check_value("threshold", config.threshold, Share | Literal["eval"] | None)
    given = check_positive(config, run)
    if threshold is None:
        refuse_positive(given, "set threshold too, or leave it out")
        return None
    key = f"threshold={threshold}"
    if threshold != "eval":
        return Decision(positive_class(given, run, key), float(threshold))
    file = run.path / "eval.json"
    try:
        evaluation = json.loads(file.read_text())
        name, value = str(evaluation["positive"]), float(evaluation["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{key}: no threshold in {file}; choose one with python src/eval.py run={run.path} min_precision=0.95, or "
            "use a number"
        ) from error
    positive = positive_class(name, run, key)
    if given is not None and positive != positive_class(given, run, key):
        raise UserError(f"positive={given}: the threshold in {file} is for {name}; leave positive out")
    return Decision(positive, value)


def check_positive(config: DictConfig, run: FinishedRun) -> str | None:
    """Return the name of the positive class, None if it is not set; classes may be named true, 1.5 or null."""
    value = check_value("positive", config.positive, ClassName)
    if value is None or (value == "null" and "null" not in map(str, run.inputs["classes"])):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def refuse_positive(name: str | None, remedy: str) -> None:
    if name is not None:
        raise UserError(f"positive={name}: has no effect without a threshold; {remedy}")


def positive_class(name: str | None, run: FinishedRun, key: str) -> int:
    """Return the index of a class of a run with two classes, by default the second; raise a UserError for others."""
    classes = to_display_names(run.inputs["classes"])
    if len(classes) != 2:
        raise UserError(f"{key}: needs two classes, but {run.path} has {len(classes)}; leave it out")
    if name is None:
        return 1
    for names in ([*map(str, run.inputs["classes"])], classes):
        if name in names:
            return names.index(name)
    raise UserError(f"positive={name}: no such class; use {' or '.join(classes)}")
