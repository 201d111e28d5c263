"""Validate a config: compare its values with the signatures that receive them."""

import functools
import inspect
import json
import typing
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, Literal, cast

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.environment import decode
from pytorch_intro.config.instantiate import describe, place_in_code
from pytorch_intro.config.signatures import has_kwargs

AtLeastMinus1 = Annotated[int, Field(ge=-1)]
Duration = Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | dict[str, float]

# Settings of every model, besides the arguments of its class; see training/weights.py.
MODEL_SETTINGS: dict[str, Any] = {"model.weights": str | None, "model.new_head": bool | None}

# Settings of every loss, likewise; see training/losses.py.
LOSS_SETTINGS: dict[str, Any] = {
    "loss.class_weights": Literal["balanced", "effective_number"]
    | dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    | None,
    "loss.beta": Annotated[float, Field(ge=0, lt=1)],
}

# Settings that were renamed.
RENAMED = {
    "classifier.label_smoothing": "loss.label_smoothing",
    "model.name": "model=timm model.name=NAME",  # also in the recipe finetune, with another model
}

# What settings are called in other projects, by their name here; also with the group before it, as in trainer.epochs.
OTHER_NAMES = {
    "trainer.max_epochs": "epochs epoch num_epochs n_epochs nb_epochs num_train_epochs",
    "trainer.max_steps": "steps num_steps max_iter iterations",
    "trainer.accelerator": "device accelerator cuda mps cpu use_cuda use_gpu",
    "trainer.devices": "gpus num_gpus n_gpus ngpus num_devices",
    "trainer=gpu": "gpu",
    "trainer.precision": "amp fp16 bf16 mixed_precision half dtype",
    "trainer.gradient_clip_val": "clip grad_clip clip_grad gradient_clip max_grad_norm",
    "trainer.limit_train_batches": "limit_batches",
    "data.batch_size": "batch bs batchsize train_batch_size",
    "data.root": "root data_dir data_path dataset_path dir folder train_dir image_dir images",
    "data.image_size": "img_size imgsz imagesize input_size size resolution",
    "data.num_workers": "workers n_workers",
    "data.val_fraction": "val_split validation_split val_size val_ratio val_percent",
    "data.test_fraction": "test_split test_size test_ratio",
    "data.num_folds": "folds k_folds kfold n_splits n_folds",
    "data.sampler": "weighted_sampler",
    "data": "dataset",
    "data/augment": "augment augmentation augmentations transforms transform aug data_augmentation",
    "model": "network arch architecture backbone net model_name",
    "model.weights": "weights checkpoint_path",
    "model=timm": "pretrained",
    "optimizer.lr": "lr learning_rate learningrate lr0 base_lr",
    "optimizer.weight_decay": "wd decay l2",
    "optimizer": "opt optim",
    "scheduler": "lr_scheduler schedule lr_schedule",
    "callbacks=early_stopping": "patience early_stop early_stopping",
    "callbacks=ema": "ema",
    "loss": "criterion loss_fn",
    "loss.class_weights": "class_weight weight_classes",
    "loss.label_smoothing": "smoothing",
    "metrics": "metric",
    "resume": "ckpt ckpt_path checkpoint resume_from resume_from_checkpoint",
    "name": "run_name experiment_name exp_name project",
    "outputs": "output output_dir out_dir outdir out save_dir log_dir logdir",
    "logger": "log tensorboard wandb",
    "seed": "random_seed random_state manual_seed",
    "compile": "torch_compile",
}
ALIASES = {other: name for name, others in OTHER_NAMES.items() for other in others.split()}

# Settings that are not arguments of a target, and ranges that the signature of Lightning's Trainer does not state.
SETTINGS: dict[str, Any] = (
    {
        "name": str | int | None,
        "seed": Annotated[int, Field(ge=0, lt=2**32)],
        "compile": bool | Literal["reduce-overhead", "max-autotune"],
        "calibrate": bool | None,
        "find": Literal["lr"] | None,
        "overwrite": bool,
        "resume": str | None,
        "allow": list[str],
        "outputs": str,
        "run_dir": str,
        "trainer.threads": PositiveInt | Literal["auto"],
        "trainer.num_nodes": PositiveInt,
        "trainer.max_epochs": AtLeastMinus1 | Literal["auto"] | None,
        "trainer.max_steps": AtLeastMinus1,
        "trainer.max_time": Duration | None,
        "trainer.check_val_every_n_epoch": PositiveInt | None,
        "trainer.val_check_interval": PositiveInt | Annotated[float, Field(ge=0, le=1)] | Duration | None,
        "trainer.accumulate_grad_batches": PositiveInt,
        "trainer.gradient_clip_val": NonNegativeFloat | None,
        "trainer.log_every_n_steps": NonNegativeInt | None,
    }
    | MODEL_SETTINGS
    | LOSS_SETTINGS
)

