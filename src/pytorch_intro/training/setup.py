"""Build the objects of a training from a config, and check them against each other before any work is done."""

import logging
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.groups import config_file
from pytorch_intro.config.instantiate import explained_construction, instantiate
from pytorch_intro.config.paths import command_line
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.losses import build_loss
from pytorch_intro.training.monitors import check_monitors, chosen_metrics
from pytorch_intro.training.resume import find_checkpoint
from pytorch_intro.training.schedulers import build_schedule, schedule_class
from pytorch_intro.training.trainer import build_trainer
from pytorch_intro.training.weights import build_network, checkpoint_input_settings, input_settings

log = logging.getLogger(__name__)

AUTO_EPOCHS = (6, 100)  # fewest and most, with trainer.max_epochs=auto


def build_experiment(config: DictConfig, hardware: dict[str, Any]) -> tuple[DataModule, Classifier, Trainer]:
    """Seed all random number generators, then build what a config describes.

    The trainer and the optimizer come first: their settings are checked before images are read.
    `hardware` are the accelerator and precision, as resolve_hardware returns them.
    """
    check_length(config)
    check_checkpoint_folder(config)
    check_monitors(config)
    seed_everything(config.seed, workers=True, verbose=False)
    trainer = build_trainer(config.trainer, config.callbacks, config.logger, hardware, chosen_metrics(config))
    check_optimization(config, trainer)
    check_sampling(config)
    resumed = checkpoint_of(config)
    datamodule = build_datamodule(config, resumed)
    choose_epochs(config, datamodule, trainer)
    check_monitors(config, has_validation=datamodule.val_set is not None)
    check_calibration(config, has_validation=datamodule.val_set is not None)
    check_plateau(config, has_validation=datamodule.val_set is not None)
    classifier = build_classifier(config, datamodule, load_weights=resumed is None)
    if config.get("finetune"):  # changes what is trained, and how; see pretrained/finetuning.py
        instantiate(config.finetune, "finetune")(datamodule, classifier, trainer)
    warn_about_slow_average(config, datamodule, classifier, trainer)
    return datamodule, classifier, trainer


def check_length(config: DictConfig) -> None:
    """Raise a UserError if the settings leave nothing to train: the run would end with its initial weights."""
    trainer = config.trainer
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer.get(name) == 0:
            raise UserError(f"trainer.{name}={trainer[name]}: trains nothing; use 1 or more, or leave it out")
    if trainer.get("max_time") is not None and not re.search("[1-9]", str(trainer.max_time)):
        raise UserError(f"trainer.max_time={trainer.max_time}: trains nothing; use a longer time, as in 00:00:10:00")


def choose_epochs(config: DictConfig, datamodule: DataModule, trainer: Trainer) -> None:
    """Replace trainer.max_epochs=auto, in config and trainer, by a number that suits the number of images."""
    epochs = config.trainer.max_epochs
    if epochs == "auto" and config.trainer.max_steps != -1:
        epochs = -1
    elif epochs == "auto":
        if datamodule.min_steps is None:
            raise UserError(
                "trainer.max_epochs=auto: needs data.min_steps; set data.min_steps=300, or a number of epochs"
            )
        fewest, most = AUTO_EPOCHS
        steps = steps_per_epoch(datamodule, config.trainer.accumulate_grad_batches)
        epochs = min(max(math.ceil(datamodule.min_steps / steps), fewest), most)
        reason = (
            f"{datamodule.epoch_size:,} images are {steps:,} step(s) per epoch (data.min_steps={datamodule.min_steps})"
        )
        if config.model.get("weights") is not None:
            epochs, reason = fewest, "the network starts from weights (model.weights)"
        log.info(f"epochs: {epochs}, since {reason}; trainer.max_epochs=N sets another number")
        if epochs > fewest:
            suggest_finetuning(config)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.fit_loop.max_epochs = epochs
    config.trainer.max_epochs = epochs  # recorded, so that a resumed run has the same number


def steps_per_epoch(datamodule: DataModule, accumulated: int, limit: float = 1.0) -> int:
    """Return the number of optimizer steps; limit is trainer.limit_train_batches, a number (int) or a share (float)."""
    batches = math.ceil(datamodule.epoch_size / datamodule.batch_size)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return math.ceil(batches / accumulated)


def suggest_finetuning(config: DictConfig) -> None:
    """Log the command that starts from a pretrained network, unless its config was deleted."""
    if config_file("experiment/finetune").is_file():
        command = shlex.join([*command_line("train"), "experiment=finetune", f"data.root={config.data.root}"])
        log.info(f"few images: a pretrained network is usually far more accurate: {command}")


