"""Every mistake of the user's is answered in one line that names the key or file, and by exit code 2."""

from pathlib import Path

import pytest
import torch
from conftest import Command

MISTAKES = {
    "unknown key": (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean trainer.max_epochs"]),
    "unknown key at the top": (["batch_size=3"], ["batch_size", "did you mean data.batch_size"]),
    "unknown key with a plus": (["+optimizer.momentun=0.9", "optimizer=sgd"], ["optimizer.momentum"]),
    "unknown key at the top with a plus": (["+sead=3"], ["sead", "did you mean seed"]),
    "unknown choice": (["model=cmn"], ["model=cmn", "choose from cnn, mlp, resnet"]),
    "unknown group": (["modle=mlp"], ["modle", "model"]),
    "unreadable override": (["model="], ["model"]),
    "not an override": (["epochs"], ["epochs"]),
    "flag unheard of": (["--epochs"], ["--epochs"]),
    "folder that follows from others": (["run_dir=elsewhere"], ["run_dir=elsewhere", "outputs"]),
    "function that is not partial": (["scheduler._partial_=perhaps"], ["scheduler._partial_=perhaps"]),
    "sweep without -m": (["seed=0,1"], ["seed=0,1"]),
    "batch size 0": (["data.batch_size=0"], ["data.batch_size=0", "greater than 0"]),
    "batch size in words": (["data.batch_size=many"], ["data.batch_size=many", "integer"]),
    "batch size with a fraction": (["data.batch_size=1.5"], ["data.batch_size=1.5", "integer"]),
    "val_fraction above 1": (["data.val_fraction=1.5"], ["data.val_fraction=1.5", "less than 1"]),
    "val_fraction too small": (["data.val_fraction=1e-9"], ["data.val_fraction=1e-09", "empty"]),
    "negative lr": (["optimizer.lr=-1"], ["optimizer.lr=-1"]),
    "lr that torch refuses": (["optimizer=adamw", "optimizer.lr=-1"], ["optimizer.lr=-1", "learning rate"]),
    "lr in words": (["optimizer.lr=high"], ["optimizer.lr=high", "number"]),
    "negative epochs": (["trainer.max_epochs=-3"], ["trainer.max_epochs=-3"]),
    "endless epochs": (["trainer.max_epochs=-1"], ["trainer.max_epochs"]),
    "negative seed": (["seed=-1"], ["seed=-1"]),
    "no seed": (["seed=null"], ["seed=null"]),
    "overwrite in words": (["overwrite=perhaps"], ["overwrite=perhaps"]),
    "negative workers": (["data.num_workers=-1"], ["data.num_workers=-1"]),
    "mean of no number": (["data.mean=[a]"], ["data.mean", "number"]),
    "precision unheard of": (["trainer.precision=3"], ["trainer.precision=3"]),
    "accelerator unheard of": (["trainer.accelerator=abacus"], ["trainer.accelerator=abacus", "cpu"]),
    "devices unheard of": (["trainer.devices=two"], ["trainer.devices=two"]),
    "no devices": (["trainer.devices=0"], ["trainer.devices=0"]),
    "more devices than there are": (["trainer.devices=999"], ["trainer.devices=999", "only"]),
    "target that is not there": (["model._target_=torch.nn.Nonsense"], ["model._target_", "torch.nn.Nonsense"]),
    "devices that are no number": (["trainer.devices=1.5"], ["trainer.devices=1.5"]),
    "choice that is no name": (["logger=null"], ["logger"]),
    "value that is missing": (["model.width=???"], ["width"]),
    "reference to nothing": (["trainer.max_epochs=${epochs}"], ["epochs"]),
    "means for other channels": (["data.mean=[0.2,0.3]"], ["data.mean=[0.2, 0.3]", "1 channel"]),
    "setting of a function": (["+scheduler.peak=3"], ["scheduler.peak"]),
    "warm-up beyond the end": (["scheduler.warmup_fraction=2"], ["scheduler.warmup_fraction=2"]),
    "name that leaves the folder": (["name=../elsewhere"], ["name='../elsewhere'"]),
    "name that is taken by the project": (["name=sweeps"], ["name='sweeps'"]),
    "experiment unheard of": (["experiment=fastest"], ["experiment=fastest", "best, fast, good"]),
    "augmentation unheard of": (["data/augment=[flop]"], ["data/augment", "flop"]),
    "an hour's training without a last step": (
        ["trainer.max_epochs=null", "trainer.max_time=00:01:00:00"],
        ["trainer.max_epochs or trainer.max_steps"],
    ),
    "setting of an augmentation that is not chosen": (["data.augment.crop.padding=2"], ["data.augment.crop"]),
    "shift longer than the image": (
        ["data/augment=[crop]", "data.augment.crop.padding=99"],
        ["padding=99", "at most 28"],
    ),
    "probability above 1": (["data/augment=[flip]", "data.augment.flip.p=2"], ["data.augment.flip.p=2"]),
    "erasing from large to small": (
        ["data/augment=[erasing]", "+data.augment.erasing.scale=[0.5,0.1]"],
        ["scale=[0.5, 0.1]", "swap"],
    ),
    "std of 0": (["data.std=[0.0]"], ["data.std", "greater than 0"]),
    "folds without a number of them": (["data.fold=1"], ["data.fold=1", "data.num_folds"]),
    "fold beyond the last": (["data.num_folds=3", "data.fold=3"], ["data.fold=3", "0 to 2"]),
    "one fold": (["data.num_folds=1"], ["data.num_folds=1"]),
    "test_fraction above 1": (["data.test_fraction=2"], ["data.test_fraction=2"]),
    "negative split seed": (["data.split_seed=-1"], ["data.split_seed=-1"]),
    "negative mixup": (["data.mixup_alpha=-1"], ["data.mixup_alpha=-1"]),
    "cutmix of no number": (["data.cutmix_alpha=nan"], ["data.cutmix_alpha"]),
    "images without pixels": (["data.image_size=0"], ["data.image_size=0"]),
    "resizing unheard of": (["data.resize=squash"], ["data.resize=squash", "crop"]),
    "shuffle in words": (["data.shuffle=maybe"], ["data.shuffle=maybe"]),
    "images on a device that has workers": (
        ["data.on_device=true", "data.num_workers=1"],
        ["data.num_workers=1", "data.on_device"],
    ),
    "class names that are not there": (["data.target_transform={Hat: head}"], ["data.target_transform", "Trouser"]),
    "network without channels": (["model.width=0"], ["model.width=0"]),
    "network that halves images to nothing": (["model.poolings=6"], ["model", "28"]),
    "layer without features": (["model=mlp", "model.hidden_features=[0]"], ["model.hidden_features"]),
    "half a block": (["model=resnet", "model.blocks_per_stage=0.5"], ["model.blocks_per_stage=0.5"]),
    "smoothing of everything": (["classifier.label_smoothing=1"], ["classifier.label_smoothing=1"]),
    "negative shift": (["classifier.tta_shift=-1"], ["classifier.tta_shift=-1"]),
    "compile in words": (["compile=fastest"], ["compile=fastest"]),
    "momentum of 1": (["optimizer.momentum=1"], ["optimizer.momentum=1"]),
    "negative weight decay": (["optimizer=adamw", "optimizer.weight_decay=-1"], ["optimizer.weight_decay=-1"]),
    "Nesterov without momentum": (["optimizer=sgd", "optimizer.momentum=0"], ["optimizer", "momentum"]),
    "best that is neither highest nor lowest": (
        ["callbacks.checkpoint.mode=best"],
        ["callbacks.checkpoint.mode=best", "max"],
    ),
    "no minutes": (["callbacks.checkpoint.every_n_minutes=0"], ["callbacks.checkpoint.every_n_minutes=0"]),
    "early stopping without validation": (
        ["callbacks=early_stopping", "data.val_fraction=0"],
        ["EarlyStopping", "val/accuracy", "data.val_fraction"],
    ),
    "early stopping with validation off": (
        ["callbacks=early_stopping", "trainer.limit_val_batches=0"],
        ["EarlyStopping", "trainer.limit_val_batches"],
    ),
    "one and a half times all batches": (["trainer.limit_train_batches=1.5"], ["limit_train_batches", "1.5"]),
    "time in words": (["trainer.max_time=soon"], ["trainer.max_time=soon"]),
    "clipping unheard of": (
        ["trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=cut"],
        ["gradient_clip_algorithm"],
    ),
    "no gradients gathered": (["trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches=0"]),
    "profiler unheard of": (["trainer.profiler=fast"], ["trainer.profiler=fast"]),
    "strategy unheard of": (["trainer.strategy=abacus"], ["trainer.strategy=abacus"]),
    "epochs with a fraction": (["trainer.max_epochs=1.5"], ["trainer.max_epochs=1.5"]),
    "validation of a negative number of batches": (["trainer.limit_val_batches=-1"], ["limit_val_batches", "-1"]),
    "validation after no epoch": (["trainer.check_val_every_n_epoch=0"], ["trainer.check_val_every_n_epoch=0"]),
    "clipping below 0": (["trainer.gradient_clip_val=-1"], ["trainer.gradient_clip_val=-1"]),
    "folder that holds no run": (["resume=/nowhere"], ["resume=/nowhere"]),
    "allowance that is no list": (["allow=everything"], ["allow=everything"]),
    "second job of a sweep": (["-m", "seed=0,-1"], ["seed=-1", "no job was started"]),
    "data root that is missing": (["data=fashion_mnist", "data.root=/nowhere"], ["data.root=/nowhere"]),
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    command: Command, arguments: list[str], told: list[str], tmp_path: Path
) -> None:
    """The line begins with `error: `, names the setting, and nothing is left behind."""
    data = [] if any(argument.startswith("data=") for argument in arguments) else ["data=sample"]
    answer = command(*arguments, *data)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for words in told:
        assert words in answer.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "multirun.yaml"]


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an mps device here")
def test_an_accelerator_that_is_not_there_is_answered_with_those_that_are(command: Command) -> None:
    answer = command("data=sample", "trainer.accelerator=mps")
    assert answer.code == 2
    assert "trainer.accelerator=mps" in answer.err
    assert "(available: cpu)" in answer.err or "(available: cuda, cpu)" in answer.err


def test_a_mistake_that_only_the_trainer_finds_can_be_mended_under_the_same_name(command: Command) -> None:
    """Nothing has been saved yet, so the folder is free for the config that is right."""
    few = ["data=sample", "name=first", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    answer = command(*few, "trainer.limit_val_batches=0.1")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "limit_val_batches" in answer.err
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
    assert answer.err.count("\n") == 1
    assert "outputs" in answer.err


def test_a_folder_that_has_become_read_only_is_told_before_the_training(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded result can be read there all the same."""
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    assert command(*few, "name=finished").code == 0

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    answer = command(*few, "name=begun")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "begun: not writable (Read-only file system)" in answer.err
    assert "epoch" not in answer.out
    answer = command(*few, "name=finished")
    assert (answer.code, "finished before" in answer.out) == (0, True), answer.err


def test_what_is_no_mistake_of_the_user_s_keeps_its_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it told as a wrong setting: nothing is known of it."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pytorch_intro.checkpoint.AtomicCheckpointIO.save_checkpoint", broken)
    answer = command("data=sample", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "in broken" in answer.err
    assert answer.err.endswith("OSError: [Errno 5] Input/output error\n")
    assert "error: " not in answer.err