# Pydantic's words for types in JSON, and for the pattern of max_time, in plain words.
REWORDED = {"a valid array": "a list", "an object": "a mapping", " after validation": ""}
REWORDED |= {r"match pattern '^\d+:\d\d:\d\d:\d\d$'": "be DD:HH:MM:SS"}


def check_config(config: DictConfig | ListConfig, key: str = "", settings: dict[str, Any] = SETTINGS) -> None:
    """Validate every value of a config, before any work is done; raise a UserError for a wrong key, type or range.

    Text, as from the environment, is converted to the wanted type in place.

    Args:
        config: Config or a node of it; values of a `_target_` are validated by its signature. The node `sweep` is
            skipped: sweeps/ validates it.
        key: Dotted key of the node.
        settings: Type hints by dotted key, of values that are not arguments of a target.
    """
    is_call = isinstance(config, DictConfig) and "_target_" in config
    if is_call:
        check_call(cast(DictConfig, config), key, settings)
    for name, value in config.items() if isinstance(config, DictConfig) else enumerate(config):
        path = f"{key}.{name!s}".lstrip(".")
        if path == "sweep":
            continue
        if path in settings:
            check_item(config, name, settings[path], path)
        elif isinstance(value, DictConfig) or (isinstance(value, ListConfig) and (is_call or _has_target(value))):
            if not is_call or _has_target(value):  # otherwise check_call has compared it as a whole
                check_config(value, path, settings)
        elif not is_call and value is not None and isinstance(config, DictConfig):
            raise UserError(unknown_key(path, settings))


def unknown_key(key: str, known_keys: Iterable[str]) -> str:
    """Return the error line for an unknown key, with a suggestion: the same name elsewhere, or a similar key."""
    known = [other for other in known_keys if key.startswith("hydra.") or not other.startswith("hydra.")]
    group, _, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == group]
    names = {other.rpartition(".")[2]: other for other in reversed(known)}
    nearest = (
        RENAMED.get(key)
        or alias(group, name, known)
        or names.get(name)
        or next(iter(get_close_matches(key, siblings, n=1, cutoff=0.5)), None)
        or next((names[match] for match in get_close_matches(name, names, n=1, cutoff=0.7)), None)
    )
    return f"{key}: unknown setting; {f'did you mean {nearest}?' if nearest else 'see --cfg job'}"


def alias(group: str, name: str, known: Sequence[str]) -> str | None:
    """Return the setting that other projects call `name`, if it is known here and in this group."""
    meant = ALIASES.get(name.lower(), "")
    setting = meant.partition("=")[0]  # or a config group
    is_here = group in ("", setting.rpartition(".")[0] or setting)
    dotted = setting.replace("/", ".")
    return meant if is_here and any(f"{other}.".startswith(f"{dotted}.") for other in known) and meant else None


def check_call(node: DictConfig, key: str, settings: Iterable[str] = ()) -> None:
    """Validate the values of a node, except for `settings`, by the signature of its `_target_`."""
    try:
        target = hydra.utils.get_object(node["_target_"])
        signature = inspect.signature(target)
    except Exception as error:  # any kind: it may be the user's module
        cause, given = error.__cause__ or error, f"{key}._target_={node['_target_']}"
        if place := place_in_code(cause):
            raise UserError(f"{given}: cannot be imported ({describe(cause)} in {place}); fix it") from error
        raise UserError(f"{given}: cannot be imported ({first_lines(error)}); check the spelling") from error
    if key == "model":
        check_network(str(node["_target_"]), signature)
    try:
        hints = type_hints(target)
    except NameError:  # annotations that only type checkers import
        hints = {}
    takes_any = has_kwargs(signature)
    hints |= {"_partial_": bool, "_recursive_": bool}
    for name in node:
        if f"{key}.{name!s}" in settings:
            continue
        if name == "mode" and node[name] is None and "monitor" in node:  # follows from the metric that is monitored
            continue
        is_argument = str(name) not in ("_target_", "_convert_", "_args_", "_partial_", "_recursive_")
        if is_argument and name not in signature.parameters and not takes_any:
            raise UserError(unknown_key(f"{key}.{name!s}", [f"{key}.{known}" for known in signature.parameters]))
        if name in hints:
            check_item(node, name, hints[str(name)], f"{key}.{name!s}")


