"""A finished run, loaded from its folder alone: config, result and the weights that were tested."""

import json
import logging
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.analysis.ranking import best_run
from pytorch_intro.common.errors import UserError, check_installed, first_lines
from pytorch_intro.config.paths import command_line
from pytorch_intro.config.resolvers import literal_path
from pytorch_intro.runs.code import changed_code
from pytorch_intro.runs.config_record import CONFIG, trusted_config
from pytorch_intro.runs.folder import BEST, Result, RunFolder
from pytorch_intro.safety.untrusted_config import verify_config
from pytorch_intro.training.monitors import is_higher_better

if TYPE_CHECKING:
    from torch import nn

    from pytorch_intro.training.classifier import Classifier
    from pytorch_intro.training.tta import TTANetwork

log = logging.getLogger(__name__)

CLASSIFIER = "pytorch_intro.training.classifier.Classifier"  # what TTANetwork stands for
SWEEP_FILE = "sweep.json"
WEIGHTS = "model.safetensors"  # instead of checkpoints/best.ckpt, in a repository of the Hugging Face hub


def resolve_run(run: str | None, outputs: str) -> str:
    """Return the absolute path of the finished run that `run` refers to.

    Args:
        run: Folder or name of a run, "latest" for the newest finished run, or folder of a sweep for its best run.
        outputs: Folder that contains all runs.

    Raises:
        UserError: If no such run exists, or if it is not finished.
    """
    if run is None or run == "":
        raise UserError("run: no run given; use the folder of a finished run, as in run=outputs/first, or run=latest")
    if run == "latest":
        return str(latest_run(Path(outputs)).resolve())
    folders = [path for path in (Path(str(run)), Path(outputs, str(run))) if path.is_dir()]
    for folder in folders:
        if (folder / CONFIG).exists():
            return str(require_finished(folder).resolve())
    for folder in folders:
        if (folder / SWEEP_FILE).exists():
            return str(best_of_sweep(folder).resolve())
    if folders:
        raise UserError(f"run={run}: no finished run and no sweep in {folders[0]}; use another folder, or run=latest")
    raise UserError(f"run={run}: no such folder; use run=latest for the newest finished run in {outputs}")


def require_finished(folder: Path) -> Path:
    """Return the folder, or raise a UserError if its run is not finished."""
    if not (folder / "result.json").exists():
        command = shlex.join([*command_line("train"), f"resume={folder}"])
        raise UserError(f"{folder}: the run is not finished; resume it with {command}")
    return folder


def latest_run(outputs: Path) -> Path:
    """Return the folder of the run that finished last and has weights; jobs of sweeps count too.

    A run whose result cannot be read is skipped, with a warning.
    """
    files = [
        file
        for file in sorted(outputs.rglob("result.json"))
        if is_searched_for_runs(file.relative_to(outputs)) and (file.parent / "checkpoints" / BEST).exists()
    ]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        if read_result(file.parent):
            return file.parent
    raise UserError(f"run=latest: no finished run in {outputs}; train one with {' '.join(command_line('train'))}")


def read_result(folder: Path) -> Result | None:
    """Return the result of a run; None, with a warning, if it cannot be read."""
    try:
        return RunFolder(folder).result()
    except UserError as error:
        log.warning("skipped: %s", error)
        return None


def is_searched_for_runs(path: Path) -> bool:
    """Return whether a folder, relative to outputs, may be a run: not a benchmark, and not an archived run."""
    return path.parts[:1] != ("bench",) and not any(part.startswith(".") for part in path.parts)


def best_of_sweep(folder: Path) -> Path:
    """Return the folder of a sweep's best job, by the results as they are now: a job may have been resumed alone."""
    file, hint = folder / SWEEP_FILE, "use run=DIR with the folder of one job"
    try:
        record = json.loads(file.read_text())
        jobs, objective = [Path(job).name for job in record["jobs"]], record["objective"]
        maximize = record.get("maximize")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({first_lines(error)}); {hint}") from error
    results = {job: read_result(folder / job) for job in jobs if (folder / job / "result.json").exists()}
    if maximize is None:  # of an older version
        maximize = is_higher_better(objective, {})
    best = best_run(objective, bool(maximize), {job: result for job, result in results.items() if result})
    if best is None:
        raise UserError(f"run={folder}: no job of this sweep has finished with {objective}; {hint}")
    return folder / best


