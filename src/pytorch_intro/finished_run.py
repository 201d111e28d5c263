"""A finished run, found by its folder alone: its config, its result, and the weights that were tested."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.errors import UserError
from pytorch_intro.foreign_config import verify_config
from pytorch_intro.paths import is_searched_for_runs
from pytorch_intro.recorded_config import trusted_config
from pytorch_intro.run_folder import BEST, Result, RunFolder

if TYPE_CHECKING:
    from pytorch_intro.classifier import Classifier

LATEST = "latest"


def recorded_run(run: str | None, outputs: str) -> str:
    """The folder of a finished run: this one, one of this name, the newest, or the best of a sweep.

    Args:
        run: A folder; or a name in outputs; or latest; or the folder of a sweep, of which the best is taken.

    Raises:
        UserError: if there is none, or none that is finished.
    """
    run = "" if run is None else str(run)
    if not run:
        raise UserError("run: give the folder of a finished run, as in run=outputs/first, or run=latest")
    if run == LATEST:
        return str(newest(Path(outputs)).resolve())
    there = [path for path in (Path(run), Path(outputs, run)) if path.is_dir()]
    if not there:
        raise UserError(f"run={run}: there is no such folder; run=latest takes the newest finished run in {outputs}")
    one = next((path for path in there if (path / "config.yaml").exists()), None)
    return str((checked_finished(one) if one else best_of_sweep(there[0])).resolve())


def checked_finished(folder: Path) -> Path:
    """The folder, if the run in it is finished."""
    if not (folder / "result.json").exists():
        raise UserError(f"{folder}: the run is not finished; carry it on by python src/train.py resume={folder}")
    return folder


def newest(outputs: Path) -> Path:
    """The run that was finished last and has weights, those of sweeps included."""
    folders = [file.parent for file in sorted(outputs.rglob("result.json"))]
    finished = [
        folder
        for folder in folders
        if is_searched_for_runs(folder.relative_to(outputs)) and (folder / "checkpoints" / BEST).exists()
    ]
    if not finished:
        raise UserError(f"run=latest: there is no finished run in {outputs}; python src/train.py makes one")
    return max(finished, key=lambda folder: (folder / "result.json").stat().st_mtime)


def best_of_sweep(folder: Path) -> Path:
    """The run that is best by the sweep's objective, the first of equals."""
    from pytorch_intro.sweeps.objective import is_maximized
    from pytorch_intro.sweeps.sweep_folder import SweepFolder

    record = SweepFolder(folder).record()
    objective = record.objective if record else "val/accuracy"
    finished = [file.parent for file in sorted(folder.glob("*/result.json"))]
    if not finished:
        raise UserError(f"run={folder}: it holds no finished run, and is none; choose another folder, or run=latest")
    scores = {path: RunFolder(path).result()[objective] for path in finished}
    if None in scores.values():
        raise UserError(f"run={folder}: its runs have no validation to choose the best by; give the folder of one")
    return (max if is_maximized(objective) else min)(finished, key=lambda path: scores[path])


class FinishedRun:
    """What a run's folder tells when it is finished, wherever it lies now.

    Args:
        path: The folder.
        allow: Packages of one's own that its config may name, besides the known ones and what lies in src/.
        parts: Of its config, what is to be used; the others may name what is not there any more.

    Attributes:
        config: As it was trained with.
        result: What result.json holds.

    Raises:
        UserError: if the folder holds no finished run, or its config names what it may not.
    """

    def __init__(
        self, path: str | Path, allow: Sequence[str] = (), parts: Sequence[str] = ("model", "classifier")
    ) -> None:
        from pytorch_intro.check import check_value

        check_value("allow", allow, Sequence[str])
        folder = RunFolder(path)
        self.path = folder.path
        self.config = trusted_config(self.path, {"outputs": str(self.path.parent)}, allow, parts, verify_config)
        checked_finished(self.path)
        self.result: Result = folder.result()

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """What checkpoints/best.ckpt holds.

        Raises:
            UserError: if it is missing, damaged, or from a version that did not record what images the network takes.
        """
        from pytorch_intro.resumption import read_checkpoint

        path = self.path / "checkpoints" / BEST
        if not path.exists():
            raise UserError(f"{path}: there is no such file, so the run has no weights to use; train with checkpoints")
        checkpoint = read_checkpoint(path)
        if checkpoint is None:
            raise UserError(f"{path}: it is damaged; copy it anew, or train again")
        if "datamodule_hyper_parameters" not in checkpoint:
            raise UserError(f"{path}: it does not tell what images the network takes; train again")
        return checkpoint

    @property
    def inputs(self) -> dict[str, Any]:
        """What images the network takes; see DataModule.inputs."""
        return self.checkpoint["datamodule_hyper_parameters"]

    def classifier(self, compiled: bool = False) -> "Classifier":
        """The classifier with the weights that were tested, on the host, in eval mode; it cannot be trained.

        Args:
            compiled: Whether to compile its network if it was compiled for the training.

        Raises:
            UserError: if the code makes another network of this config by now.
        """
        from pytorch_intro.build import build
        from pytorch_intro.check import check_nodes

        for part in ("model", "classifier"):
            check_nodes(self.config[part], part, {})
        checkpoint, inputs, config = self.checkpoint, self.inputs, self.config
        shape = {"image_shape": tuple(inputs["image_shape"]), "num_classes": len(inputs["classes"])}
        made = {
            "network": build(config.model, "model", **shape),
            "num_classes": shape["num_classes"],
            "optimizer": None,
            "scheduler": None,
            "mirror": checkpoint["hyper_parameters"]["mirror"],
        }
        if not compiled:
            made["compile"] = False
        classifier: Classifier = build(config.classifier, "classifier", **made)
        try:
            classifier.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            commit = self.result.get("git_commit") or "unknown"
            first = " ".join(str(error).split())
            raise UserError(
                f"{self.path}: its weights do not fit the network that the code makes of its config by now ({first}); "
                f"use the code of that time, commit {commit}, or train again"
            ) from error
        return classifier.eval()


def with_settings_given(recorded: DictConfig, config: DictConfig, parts: Sequence[str]) -> list[str]:
    """Take over what the command line says of these parts of a config: a choice as a whole, or single values.

    Args:
        recorded: A run's config, which is changed.
        config: As composed for this command.
        parts: As data and trainer.

    Returns:
        The keys that were given.

    Raises:
        UserError: if one is to be deleted.
    """
    keys = [text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task]
    chosen = [key for key in keys if key in parts]
    for key in chosen:
        recorded[key] = config[key]
    for key in keys:
        if key.startswith("~") and (part := key[1:].partition(".")[0]) in parts and part not in chosen:
            raise UserError(f"{key}: what the run recorded cannot be taken out; set it to null")
    for key in keys:
        if "." in key and key.partition(".")[0] in parts:
            OmegaConf.update(recorded, key, OmegaConf.select(config, key), merge=False, force_add=True)
    return keys
