"""Predictions of finished runs for images that they were not trained on: validation, test, and other folds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.inference.eval_data import original_data
from pytorch_intro.inference.finished_run import SWEEP_FILE, FinishedRun, apply_overrides, resolve_run
from pytorch_intro.inference.load import Predictor, load_from
from pytorch_intro.runs.config_record import CONFIG

BATCH_SIZE = 256
# Settings that say which images there are. The others of the run, such as its split, stay if other data is chosen.
IMAGES = ("dataset", "root", "labels", "target_transform")


def find_runs(run: str, outputs: str, allow: Sequence[str]) -> list[FinishedRun]:
    """Return the run that `run` refers to, as resolve_run does; of a sweep over data.fold, a run for each fold."""
    folder = next((path for path in (Path(run), Path(outputs, run)) if path.is_dir()), None)
    if folder is not None and (folder / SWEEP_FILE).exists() and not (folder / CONFIG).exists():
        try:
            names = [Path(job).name for job in json.loads((folder / SWEEP_FILE).read_text())["jobs"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / SWEEP_FILE}: cannot be read ({first_lines(error)}); use run=DIR") from error
        finished = [open_run(folder / name, allow) for name in names if (folder / name / "result.json").exists()]
        folds = {job.config.data.get("fold"): job for job in reversed(finished) if job.config.data.get("num_folds")}
        if len({job.config.data.num_folds for job in folds.values()}) == 1:
            return [folds[number] for number in sorted(folds)]
    return [open_run(resolve_run(run, outputs), allow)]


def open_run(path: str | Path, allow: Sequence[str]) -> FinishedRun:
    return FinishedRun(path, allow, ["model", "classifier", "data"])


def choose_images(run: FinishedRun, config: DictConfig) -> None:
    """Apply the command line's overrides of data to a run's config: the data is named again, or has been moved."""
    recorded = OmegaConf.to_container(run.config.data, resolve=False)
    assert isinstance(recorded, dict)
    overrides = apply_overrides(run.config, config, ["data"])
    if "data" in overrides:
        for name, value in recorded.items():
            if name not in IMAGES and f"data.{name!s}" not in overrides:
                OmegaConf.update(run.config.data, str(name), value, merge=False, force_add=True)


@torch.inference_mode()
def predict_held_out(run: FinishedRun, device: str) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the predictions for the validation and the test images of a run.

    Yields:
        The part of the dataset that has the images, which is "train" if they were split off; their rows in it, (N,)
        int64; and their probabilities, (N, num_classes) float32.

    Raises:
        UserError: if the data is not the one that the run was trained on.
    """
    try:
        data = original_data(run)
    except UserError as error:
        problem = str(error).partition(";")[0]
        raise UserError(
            f"run: {run.path} was not trained on this data ({problem}); use its own (data.root=DIR), or another run"
        ) from error
    predictor = Predictor(load_from(run)).to(device)
    for name, subset in (("val", data.val_set), ("test", data.test_set)):
        if subset is None:
            continue
        batches = torch.arange(len(subset)).split(BATCH_SIZE)
        outputs = [
            predictor(subset.__getitems__(rows)[0].to(device)).cpu()
            for rows in tqdm(batches, f"predicting {name}", disable=None, leave=False)
        ]
        yield "train" if subset.dataset is data.train_set.dataset else name, subset.indices, torch.cat(outputs)
