"""Every mistake of the user's is answered in one line that names the key or file, and by exit code 2."""

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
    NO_REMEDY,
    NUMBER,
    UNKNOWN,
    WRONG_VALUE,
    assert_explained,
)

# Of each: the arguments, the names that the message has, and regular expressions of its problem and its remedy.
MISTAKES: dict[str, tuple[list[str], list[str], str, str | None]] = {
    "unknown key": (["trainer.max_epoch=3"], ["trainer.max_epoch"], UNKNOWN, "did you mean trainer.max_epochs"),
    "unknown key at the top": (["batch_size=3"], ["batch_size"], UNKNOWN, "did you mean data.batch_size"),
    "unknown key with a plus": (
        ["+optimizer.momentun=0.9", "optimizer=sgd"],
        ["optimizer.momentun"],
        UNKNOWN,
        "did you mean optimizer.momentum",
    ),
    "unknown key at the top with a plus": (["+sead=3"], ["sead"], UNKNOWN, "did you mean seed"),
    "unknown choice": (["model=cmn"], ["model=cmn"], NO_CHOICE, "cnn, mlp, resnet"),
    "unknown group": (["modle=mlp"], ["modle"], UNKNOWN, r"did you mean model\b"),
    "unreadable override": (["model="], ["model="], NO_CHOICE, "cnn, mlp, resnet"),
    "not an override": (["epochs"], ["epochs"], "parsing override|not an override", "EQUAL|="),
    "flag unheard of": (["--epochs"], ["--epochs"], "unrecognized|[Uu]nknown", "--help"),
    "folder that follows from others": (["run_dir=elsewhere"], ["run_dir=elsewhere"], "follows from", "outputs"),
    "function that is not partial": (
        ["scheduler._partial_=perhaps"],
        ["scheduler._partial_=perhaps"],
        WRONG_VALUE,
        BOOLEAN,
    ),
    "sweep without -m": (["seed=0,1"], ["seed=0,1"], "[Aa]mbiguous", "--multirun|-m"),
    "batch size 0": (["data.batch_size=0"], ["data.batch_size=0"], WRONG_VALUE, ABOVE_0),
    "batch size in words": (["data.batch_size=many"], ["data.batch_size=many"], WRONG_VALUE, INTEGER),
    "batch size with a fraction": (["data.batch_size=1.5"], ["data.batch_size=1.5"], WRONG_VALUE, INTEGER),
    "val_fraction above 1": (["data.val_fraction=1.5"], ["data.val_fraction=1.5"], WRONG_VALUE, BELOW_1),
    "val_fraction too small": (
        ["data.val_fraction=1e-9"],
        ["data.val_fraction=1e-09"],
        "1,?600 images.* empty",
        "change|increase|raise|larger",
    ),
    "negative lr": (["optimizer.lr=-1"], ["optimizer.lr=-1"], WRONG_VALUE, AT_LEAST_0),
    "lr that torch refuses": (
        ["optimizer=adamw", "optimizer.lr=-1"],
        ["optimizer.lr=-1"],
        "[Ii]nvalid learning rate",
        NO_REMEDY,
    ),
    "lr in words": (["optimizer.lr=high"], ["optimizer.lr=high"], WRONG_VALUE, NUMBER),
    "negative epochs": (
        ["trainer.max_epochs=-3"],
        ["trainer.max_epochs=-3"],
        WRONG_VALUE,
        "greater than or equal to -1|at least -1|>= -1",
    ),
    "endless epochs": (
        ["trainer.max_epochs=-1"],
        ["scheduler", "trainer.max_epochs"],
        "last step|end of training",
        "trainer.max_steps.*scheduler=constant",
    ),
    "negative seed": (["seed=-1"], ["seed=-1"], WRONG_VALUE, AT_LEAST_0),
    "no seed": (["seed=null"], ["seed=null"], WRONG_VALUE, INTEGER),
    "overwrite in words": (["overwrite=perhaps"], ["overwrite=perhaps"], WRONG_VALUE, BOOLEAN),
    "negative workers": (["data.num_workers=-1"], ["data.num_workers=-1"], WRONG_VALUE, AT_LEAST_0),
    "mean of no number": (["data.mean=[a]"], ['data.mean=["a"]'], WRONG_VALUE, NUMBER),
    "precision unheard of": (["trainer.precision=3"], ["trainer.precision=3"], WRONG_VALUE, "bf16-mixed.*32-true"),
    "accelerator unheard of": (
        ["trainer.accelerator=abacus"],
        ["trainer.accelerator=abacus"],
        "none here|not available|is not (there|known)|[Uu]nknown",
        r"\bcpu\b.*\bauto\b",
    ),
    "devices unheard of": (["trainer.devices=two"], ["trainer.devices=two"], "number of devices", r"\bauto\b"),
    "no devices": (
        ["trainer.devices=0"],
        ["trainer.devices=0"],
        "at least one",
        r"trainer\.devices=1\b",
    ),
    "more devices than there are": (
        ["trainer.devices=999"],
        ["trainer.devices=999"],
        r"only \d+.*trainer\.accelerator=cpu",
        r"trainer\.devices=auto",
    ),
    "target that is not there": (
        ["model._target_=torch.nn.Nonsense"],
        ["model._target_=torch.nn.Nonsense"],
        "cannot be imported",
        "'Nonsense' is importable|[Cc]heck",
    ),
    "devices that are no number": (["trainer.devices=1.5"], ["trainer.devices=1.5"], WRONG_VALUE, INTEGER),
    "choice that is no name": (["logger=null"], ["logger"], "name of one of its choices", "logger=none.*--help"),
    "value that is missing": (["model.width=???"], ["model.width"], "[Mm]issing", NO_REMEDY),
    "reference to nothing": (["trainer.max_epochs=${epochs}"], ["'epochs'"], "not found", NO_REMEDY),
    "means for other channels": (["data.mean=[0.2,0.3]"], ["data.mean=[0.2, 0.3]"], "1 channel", "one value.*null"),
    "setting of a function": (["+scheduler.peak=3"], ["scheduler.peak"], UNKNOWN, r"did you mean scheduler\."),
    "warm-up beyond the end": (
        ["scheduler.warmup_fraction=2"],
        ["scheduler.warmup_fraction=2"],
        WRONG_VALUE,
        BELOW_1,
    ),
    "name that leaves the folder": (
        ["name=../elsewhere"],
        ["name='../elsewhere'"],
        "folder.s name|folder name",
        "letters, digits",
    ),
    "name that is taken by the project": (["name=sweeps"], ["name='sweeps'"], "not sweeps|reserved", "letters, digits"),
    "experiment unheard of": (["experiment=fastest"], ["experiment=fastest"], NO_CHOICE, "best, fast, good"),
    "augmentation unheard of": (
        ["data/augment=[flop]"],
        ["data/augment", "flop"],
        f"[Cc]ould not load|{NO_CHOICE}",
        NO_REMEDY,
    ),
    "flips that come too late": (
        ["data/augment=[crop,alternating_flip]"],
        ["data.augment", "alternating_flip"],
        WRONG_VALUE,
        r"\bfirst\b",
    ),
    "an hour's training without a last step": (
        ["trainer.max_epochs=null", "trainer.max_time=00:01:00:00"],
        ["scheduler", "trainer.max_epochs"],
        "last step|end of training",
        "trainer.max_steps.*scheduler=constant",
    ),
    "setting of an augmentation that is not chosen": (
        ["data.augment.crop.padding=2"],
        ["data.augment.crop.padding"],
        UNKNOWN,
        "--cfg job|--help",
    ),
    "shift longer than the image": (
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
    "erasing from large to small": (
        ["data/augment=[erasing]", "+data.augment.erasing.scale=[0.5,0.1]"],
        ["data.augment", "scale=[0.5, 0.1]"],
        "begins above its end|reversed|greater than",
        "swap",
    ),
    "std of 0": (["data.std=[0.0]"], ["data.std=[0.0]"], WRONG_VALUE, ABOVE_0),
    "folds without a number of them": (["data.fold=1"], ["data.fold=1"], "no folds", r"data\.num_folds"),
    "fold beyond the last": (["data.num_folds=3", "data.fold=3"], ["data.fold=3"], "3 folds", "0 to 2"),
    "one fold": (["data.num_folds=1"], ["data.num_folds=1"], WRONG_VALUE, AT_LEAST_2),
    "test_fraction above 1": (["data.test_fraction=2"], ["data.test_fraction=2"], WRONG_VALUE, BELOW_1),
    "negative split seed": (["data.split_seed=-1"], ["data.split_seed=-1"], WRONG_VALUE, AT_LEAST_0),
    "negative mixup": (["data.mixup_alpha=-1"], ["data.mixup_alpha=-1"], WRONG_VALUE, AT_LEAST_0),
    "cutmix of no number": (["data.cutmix_alpha=nan"], ["data.cutmix_alpha=NaN"], WRONG_VALUE, "finite"),
    "images without pixels": (["data.image_size=0"], ["data.image_size=0"], WRONG_VALUE, ABOVE_0),
    "resizing unheard of": (["data.resize=squash"], ["data.resize=squash"], WRONG_VALUE, "crop.*pad.*stretch"),
    "shuffle in words": (["data.shuffle=maybe"], ["data.shuffle=maybe"], WRONG_VALUE, BOOLEAN),
    "images on a device that has workers": (
        ["data.on_device=true", "data.num_workers=1"],
        ["data.num_workers=1", "data.on_device=true"],
        "on the device",
        "need no workers|data.num_workers=0",
    ),
    "class names that are not there": (
        ["data.target_transform={Hat: head}"],
        ["data.target_transform"],
        "'T-shirt/top' is (not in|missing)",
        "Trouser.*Ankle boot",
    ),
    "network without channels": (["model.width=0"], ["model.width=0"], WRONG_VALUE, ABOVE_0),
    "network that halves images to nothing": (
        ["model.poolings=6"],
        ["model: CNN", "(2, 1, 28, 28)"],
        "too small",
        r"data\.image_size",
    ),
    "layer without features": (
        ["model=mlp", "model.hidden_features=[0]"],
        ["model.hidden_features=[0]"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "half a block": (
        ["model=resnet", "model.blocks_per_stage=0.5"],
        ["model.blocks_per_stage=0.5"],
        WRONG_VALUE,
        INTEGER,
    ),
    "smoothing of everything": (
        ["classifier.label_smoothing=1"],
        ["classifier.label_smoothing=1"],
        WRONG_VALUE,
        BELOW_1,
    ),
    "negative shift": (["classifier.shift=-1"], ["classifier.shift=-1"], WRONG_VALUE, AT_LEAST_0),
    "compile in words": (["compile=fastest"], ["compile=fastest"], WRONG_VALUE, "'reduce-overhead'.*'max-autotune'"),
    "momentum of 1": (["optimizer.momentum=1"], ["optimizer.momentum=1"], WRONG_VALUE, BELOW_1),
    "negative weight decay": (
        ["optimizer=adamw", "optimizer.weight_decay=-1"],
        ["optimizer.weight_decay=-1"],
        "[Ii]nvalid weight_decay",
        NO_REMEDY,
    ),
    "Nesterov without momentum": (
        ["optimizer=sgd", "optimizer.momentum=0"],
        ["optimizer"],
        "Nesterov",
        "requires a momentum",
    ),
    "best that is neither highest nor lowest": (
        ["callbacks.checkpoint.mode=best"],
        ["callbacks.checkpoint.mode=best"],
        WRONG_VALUE,
        "'max' or 'min'",
    ),
    "no minutes": (
        ["callbacks.checkpoint.every_n_minutes=0"],
        ["callbacks.checkpoint.every_n_minutes=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "early stopping without validation": (
        ["callbacks=early_stopping", "data.val_fraction=0"],
        ["EarlyStopping", "data.val_fraction"],
        "val/accuracy.*no validation",
        "trainer.limit_val_batches.*train/loss",
    ),
    "early stopping with validation off": (
        ["callbacks=early_stopping", "trainer.limit_val_batches=0"],
        ["EarlyStopping", "trainer.limit_val_batches"],
        "val/accuracy.*no validation",
        "data.val_fraction.*train/loss",
    ),
    "one and a half times all batches": (
        ["trainer.limit_train_batches=1.5"],
        ["limit_train_batches=1.5"],
        WRONG_VALUE,
        AN_INT_OR_SHARE,
    ),
    "time in words": (["trainer.max_time=soon"], ["trainer.max_time=soon"], WRONG_VALUE, r"\\d:\\d\\d|DD:HH:MM:SS"),
    "clipping unheard of": (
        ["trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=cut"],
        ["trainer.gradient_clip_algorithm=cut"],
        "[Ii]nvalid",
        "'value', 'norm'",
    ),
    "no gradients gathered": (
        ["trainer.accumulate_grad_batches=0"],
        ["trainer.accumulate_grad_batches=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "profiler unheard of": (
        ["trainer.profiler=fast"],
        ["trainer.profiler=fast"],
        f"can only be|{WRONG_VALUE}",
        "'simple', 'advanced', 'pytorch'",
    ),
    "strategy unheard of": (
        ["trainer.strategy=abacus"],
        ["trainer.strategy=abacus"],
        "[Ii]nvalid strategy",
        "auto, ddp",
    ),
    "epochs with a fraction": (["trainer.max_epochs=1.5"], ["trainer.max_epochs=1.5"], WRONG_VALUE, INTEGER),
    "validation of a negative number of batches": (
        ["trainer.limit_val_batches=-1"],
        ["limit_val_batches=-1"],
        WRONG_VALUE,
        AN_INT_OR_SHARE,
    ),
    "validation after no epoch": (
        ["trainer.check_val_every_n_epoch=0"],
        ["trainer.check_val_every_n_epoch=0"],
        WRONG_VALUE,
        ABOVE_0,
    ),
    "clipping below 0": (
        ["trainer.gradient_clip_val=-1"],
        ["trainer.gradient_clip_val=-1"],
        WRONG_VALUE,
        AT_LEAST_0,
    ),
    "folder that holds no run": (
        ["resume=/nowhere"],
        ["resume=/nowhere"],
        r"no config\.yaml|config\.yaml is missing",
        "another|existing",
    ),
    "allowance that is no list": (["allow=everything"], ["allow=everything"], WRONG_VALUE, LIST),
    "second job of a sweep": (["-m", "seed=0,-1"], ["seed=-1"], "no job (was|has) (begun|started)", AT_LEAST_0),
    "data root that is missing": (
        ["data=fashion_mnist", "data.root=/nowhere"],
        ["data.root=/nowhere"],
        "no such folder|does not exist",
        r"data\.root=DIR",
    ),
}


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    command: Command, arguments: list[str], names: list[str], problem: str, remedy: str | None, tmp_path: Path
) -> None:
    """The line names the setting, the problem and the remedy, and nothing is left behind."""
    data = [] if any(argument.startswith("data=") for argument in arguments) else ["data=sample"]
    answer = command(*arguments, *data)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "multirun.yaml"]


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an mps device here")
def test_an_accelerator_that_is_not_there_is_answered_with_those_that_are(command: Command) -> None:
    arguments = ["data=sample", "trainer.accelerator=mps"]
    answer = command(*arguments)
    assert answer.code == 2
    there = r"\bcuda, cpu\b" if torch.cuda.is_available() else r"[^,] cpu\b"
    assert_explained(answer.err, arguments, ["trainer.accelerator=mps"], there, r"\bauto\b")


def test_a_mistake_that_only_the_trainer_finds_can_be_mended_under_the_same_name(command: Command) -> None:
    """Nothing has been saved yet, so the folder is free for the config that is right."""
    few = ["data=sample", "name=first", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    answer = command(*few, "trainer.limit_val_batches=0.1")
    assert answer.code == 2
    assert_explained(answer.err, few, ["limit_val_batches"], r"0\.1 \* 5 < 1", r"limit_val_batches=0\.2")
    assert command(*few).code == 0


def test_the_traceback_of_a_mistake_is_there_for_those_who_ask(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HYDRA_FULL_ERROR=1 shows it above the line."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for mistake, line in {"data.batch_size=0": "data.batch_size=0: ", "data.batch_sise=3": "unknown setting"}.items():
        answer = command("data=sample", mistake)
        assert answer.code == 2
        assert "Traceback" in answer.err
        assert answer.err.splitlines()[-1].startswith(f"error: {line}")


def test_an_outputs_folder_that_cannot_be_made_is_a_mistake(command: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file is in the way")
    answer = command("data=sample", "name=first")
    assert answer.code == 2
    folder = str(tmp_path / "outputs" / "first")
    assert_explained(answer.err, ["name=first"], [folder], "Not a directory", r"outputs=DIR")


def test_a_folder_that_has_become_read_only_is_told_before_the_training(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded result can be read there all the same."""
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    assert command(*few, "name=finished").code == 0

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    answer = command(*few, "name=begun")
    assert answer.code == 2
    folder = str(tmp_path / "outputs" / "begun")
    assert_explained(answer.err, ["name=begun"], [folder], "Read-only file system", "outputs=DIR")
    assert "epoch" not in answer.out
    answer = command(*few, "name=finished")
    assert (answer.code, "finished before" in answer.out) == (0, True), answer.err


def test_what_is_no_mistake_of_the_user_s_keeps_its_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it told as a wrong setting: nothing is known of it."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pytorch_intro.training.checkpoint.AtomicCheckpointIO.save_checkpoint", broken)
    answer = command("data=sample", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "in broken" in answer.err
    assert answer.err.endswith("OSError: [Errno 5] Input/output error\n")
    assert "error: " not in answer.err
