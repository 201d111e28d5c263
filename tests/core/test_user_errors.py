"""Every user mistake exits with code 2 and one line that names the key or file, the problem and the remedy."""

import re
from pathlib import Path

import pytest
import torch
from conftest import Command
from explained import (
    ABOVE_0,
    AN_INT_OR_SHARE,
    AT_LEAST_0,
    AT_LEAST_2,
    AT_MOST_1,
    BELOW_1,
    BOOLEAN,
    INTEGER,
    LIST,
    NO_CHOICE,
    NUMBER,
    UNKNOWN,
    WRONG_VALUE,
    assert_explained,
)

from pytorch_intro.common.version import __version__

CLASSES = "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"


def weights_of_0() -> str:
    return "{" + ", ".join(f"{name}: 0" for name in CLASSES) + "}"


# The arguments of each mistake, the names in its message, and regular expressions of its problem and its remedy.
MISTAKES: dict[str, tuple[list[str], list[str], str, str]] = {
    "unknown key": (["trainer.max_epoch=3"], ["trainer.max_epoch"], UNKNOWN, "did you mean trainer.max_epochs"),
    "unknown top-level key": (["batch_size=3"], ["batch_size"], UNKNOWN, "did you mean data.batch_size"),
    "unknown key with +": (
        ["+optimizer.momentun=0.9", "optimizer=sgd"],
        ["optimizer.momentun"],
        UNKNOWN,
        "did you mean optimizer.momentum",
    ),
    "unknown top-level key with +": (["+sead=3"], ["sead"], UNKNOWN, "did you mean seed"),
    **{
        f"name of other projects, {setting}": (
            [setting],
            [setting.partition("=")[0].lstrip("+")],
            UNKNOWN,
            f"did you mean {meant}\\?",
        )
        for setting, meant in {
            "epochs=3": "trainer.max_epochs",
            "trainer.epochs=3": "trainer.max_epochs",
            "+epochs=3": "trainer.max_epochs",
            "augment=[flip]": "data/augment",
            "augment=flip": "data/augment",
            "device=cpu": "trainer.accelerator",
            "gpus=1": "trainer.devices",
            "lr=0.1": "optimizer.lr",
            "learning_rate=0.1": "optimizer.lr",
            "optimizer.learning_rate=0.1": "optimizer.lr",
            "root=photos": "data.root",
            "patience=3": "callbacks=early_stopping",
            "pretrained=true": "model=timm",
            "checkpoint=last.ckpt": "resume",
        }.items()
    },
    "momentum of an optimizer without": (
        ["optimizer=adamw", "optimizer.momentum=0.9"],
        ["optimizer.momentum"],
        UNKNOWN,
        "needs optimizer=muon or optimizer=sgd",
    ),
    "network of torchvision as a choice": (
        ["model=resnet50"],
        ["model=resnet50"],
        NO_CHOICE,
        "model=torchvision model.name=resnet50",
    ),
    "network of torchvision as a target": (
        ["model._target_=torchvision.models.resnet18"],
        ["model._target_=torchvision.models.resnet18"],
        "takes no image_shape and no num_classes",
        "use model=torchvision model.name=resnet18",
    ),
    "network without an image shape": (
        ["model._target_=torch.nn.Linear"],
        ["model._target_=torch.nn.Linear"],
        "takes no image_shape and no num_classes",
        "add them to its parameters",
    ),
    "checkpoint as a model": (
        ["model=a/best.ckpt"],
        ["model=a/best.ckpt"],
        "not a choice",
        r"model\.weights=a/best\.ckpt",
    ),
    "choice without its group": (["resnet"], ["resnet"], "not a setting", "model=resnet"),
    "checkpoints outside of the run folder": (
        ["callbacks.checkpoint.dirpath=/elsewhere"],
        ["callbacks.checkpoint.dirpath=/elsewhere"],
        "belong in the run folder",
        "leave it out.*outputs=DIR",
    ),
    **{
        f"group {group} deleted": ([f"~{group}"], [f"~{group.partition('=')[0]}: "], "group cannot be deleted", remedy)
        for group, remedy in {
            "logger": "use logger=none$",
            "callbacks": "use callbacks=none$",
            "metrics": r"use metrics=\[\]$",
            "data/augment": r"use data/augment=\[\]$",
            "logger=tensorboard": "use logger=none$",
            "trainer": "choose one of .*default",
            "optimizer": "choose one of .*sgd",
            "scheduler": "choose one of .*linear",
            "data": "choose one of .*sample",
            "model": "choose one of .*cnn",
            "loss": "choose one of .*focal",
        }.items()
    },
    "unknown choice": (["model=cmn"], ["model=cmn"], NO_CHOICE, "cnn, mlp, resnet"),
    "unknown group": (["modle=mlp"], ["modle"], UNKNOWN, r"did you mean model\b"),
    "empty choice": (["model="], ["model="], NO_CHOICE, "cnn, mlp, resnet"),
    "not an override": (["epochs"], ["epochs"], "not a setting", "KEY=VALUE.*--help"),
    "unknown flag": (["--epochs"], ["--epochs"], "unrecognized|[Uu]nknown", "--help"),
    "run_dir set directly": (
        ["run_dir=elsewhere"],
        ["run_dir=elsewhere"],
        "cannot be set directly",
        "use outputs=DIR and name=NAME",
    ),
    **{
        f"{group} without _partial_": (
            [f"{group}._partial_=false"],
            [f"{group}: "],
            r"missing \d required positional argument",
            rf"add _partial_: true to its file, or \+\+{group}\._partial_=true",
        )
        for group in ("optimizer", "scheduler")
    },
    "_partial_ is not a boolean": (
        ["scheduler._partial_=perhaps"],
        ["scheduler._partial_=perhaps"],
        WRONG_VALUE,
        BOOLEAN,
    ),
    "sweep without -m": (["seed=0,1"], ["seed=0,1"], "[Aa]mbiguous", "--multirun|-m"),
    "batch size 0": (["data.batch_size=0"], ["data.batch_size=0"], WRONG_VALUE, ABOVE_0),
    "batch size is a word": (["data.batch_size=many"], ["data.batch_size=many"], WRONG_VALUE, INTEGER),
    "fractional batch size": (["data.batch_size=1.5"], ["data.batch_size=1.5"], WRONG_VALUE, INTEGER),
    "val_fraction above 1": (["data.val_fraction=1.5"], ["data.val_fraction=1.5"], WRONG_VALUE, BELOW_1),
    "val_fraction too small": (
        ["data.val_fraction=1e-9"],
        ["data.val_fraction=1e-09"],
        "1,?600 images.* empty",
        "change|increase|raise|larger",
    ),
    "negative lr": (["optimizer.lr=-1"], ["optimizer.lr=-1"], WRONG_VALUE, AT_LEAST_0),
    "lr rejected by torch": (
        ["optimizer=adamw", "optimizer.lr=-1"],
        ["optimizer.lr=-1"],
        "[Ii]nvalid learning rate",
        "use another value",
    ),
    "lr is a word": (["optimizer.lr=high"], ["optimizer.lr=high"], WRONG_VALUE, NUMBER),
    "negative epochs": (
        ["trainer.max_epochs=-3"],
        ["trainer.max_epochs=-3"],
        WRONG_VALUE,
        "greater than or equal to -1|at least -1|>= -1",
    ),
    **{
        f"nothing to train, by {setting}": ([setting], [setting.partition("{")[0]], "trains nothing", remedy)
        for setting, remedy in {
            "trainer.max_epochs=0": "use 1 or more",
            "trainer.max_steps=0": "use 1 or more",
            "trainer.limit_train_batches=0": "use 1 or more",
            "trainer.limit_train_batches=0.0": "use 1 or more",
            "trainer.max_time=00:00:00:00": "use a longer time, as in 00:00:10:00",
            "trainer.max_time={minutes: 0}": "use a longer time, as in 00:00:10:00",
        }.items()
    },
    "endless training with a schedule that needs an end": (
        ["trainer.max_epochs=-1"],
        ["scheduler", "trainer.max_epochs"],
        "unknown number of steps",
        "trainer.max_steps.*scheduler=constant",
    ),
    "negative seed": (["seed=-1"], ["seed=-1"], WRONG_VALUE, AT_LEAST_0),
    "seed is null": (["seed=null"], ["seed=null"], WRONG_VALUE, INTEGER),
    "overwrite is a word": (["overwrite=perhaps"], ["overwrite=perhaps"], WRONG_VALUE, BOOLEAN),
    "negative workers": (["data.num_workers=-1"], ["data.num_workers=-1"], WRONG_VALUE, AT_LEAST_0),
    "mean of pixels up to 255": (["data.mean=[73]"], ["data.mean=[73]"], WRONG_VALUE, "less than or equal to 1"),
    "mean is not a number": (["data.mean=[a]"], ['data.mean=["a"]'], WRONG_VALUE, NUMBER),
    "unknown precision": (["trainer.precision=3"], ["trainer.precision=3"], WRONG_VALUE, "bf16-mixed.*32-true"),
    "unknown accelerator": (
        ["trainer.accelerator=abacus"],
        ["trainer.accelerator=abacus"],
        ": not available",
        r"\bcpu\b.*trainer\.accelerator=auto\b",
    ),
    "devices is a word": (["trainer.devices=two"], ["trainer.devices=two"], WRONG_VALUE, r"\bauto\b"),
    "0 devices": (
        ["trainer.devices=0"],
        ["trainer.devices=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "more devices than available": (
        ["trainer.devices=999"],
        ["trainer.devices=999"],
        r"only \d+.*trainer\.accelerator=cpu",
        r"trainer\.devices=auto",
    ),
    "target does not exist": (
        ["model._target_=torch.nn.Nonsense"],
        ["model._target_=torch.nn.Nonsense"],
        "cannot be imported",
        "'Nonsense' is importable|[Cc]heck",
    ),
    "fractional devices": (["trainer.devices=1.5"], ["trainer.devices=1.5"], WRONG_VALUE, INTEGER),
    "null instead of a choice": (["logger=null"], ["logger=null: "], "is a config group", "one of its choices.*--help"),
    "missing value": (["model.width=???"], ["model.width"], "[Mm]issing", "--cfg job"),
    "interpolation of an unknown key": (["trainer.max_epochs=${epochs}"], ["'epochs'"], "not found", "--cfg job"),
    "mean for another number of channels": (
        ["data.mean=[0.2,0.3]"],
        ["data.mean=[0.2, 0.3]"],
        "1 channel",
        "one value.*null",
    ),
    "unknown argument of a function": (["+scheduler.peak=3"], ["scheduler.peak"], UNKNOWN, r"did you mean scheduler\."),
    "warm-up longer than training": (
        ["scheduler.warmup_fraction=2"],
        ["scheduler.warmup_fraction=2"],
        WRONG_VALUE,
        BELOW_1,
    ),
    "name outside of outputs": (
        ["name=../elsewhere"],
        ["name='../elsewhere'"],
        "not a valid folder name",
        "letters, digits",
    ),
    "reserved name": (["name=sweeps"], ["name='sweeps'"], "not sweeps", "letters, digits"),
    "unknown experiment": (
        ["experiment=fastest"],
        ["experiment=fastest"],
        NO_CHOICE,
        "best, fast, finetune, good, photos_scratch",
    ),
    "unknown augmentation": (
        ["data/augment=[flop]"],
        ["data/augment", "flop"],
        NO_CHOICE,
        "did you mean flip",
    ),
    "max_time with a schedule that needs an end": (
        ["trainer.max_epochs=null", "trainer.max_time=00:01:00:00"],
        ["scheduler", "trainer.max_epochs"],
        "unknown number of steps",
        "trainer.max_steps.*scheduler=constant",
    ),
    "setting of an augmentation that is not used": (
        ["data.augment.crop.padding=2"],
        ["data.augment.crop.padding"],
        UNKNOWN,
        r"it needs data/augment=crop",
    ),
    "setting of an optimizer that is not used": (
        ["optimizer.nesterov=true"],
        ["optimizer.nesterov"],
        UNKNOWN,
        r"it needs optimizer=sgd",
    ),
    "a list instead of a choice": (
        ["data.augment=[flip]"],
        ["data.augment"],
        "is a config group",
        r"use data/augment=\[flip\]",
    ),
    "key that is not ASCII": (["+größe=3"], ["+größe=3", "'+größe'"], "invalid key", "letters from a to z"),
    "value that cannot be parsed": (["optimizer.lr=ü"], ["optimizer.lr=ü"], "invalid value", "optimizer.lr='TEXT'"),
    "bracket that is not closed": (["data.mean=[1,2"], ["data.mean=[1,2"], "invalid value", "close brackets"),
    "no outputs": (["outputs=null"], ["outputs=null"], "no folder", "outputs=DIR"),
    "empty outputs": (["outputs="], ["outputs="], "no folder", "outputs=DIR"),
    "name that is not ASCII": (["name=ü"], ["name='ü'"], "not a valid folder name", "letters, digits"),
    "name that looks like a list": (["name=[1,2]"], ["name='[1,2]'"], "not a valid folder name", "letters, digits"),
    "several names of a sweep": (["-m", "name=a,b", "seed=0,1"], ["name"], "cannot be swept", "one value"),
    "crop padding larger than the image": (
        ["data/augment=[crop]", "data.augment.crop.padding=99"],
        ["data.augment", "padding=99"],
        "28 x 28",
        "at most 28",
    ),
    "probability above 1": (
        ["data/augment=[flip]", "data.augment.flip.p=2"],
        ["data.augment.flip.p=2"],
        WRONG_VALUE,
        AT_MOST_1,
    ),
    "reversed range of erasing": (
        ["data/augment=[erasing]", "+data.augment.erasing.scale=[0.5,0.1]"],
        ["data.augment", "scale=[0.5, 0.1]"],
        "lower limit above upper limit",
        "change its settings",
    ),
    "std of 0": (["data.std=[0.0]"], ["data.std=[0.0]"], WRONG_VALUE, ABOVE_0),
    "fold without num_folds": (["data.fold=1"], ["data.fold=1"], "is not set", r"data\.num_folds=5"),
    "fold out of range": (["data.num_folds=3", "data.fold=3"], ["data.fold=3"], "folds are numbered", "0 to 2"),
    "one fold": (["data.num_folds=1"], ["data.num_folds=1"], WRONG_VALUE, AT_LEAST_2),
    "test_fraction above 1": (["data.test_fraction=2"], ["data.test_fraction=2"], WRONG_VALUE, BELOW_1),
    "negative split seed": (["data.split_seed=-1"], ["data.split_seed=-1"], WRONG_VALUE, AT_LEAST_0),
    "negative mixup": (["data.mixup_alpha=-1"], ["data.mixup_alpha=-1"], WRONG_VALUE, AT_LEAST_0),
    "cutmix is NaN": (["data.cutmix_alpha=nan"], ["data.cutmix_alpha=NaN"], WRONG_VALUE, "finite"),
    "image size 0": (["data.image_size=0"], ["data.image_size=0"], WRONG_VALUE, ABOVE_0),
    "unknown resizing": (["data.resize=squash"], ["data.resize=squash"], WRONG_VALUE, "crop.*pad.*stretch"),
    "shuffle is a word": (["data.shuffle=maybe"], ["data.shuffle=maybe"], WRONG_VALUE, BOOLEAN),
    "on_device with workers": (
        ["data.on_device=true", "data.num_workers=1"],
        ["data.num_workers=1", "data.on_device=true"],
        "on the device",
        "need no workers|data.num_workers=0",
    ),
    "target_transform with an unknown class": (
        ["data.target_transform={Hat: head}"],
        ["data.target_transform"],
        "'T-shirt/top' is (not in|missing)",
        "Trouser.*Ankle boot",
    ),
    "network of width 0": (["model.width=0"], ["model.width=0"], WRONG_VALUE, ABOVE_0),
    "too many poolings for the image size": (
        ["model.poolings=6"],
        ["model: CNN", "(2, 1, 28, 28)"],
        "too small",
        r"data\.image_size",
    ),
    "layer with 0 features": (
        ["model=mlp", "model.hidden_features=[0]"],
        ["model.hidden_features=[0]"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "fractional number of blocks": (
        ["model=resnet", "model.blocks_per_stage=0.5"],
        ["model.blocks_per_stage=0.5"],
        WRONG_VALUE,
        INTEGER,
    ),
    "label smoothing of 1": (
        ["loss.label_smoothing=1"],
        ["loss.label_smoothing=1"],
        WRONG_VALUE,
        BELOW_1,
    ),
    "fine-tuning a network without pretrained weights": (
        ["experiment=finetune", "model=cnn", "data.root=photos"],
        ["model.name"],
        "unknown setting",
        r"did you mean model=timm model\.name=NAME",
    ),
    "label smoothing under its old name": (
        ["classifier.label_smoothing=0.2"],
        ["classifier.label_smoothing"],
        UNKNOWN,
        r"did you mean loss\.label_smoothing",
    ),
    "label smoothing under its old name with +": (
        ["+classifier.label_smoothing=0.2"],
        ["classifier.label_smoothing"],
        UNKNOWN,
        r"did you mean loss\.label_smoothing",
    ),
    "unknown loss": (["loss=hinge"], ["loss=hinge"], NO_CHOICE, "bce, cross_entropy, focal"),
    "negative gamma": (["loss=focal", "loss.gamma=-1"], ["loss.gamma=-1"], WRONG_VALUE, AT_LEAST_0),
    "beta of 1": (["loss.beta=1"], ["loss.beta=1"], WRONG_VALUE, BELOW_1),
    "unknown class weights": (
        ["loss.class_weights=balancd"],
        ["loss.class_weights=balancd"],
        WRONG_VALUE,
        "'balanced' or 'effective_number'",
    ),
    "weight of an unknown class": (
        ["loss.class_weights={Skirt: 2}"],
        ["loss.class_weights.Skirt=2"],
        "no such class",
        r"did you mean Shirt\?",
    ),
    "weights without some classes": (
        ["loss.class_weights={Shirt: 2}"],
        ["loss.class_weights", "T-shirt/top, Trouser"],
        "no weight for",
        "one for each class",
    ),
    "negative class weight": (
        ["loss.class_weights={Shirt: -2}"],
        ["loss.class_weights"],
        WRONG_VALUE,
        AT_LEAST_0,
    ),
    "class weight that is NaN": (["loss.class_weights={Shirt: nan}"], ["loss.class_weights"], WRONG_VALUE, "finite"),
    "class weights of 0": (
        [f"loss.class_weights={weights_of_0()}"],
        ["loss.class_weights"],
        "weights of all classes are 0",
        "positive weight",
    ),
    "class weights and a sampler": (
        ["loss.class_weights=balanced", "data.sampler=balanced"],
        ["loss.class_weights"],
        "weighs the classes already",
        r"loss\.class_weights=null, or data\.sampler=null",
    ),
    "unknown sampler": (
        ["data.sampler=balancd"],
        ["data.sampler=balancd"],
        WRONG_VALUE,
        r"'balanced' or .*(mapping|dictionary)",
    ),
    "sampling of an unknown class": (
        ["data.sampler={Snaeker: 2}"],
        ["data.sampler.Snaeker=2"],
        "no such class",
        r"did you mean Sneaker\?",
    ),
    "sampling weights of 0": (
        [f"data.sampler={weights_of_0()}"],
        ["data.sampler"],
        "weights of all classes are 0",
        "positive weight",
    ),
    "sampler without shuffling": (
        ["data.sampler=balanced", "data.shuffle=false"],
        ["data.shuffle=false", "data.sampler"],
        "random order",
        "remove one",
    ),
    "sampler with one batch": (
        ["data.sampler=balanced", "trainer.overfit_batches=1"],
        ["data.sampler", "trainer.overfit_batches"],
        "same batches in every epoch",
        "remove one",
    ),
    "epoch of 0 samples": (["data.samples_per_epoch=0"], ["data.samples_per_epoch=0"], WRONG_VALUE, ABOVE_0),
    "epoch of less than a batch": (
        ["data.samples_per_epoch=63"],
        ["data.samples_per_epoch=63"],
        "less than a batch of 64",
        r"smaller data\.batch_size",
    ),
    "negative TTA shift": (["classifier.tta_shift=-1"], ["classifier.tta_shift=-1"], WRONG_VALUE, AT_LEAST_0),
    "unknown compile mode": (
        ["compile=fastest"],
        ["compile=fastest"],
        WRONG_VALUE,
        "'reduce-overhead'.*'max-autotune'",
    ),
    "momentum of 1": (["optimizer.momentum=1"], ["optimizer.momentum=1"], WRONG_VALUE, BELOW_1),
    "negative weight decay": (
        ["optimizer=adamw", "optimizer.weight_decay=-1"],
        ["optimizer.weight_decay=-1"],
        "[Ii]nvalid weight_decay",
        "use another value",
    ),
    "Nesterov without momentum": (
        ["optimizer=sgd", "optimizer.momentum=0"],
        ["optimizer"],
        "Nesterov",
        "requires a momentum",
    ),
    "unknown checkpoint mode": (
        ["callbacks.checkpoint.mode=best"],
        ["callbacks.checkpoint.mode=best"],
        WRONG_VALUE,
        "'max' or 'min'",
    ),
    "0 minutes between checkpoints": (
        ["callbacks.checkpoint.every_n_minutes=0"],
        ["callbacks.checkpoint.every_n_minutes=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "early stopping without validation": (
        ["callbacks=early_stopping", "data.val_fraction=0"],
        ["callbacks.early_stopping.monitor=val/accuracy", "data.val_fraction"],
        "no validation data",
        "trainer.limit_val_batches.*train/loss",
    ),
    "early stopping with validation off": (
        ["callbacks=early_stopping", "trainer.limit_val_batches=0"],
        ["callbacks.early_stopping.monitor=val/accuracy", "trainer.limit_val_batches"],
        "no validation data",
        "data.val_fraction.*train/loss",
    ),
    "more than all batches": (
        ["trainer.limit_train_batches=1.5"],
        ["limit_train_batches=1.5"],
        WRONG_VALUE,
        AN_INT_OR_SHARE,
    ),
    "max_time is a word": (
        ["trainer.max_time=soon"],
        ["trainer.max_time=soon"],
        WRONG_VALUE,
        "DD:HH:MM:SS",
    ),
    "unknown gradient clipping": (
        ["trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=cut"],
        ["trainer.gradient_clip_algorithm=cut"],
        "[Ii]nvalid",
        "'value', 'norm'",
    ),
    "gradient accumulation of 0": (
        ["trainer.accumulate_grad_batches=0"],
        ["trainer.accumulate_grad_batches=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "unknown profiler": (
        ["trainer.profiler=fast"],
        ["trainer.profiler=fast"],
        f"can only be|{WRONG_VALUE}",
        "'simple', 'advanced', 'pytorch'",
    ),
    "unknown strategy": (
        ["trainer.strategy=abacus"],
        ["trainer.strategy=abacus"],
        "[Ii]nvalid strategy",
        "auto, ddp",
    ),
    "fractional epochs": (["trainer.max_epochs=1.5"], ["trainer.max_epochs=1.5"], WRONG_VALUE, INTEGER),
    "negative number of validation batches": (
        ["trainer.limit_val_batches=-1"],
        ["limit_val_batches=-1"],
        WRONG_VALUE,
        AN_INT_OR_SHARE,
    ),
    "validation every 0 epochs": (
        ["trainer.check_val_every_n_epoch=0"],
        ["trainer.check_val_every_n_epoch=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "negative gradient clipping": (
        ["trainer.gradient_clip_val=-1"],
        ["trainer.gradient_clip_val=-1"],
        WRONG_VALUE,
        AT_LEAST_0,
    ),
    "resume from a folder without a run": (
        ["resume=/nowhere"],
        ["resume=/nowhere"],
        r"no config\.yaml|config\.yaml is missing",
        "another|existing",
    ),
    "allow is not a list": (["allow=everything"], ["allow=everything"], WRONG_VALUE, LIST),
    "invalid second job of a sweep": (["-m", "seed=0,-1"], ["seed=-1"], "no job was started", AT_LEAST_0),
    "missing config directory": (["--config-dir=/nowhere"], ["--config-dir=/nowhere"], "no such folder", "existing"),
    "missing directory of configs": (["--config-path=/nowhere"], ["/nowhere"], "not found", "exists and readable"),
    "unknown config name": (["--config-name=nope"], ["nope"], "[Cc]annot find primary config", "search path"),
    "unknown choice with --info": (["--info=config", "model=cmn"], ["model=cmn"], NO_CHOICE, "cnn, mlp, resnet"),
    "unknown key with --info": (["--info=config", "sead=3"], ["sead"], UNKNOWN, "did you mean seed"),
    "unknown key with --cfg": (["--cfg=job", "sead=3"], ["sead"], UNKNOWN, "did you mean seed"),
    "unknown key with --hydra-help": (
        ["--hydra-help", "hydra.jop=3"],
        ["hydra.jop"],
        UNKNOWN,
        "--cfg job|did you mean",
    ),
    "unknown kind of --info": (["--info=nope"], ["--info"], "invalid choice", "defaults.*--help"),
    "unknown --package": (["--cfg=job", "--package=nope"], ["--package=nope"], "not in the config", "see --cfg job"),
    "--package without --cfg": (["--package=model"], ["--package"], "require --cfg", "add --cfg job"),
    "--resolve of a sweep": (["--multirun", "--resolve"], ["--resolve"], "require --cfg", "add --cfg job"),
    "--resolve without --cfg": (["--resolve"], ["--resolve"], "require --cfg", "add --cfg job"),
    "--cfg of a sweep": (["--cfg=job", "-m"], ["--multirun"], "cannot be combined", "one of them"),
    "unknown shell": (["--shell-completion", "install=csh"], ["csh"], "No completion plugin", "install=bash"),
    "rerun from a pickle": (["--experimental-rerun=x"], ["--experimental-rerun"], "not supported", "resume=DIR"),
    "missing data root": (
        ["data=fashion_mnist", "data.root=/nowhere"],
        ["data.root=/nowhere"],
        "no such folder|does not exist",
        r"data\.root=DIR",
    ),
}


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_exits_with_code_2_and_one_line(
    command: Command, arguments: list[str], names: list[str], problem: str, remedy: str, tmp_path: Path
) -> None:
    """The line names the setting, the problem and the remedy, and no file is left behind."""
    data = (
        []
        if any(argument.startswith(("data=", "--hydra-help", "--shell")) for argument in arguments)
        else ["data=sample"]
    )
    answer = command(*arguments, *data)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "multirun.yaml"]


def test_a_path_without_its_setting_is_answered_with_the_setting(
    script: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "outputs" / "first").mkdir(parents=True)
    (tmp_path / "outputs" / "first" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    folder = "data=folder data.root=photos"
    answers = {
        ("train", "photos"): folder,
        ("train", "data=photos"): folder,
        ("train", "data=photos/more"): f"{folder}/more",
        ("train", "data=labels/all.csv"): "data=csv data.labels=labels/all.csv data.root=DIR",
        ("train", "outputs/first"): "resume=outputs/first",
        ("data_report", "photos"): folder,
        ("data_report", "outputs/first"): "run=outputs/first",
        ("eval", "outputs/first"): "run=outputs/first",
        ("eval", "first"): "run=first",
        ("eval", "photos"): folder,
        ("export", "outputs/first"): "run=outputs/first",
        ("predict", "photos"): "images=photos",
        ("predict", "data=photos"): "images=photos",
        ("bench", "startup"): "bench=startup",
    }
    for (name, argument), remedy in answers.items():
        answer = script(name, argument)
        assert answer.code == 2
        assert re.fullmatch(rf"error: {argument}: [^;]+; use {re.escape(remedy)}(, see --help)?\n", answer.err), (
            answer.err
        )


@pytest.mark.parametrize("name", ["train", "predict", "bench"])
def test_the_version_of_a_command_is_that_of_this_package(script: Command, name: str) -> None:
    assert script(name, "--version").out == f"pytorch-intro {__version__}\n"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine without mps")
def test_missing_accelerator_lists_the_available_ones(command: Command) -> None:
    arguments = ["data=sample", "trainer.accelerator=mps"]
    answer = command(*arguments)
    assert answer.code == 2
    available = r"\bcuda, cpu\b" if torch.cuda.is_available() else r"[^,] cpu\b"
    assert_explained(answer.err, arguments, ["trainer.accelerator=mps"], available, r"\bauto\b")


def test_name_can_be_reused_after_a_mistake_that_only_the_trainer_finds(command: Command) -> None:
    """Nothing has been saved yet, so the folder is free for a corrected config."""
    few = ["data=sample", "name=first", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    answer = command(*few, "trainer.limit_val_batches=0.1")
    assert answer.code == 2
    assert_explained(answer.err, few, ["limit_val_batches"], r"0\.1 \* 5 < 1", r"limit_val_batches=0\.2")
    assert command(*few).code == 0


def test_a_run_that_ends_before_its_first_step_is_not_finished(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights would be the initial ones."""
    monkeypatch.setattr("lightning.pytorch.callbacks.Timer.time_elapsed", lambda *_: 5.0)
    few = ["data=sample", "name=first", "trainer.max_time=00:00:00:01"]
    answer = command(*few)
    assert answer.code == 2
    assert_explained(answer.err, few, ["trainer.max_time"], "stopped before its first step", "longer time")
    assert not (tmp_path / "outputs" / "first" / "result.json").exists()


def test_the_last_weights_of_a_run_without_validation_are_not_called_the_best(command: Command) -> None:
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]
    answer = command(*few, "data.val_fraction=0")
    assert answer.code == 0, answer.err
    assert "best epoch" not in answer.out
    assert "2; the last weights, since nothing was validated" in answer.out


def test_hydra_full_error_prints_the_traceback_of_a_mistake(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is printed above the line."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    lines = {"data.batch_size=0": "data.batch_size=0: ", "data.batch_sise=3": "data.batch_sise: unknown setting"}
    for mistake, line in lines.items():
        answer = command("data=sample", mistake)
        assert answer.code == 2
        assert "Traceback" in answer.err
        assert answer.err.splitlines()[-1].startswith(f"error: {line}")


def test_outputs_folder_that_cannot_be_created_is_a_mistake(command: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file of this name")
    answer = command("data=sample", "name=first")
    assert answer.code == 2
    folder = str(tmp_path / "outputs" / "first")
    assert_explained(answer.err, ["name=first"], [folder], "Not a directory", r"outputs=DIR")


def test_read_only_folder_is_reported_before_training(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored result of a finished run is still printed."""
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    assert command(*few, "name=finished").code == 0

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    answer = command(*few, "name=unfinished")
    assert answer.code == 2
    folder = str(tmp_path / "outputs" / "unfinished")
    assert_explained(answer.err, ["name=unfinished"], [folder], "Read-only file system", "outputs=DIR")
    assert "epoch" not in answer.out
    answer = command(*few, "name=finished")
    assert (answer.code, "finished before" in answer.out) == (0, True), answer.err


def test_unknown_error_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not reported as a wrong setting."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pytorch_intro.training.checkpoint.AtomicCheckpointIO.save_checkpoint", broken)
    answer = command("data=sample", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "in broken" in answer.err
    assert answer.err.endswith("OSError: [Errno 5] Input/output error\n")
    assert "error: " not in answer.err