def check_trained(trainer: Trainer) -> None:
    """Raise a UserError if the training ended before its first step."""
    if trainer.global_step == 0:
        raise UserError(
            "trainer.max_time, callbacks: the training was stopped before its first step; use a longer time, or remove "
            "the callback that stops it"
        )


def warn_about_slow_average(
    config: DictConfig, datamodule: DataModule, classifier: Classifier, trainer: Trainer
) -> None:
    """Log a warning if the run has too few steps for callbacks.ema: the average would keep the initial weights."""
    decay = OmegaConf.select(config, "callbacks.ema.decay")
    is_trained = all(parameter.requires_grad for parameter in classifier.network.parameters())
    epochs, limit = trainer.max_epochs or 0, trainer.limit_train_batches
    if decay is None or not is_trained or epochs < 1:
        return
    steps = max(1, steps_per_epoch(datamodule, trainer.accumulate_grad_batches, limit) * epochs)
    if (share := decay**steps) > 0.1:
        log.warning(
            f"callbacks.ema.decay={decay}: after {steps:,} steps, {share:.0%} of the average are the initial weights; "
            f"use callbacks.ema.decay={max(0.5, 1 - 5 / steps):.3g} or train longer"
        )


def check_calibration(config: DictConfig, has_validation: bool) -> None:
    """Raise a UserError if calibrate=true is impossible."""
    if not config.get("calibrate"):
        return
    if not config.callbacks.get("calibration"):
        raise UserError("calibrate=true: needs callbacks.calibration; use callbacks=default, or calibrate=false")
    if not has_validation or config.trainer.limit_val_batches == 0:
        raise UserError(
            "calibrate=true: the run has no validation data; set data.val_fraction=0.1, remove "
            "trainer.limit_val_batches, or use calibrate=false"
        )


def check_optimization(config: DictConfig, trainer: Trainer) -> None:
    """Build the optimizer and its schedule for a dummy parameter: their factories check values only when called."""
    total_steps = math.inf if trainer.max_epochs == trainer.max_steps == -1 else 10
    with explained_construction("optimizer", config.optimizer):
        optimizer = instantiate(config.optimizer, "optimizer")([torch.nn.Parameter(torch.zeros(1))])
    with explained_construction("scheduler", config.scheduler):
        build_schedule(instantiate(config.scheduler, "scheduler"), optimizer, total_steps, steps_per_epoch=1)


def check_plateau(config: DictConfig, has_validation: bool) -> None:
    """Raise a UserError if a schedule that follows a metric of the validation would miss it after some epoch."""
    target, trainer = schedule_class(instantiate(config.scheduler, "scheduler")), config.trainer
    if not (target and issubclass(target, ReduceLROnPlateau)):
        return
    if not has_validation or trainer.limit_val_batches == 0 or trainer.check_val_every_n_epoch != 1:
        raise UserError(
            f"scheduler: {target.__name__} needs a validation after every epoch; set data.val_fraction=0.1 and "
            "trainer.check_val_every_n_epoch=1, remove trainer.limit_val_batches, or use scheduler=cosine"
        )


def check_sampling(config: DictConfig) -> None:
    """Check the settings of the sampler against others, before images are read."""
    data, sampler, samples = config.data, config.data.get("sampler"), config.data.get("samples_per_epoch")
    key = "data.sampler" if sampler is not None else "data.samples_per_epoch"
    if samples is not None and samples < data.batch_size:
        raise UserError(
            f"data.samples_per_epoch={samples}: less than a batch of {data.batch_size}; use a larger value, or a "
            "smaller data.batch_size"
        )
    if sampler is not None and not data.shuffle:
        raise UserError("data.shuffle=false: data.sampler samples in random order; remove one of them")
    if config.trainer.get("overfit_batches") and (sampler is not None or samples is not None):
        raise UserError(f"{key}: trainer.overfit_batches trains on the same batches in every epoch; remove one of them")
    if sampler is not None and OmegaConf.select(config, "loss.class_weights") is not None:
        raise UserError(
            "loss.class_weights: data.sampler weighs the classes already; use loss.class_weights=null, or "
            "data.sampler=null"
        )