class FinishedRun:
    """The folder of a finished run, which may have been moved.

    Args:
        allow: Additional packages that the run's config may name as targets.
        parts: Config groups to use. The others are dropped, since they may name code that no longer exists.

    Attributes:
        config: Config that the run was trained with.
        result: Content of result.json.

    Raises:
        UserError: If the folder contains no finished run, or its config names a target that is not allowed.
    """

    def __init__(
        self, path: str | Path, allow: Sequence[str] = (), parts: Sequence[str] = ("model", "classifier")
    ) -> None:
        from pytorch_intro.config.validate import check_value

        check_value("allow", allow, Sequence[str])
        folder = RunFolder(path)
        self.path = folder.path
        self.allow = allow
        outputs = literal_path(self.path.parent)
        self.config = trusted_config(self.path, {"outputs": outputs}, allow, parts, verify_config)
        require_finished(self.path)
        self.result: Result = folder.result()

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """Content of checkpoints/best.ckpt; a UserError if it is missing, corrupt or too old."""
        from pytorch_intro.training.resume import read_checkpoint

        path = self.path / "checkpoints" / BEST
        if not path.exists() and (self.path / WEIGHTS).exists():
            return read_weights_of_run(self.path / WEIGHTS)
        if not path.exists():
            raise UserError(f"{path}: no such file; use another run, or train one with checkpoints")
        checkpoint = read_checkpoint(path)
        if checkpoint is None:
            raise UserError(f"{path}: corrupt checkpoint; copy it again, or retrain")
        if "datamodule_hyper_parameters" not in checkpoint:
            raise UserError(f"{path}: written by an older version, without the input shape and classes; retrain")
        return checkpoint

    @property
    def inputs(self) -> dict[str, Any]:
        """Shape, normalization and classes of the network's input images; see DataModule.setup."""
        return self.checkpoint["datamodule_hyper_parameters"]

    @property
    def temperature(self) -> float:
        """Divisor of the logits, 1 if none was fitted; see calibration/."""
        return self.checkpoint.get("temperature", 1.0)

    def classifier(self, compiled: bool = False) -> "Classifier":
        """Build the classifier with the tested weights, on the CPU, in eval mode and without an optimizer.

        Args:
            compiled: Whether to compile the network as in training.

        Raises:
            UserError: If the weights do not fit the network that the current code builds from the config.
        """
        from pytorch_intro.config.instantiate import instantiate
        from pytorch_intro.config.validate import MODEL_SETTINGS, check_config

        check_config(self.config.classifier, "classifier", MODEL_SETTINGS)
        arguments = {
            "network": self.build_network(),
            "num_classes": len(self.inputs["classes"]),
            "optimizer": None,
            "scheduler": None,
            "tta_flip": self.checkpoint["hyper_parameters"]["tta_flip"],
        }
        if not compiled:
            arguments["compile"] = False
        classifier: Classifier = instantiate(self.config.classifier, "classifier", **arguments)
        self.load_weights(classifier)
        classifier.temperature = self.temperature
        return classifier.eval()

    def tta_network(self) -> "Classifier | TTANetwork":
        """Build what the classifier computes, without Lightning; the classifier itself if it is a class of the user."""
        from pytorch_intro.config.validate import check_value
        from pytorch_intro.training.tta import Shift, TTANetwork

        node = self.config.classifier
        if node.get("_target_") != CLASSIFIER or not {*node} <= {"_target_", "compile", "tta_flip", "tta_shift"}:
            return self.classifier()
        shift = check_value("classifier.tta_shift", node.get("tta_shift", 0), Shift)
        flip = self.checkpoint["hyper_parameters"]["tta_flip"]
        network = TTANetwork(self.build_network(), flip, shift, self.temperature)
        self.load_weights(network)
        return network.eval()

    def build_network(self) -> "nn.Module":
        from pytorch_intro.config.validate import MODEL_SETTINGS, check_config
        from pytorch_intro.training.weights import build_network

        check_config(self.config.model, "model", MODEL_SETTINGS)
        inputs = self.inputs
        shape, num_classes = tuple(inputs["image_shape"]), len(inputs["classes"])
        return build_network(self.config.model, shape, num_classes, load_weights=False)

    def load_weights(self, classifier: "Classifier | TTANetwork") -> None:
        from pytorch_intro.training.weights import library_state

        checkpoint, network = self.checkpoint, classifier.network
        changed = changed_code(checkpoint.get("code", {}))
        try:
            if "state_dict" in checkpoint:
                classifier.load_state_dict(checkpoint["state_dict"])
            else:  # of model.safetensors, with the names of timm or torchvision
                names = dict(zip(library_state(network), network.state_dict(), strict=True))
                network.load_state_dict({names.get(key, key): value for key, value in checkpoint["tensors"].items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            line = f"checkpoint does not match the model built from its config ({reason})"
            raise UserError(f"{self.path}: {line}; {self.code_to_restore(changed)}, or retrain") from error
        if changed:
            log.warning("code: %s changed since the run was trained; its answers may differ", ", ".join(changed))

    def code_to_restore(self, changed: Sequence[str]) -> str:
        """Return the remedy if the weights do not fit the code, some files of which may have changed."""
        commit = self.result.get("git_commit") or ""
        files = ", ".join(changed) or "the code"
        has_all = commit and not commit.endswith("-dirty")
        return f"restore {files} of commit {commit}" if has_all else f"restore {files} as it was"


def read_weights_of_run(file: Path) -> dict[str, Any]:
    """Return the tensors of a run's model.safetensors, and what its metadata has of the checkpoint."""
    check_installed(str(file), ["safetensors"], "hub")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            record = json.loads((opened.metadata() or {})["run"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        return {
            "tensors": tensors,
            "datamodule_hyper_parameters": dict(record["datamodule_hyper_parameters"]),
            "hyper_parameters": dict(record["hyper_parameters"]),
            "temperature": float(record["temperature"]),
        }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file}: not the weights of a run that export.py push=USER/NAME uploaded ({first_lines(error)}); use "
            "another repository or run"
        ) from error


def apply_overrides(recorded: DictConfig, config: DictConfig, parts: Sequence[str]) -> list[str]:
    """Apply the command line's overrides of some config groups to a run's config, and return all overridden keys.

    Args:
        recorded: Config of the run, changed in place.
        config: Config composed for this command.
        parts: Groups whose choices and single settings are applied, such as data and trainer.
    """
    keys = [text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task]
    choices = [key for key in keys if key in parts]
    for key in choices:
        recorded[key] = config.get(key, {})
    for key in keys:
        if key.startswith("~") and (part := key[1:].partition(".")[0]) in parts and part not in choices:
            raise UserError(f"{key}: settings of a finished run cannot be deleted; use {key[1:]}=null")
        if "/" in key and key.partition("/")[0] in parts:
            raise UserError(f"{key}: has no effect on a finished run, only training augments; leave it out")
        if "." in key and key.partition(".")[0] in parts:
            OmegaConf.update(recorded, key, OmegaConf.select(config, key), merge=False, force_add=True)
    return keys