def type_hints(target: Any) -> dict[str, Any]:
    """Return the type hints of a function's parameters; of a class with **kwargs, also those of its base class."""
    if not inspect.isclass(target):
        return typing.get_type_hints(target, include_extras=True)
    hints = typing.get_type_hints(target.__init__, include_extras=True)
    base = target.__base__
    if base in (None, object) or not has_kwargs(inspect.signature(target)):
        return hints
    return type_hints(base) | hints


def check_network(target: str, signature: inspect.Signature) -> None:
    """Raise a UserError if a network cannot be built for a shape of images and a number of classes."""
    library = target.partition(".")[0]
    is_of_library = library in ("torchvision", "timm")
    missing = [name for name in ("image_shape", "num_classes") if name not in signature.parameters]
    if not missing or (has_kwargs(signature) and not is_of_library):
        return
    remedy = "add them to its parameters, or wrap it in a class that has them"
    if is_of_library:
        remedy = f"use model={library} model.name={target.rpartition('.')[2]}"
    raise UserError(f"model._target_={target}: takes no {' and no '.join(missing)}; {remedy}")


def check_item(node: DictConfig | ListConfig, name: Any, hint: Any, key: str) -> None:
    """Validate a value of a node and convert it in place; see check_value. A reference stays as it is."""
    value = node[name]
    checked = check_value(key, value, hint)
    if checked is not value and not OmegaConf.is_interpolation(node, name):
        node[name] = checked


def check_value(key: str, value: Any, hint: Any) -> Any:
    """Validate a value or node by a type hint, in pydantic's strict mode: true is not an integer.

    Return the value; a text whose value on the command line would be valid, such as "5" for an integer, is converted.
    """
    original = value
    if isinstance(value, (DictConfig, ListConfig)):
        if _has_target(value):
            return original
        value = OmegaConf.to_container(value, resolve=True)
    adapter = type_adapter(hint)
    if adapter is None:
        return original
    try:
        _validate(adapter, value)
        return original
    except ValidationError as error:
        with suppress(ValidationError):
            decoded = decode(value)
            _validate(adapter, decoded)
            return decoded
        shown = value if isinstance(value, str) else json.dumps(value)
        raise UserError(f"{key}={shown}: invalid value; {_expectation(error)}") from None


def _validate(adapter: TypeAdapter[Any], value: Any) -> None:
    encoded = json.dumps(value, ensure_ascii=False).encode(errors="replace")  # paths need not be valid UTF-8
    try:
        adapter.validate_json(encoded, strict=True)
    except ValidationError as error:
        is_abstract = any(detail["type"] == "needs_python_object" for detail in error.errors())
        if not is_abstract or isinstance(value, str):  # a text is a Sequence, too
            raise
        with suppress(ValidationError):  # a class such as numbers.Number, of which JSON has no instance
            adapter.validate_python(value, strict=True)
            return
        raise


@functools.cache
def type_adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return pydantic's validator for a type hint, None if it has none; a sweep needs each of them for every job."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type with a config of its own, such as a dataclass
        return TypeAdapter(hint)


def _expectation(error: ValidationError) -> str:
    """Return what is expected: the messages of pydantic, one for each type of a union."""
    details = [detail for detail in error.errors() if detail["type"] not in ("needs_python_object", "none_required")]
    expected = " or ".join(dict.fromkeys(detail["msg"] for detail in details)).lower()
    for message, words in REWORDED.items():
        expected = expected.replace(message, words)
    return expected or "use another value"


def _has_target(value: DictConfig | ListConfig) -> bool:
    nodes = value.values() if isinstance(value, DictConfig) else value
    return "_target_" in value or any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)