def build_datamodule(config: DictConfig, resumed: tuple[dict[str, Any], str] | None = None) -> DataModule:
    """Build the data module, with the training and validation images loaded.

    Preprocessing settings that are null in the config come from model.weights, if these have any; a resumed run takes
    them from its checkpoint, as checkpoint_of returns it.
    """
    settings = checkpoint_input_settings(*resumed) if resumed else input_settings(config.model)
    source = settings.pop("source", None)
    settings = {name: value for name, value in settings.items() if name in config.data and config.data[name] is None}
    datamodule: DataModule = instantiate(config.data, "data", **settings)
    if settings:
        own = {name: config.data.get(f"dataset_{name}") for name in settings}
        replaced = {name: list(value) for name, value in own.items() if value not in (None, settings[name])}
        reason = f"from {source}" + (f", instead of {describe_settings(replaced)} of the dataset" if replaced else "")
        log.info("input: %s (%s)", describe_settings(settings), reason)
        datamodule.settings_from_weights = settings
    datamodule.setup("fit")
    return datamodule


def checkpoint_of(config: DictConfig) -> tuple[dict[str, Any], str] | None:
    """Return the checkpoint that the run resumes from, and its path; None for a new run.

    It replaces model.weights, which need not exist any more. None also without model.weights.
    """
    if config.model.get("weights") is None or config.get("overwrite") or not config.get("run_dir"):
        return None
    path, checkpoint = find_checkpoint(Path(config.run_dir))
    return (checkpoint, str(path)) if checkpoint else None


def describe_settings(settings: Mapping[str, Any]) -> str:
    """Return preprocessing settings as text, as in "224 pixels, mean 0.5 0.5 0.5, bicubic, crop 0.875"."""
    forms = {
        "image_size": "{} pixels",
        "mean": "mean {}",
        "std": "std {}",
        "interpolation": "{}",
        "crop_pct": "crop {}",
    }
    parts = []
    for name in [name for name in forms if name in settings]:
        values = settings[name] if isinstance(settings[name], list) else [settings[name]]
        text = " ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)
        parts.append(forms[name].format(text))
    return ", ".join(parts)


def build_classifier(config: DictConfig, datamodule: DataModule, load_weights: bool = True) -> Classifier:
    """Build the LightningModule, around a network for the image shape and number of classes of the data.

    `load_weights` is false if the weights of a checkpoint replace model.weights anyway.
    """
    num_classes = len(datamodule.classes)
    network = build_network(config.model, datamodule.image_shape, num_classes, load_weights, datamodule.classes)
    dry_run(network, datamodule.image_shape, num_classes)
    values = {
        "network": network,
        "num_classes": num_classes,
        "optimizer": instantiate(config.optimizer, "optimizer"),
        "scheduler": instantiate(config.scheduler, "scheduler"),
    }
    if "loss" in config:  # benchmarks use plain cross-entropy
        values["loss"] = build_loss(config.loss, datamodule)
    if config.classifier.get("tta_flip") is None:
        values["tta_flip"] = datamodule.augment.has_hflip
    classifier: Classifier = instantiate(config.classifier, "classifier", **values)
    return classifier


def dry_run(network: object, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Check that the network accepts two black images, returns logits (2, num_classes), and can be trained."""
    name, shape, expected = type(network).__name__, (2, *image_shape), (2, num_classes)
    if not isinstance(network, torch.nn.Module):
        raise UserError(f"model: a {name}, not a torch.nn.Module; use a class derived from it")
    network.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            output = network(torch.zeros(shape))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # any kind: it may be the user's class
        raise UserError(
            f"model: {name} does not accept images of shape {shape} ({type(error).__name__}: {first_lines(error)}); "
            "choose another model, or another data.image_size, or fix its forward"
        ) from error
    returned = f"model: {name} returns"
    if not isinstance(output, torch.Tensor):
        raise UserError(f"{returned} a {type(output).__name__}, expected a tensor {expected}; return the logits alone")
    if tuple(output.shape) != expected:
        raise UserError(
            f"{returned} {tuple(output.shape)} for images of shape {shape}, expected {expected}; choose another "
            "model, or return one logit per class"
        )
    if not output.is_floating_point():
        raise UserError(f"{returned} {output.dtype} values, expected floating point; return the logits")
    if not output.requires_grad:
        raise UserError(
            f"model: the logits of {name} depend on no parameter with requires_grad=True, so nothing can be trained; "
            "add parameters, or remove no_grad() and detach()"
        )
    network.train()


def check_checkpoint_folder(config: DictConfig) -> None:
    """Raise a UserError if the checkpoints would be in another folder than the other commands look in."""
    folder = OmegaConf.select(config, "callbacks.checkpoint.dirpath")
    if folder is not None and config.get("run_dir") and Path(folder) != Path(config.run_dir, "checkpoints"):
        raise UserError(
            f"callbacks.checkpoint.dirpath={folder}: checkpoints belong in the run folder, where eval.py and resume "
            "look for them; leave it out, and set outputs=DIR for all of the run"
        )
