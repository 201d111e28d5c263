"""Every file in conf/ composes, matches the signatures of its targets, and can be instantiated."""

import ast
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import hydra
import pytest
import torch
from conftest import compose, sample_datamodule
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.flatten import flatten
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT
from pytorch_intro.config.validate import check_config
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.setup import build_classifier, build_experiment
from pytorch_intro.training.trainer import build_trainer

GROUPS = [
    "data", "model", "loss", "optimizer", "scheduler", "finetune", "trainer", "callbacks", "logger", "metrics",
    "experiment",
]  # fmt: skip
GROUPS = [group for group in GROUPS if (CONFIG_DIR / group).exists()]  # finetune and metrics may have been deleted
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONFIG_DIR / group).glob("[!_]*.yaml"))]
AUGMENTATIONS = sorted(path.stem for path in (CONFIG_DIR / "data" / "augment").glob("*.yaml"))
REQUIRED = {  # settings without a default
    "data=custom": ["data.dataset._target_=torchvision.datasets.FakeData"],
    "data=folder": [f"data.root={CONFIG_DIR}"],
    "data=huggingface": ["data.path=user/name"],
    "data=csv": [f"data.root={CONFIG_DIR}", "data.labels=labels.csv"],
}
GPU_ONLY = {("trainer", "fsdp")}
ON_CPU = {"accelerator": "cpu", "precision": "32-true", "threads": 1}


def test_every_config_group_is_tested() -> None:
    """Those of Hydra, benchmarks and sweeps have their own tests; reports and calibration are in callbacks=default."""
    groups = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    assert groups - {"hydra", "bench", "search", "sweep", "reports", "calibration"} == set(GROUPS)


SWEEPS = ["sweep", "search", "hydra/sweeper", "hydra/launcher"]


@pytest.mark.parametrize("removed", [*([group] for group in SWEEPS if group != "hydra/sweeper"), SWEEPS], ids=str)
def test_config_composes_without_the_groups_of_sweeps(removed: list[str], tmp_path: Path) -> None:
    """Then -m uses Hydra's basic sweeper. hydra/sweeper is named in conf/sweep, so it is removed with that."""
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    for group in removed:
        shutil.rmtree(conf / group)
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = hydra.compose("train", return_hydra_config=True)
    sweeper = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    has_sweep = "sweep" not in removed
    assert ("sweep" in config) == has_sweep
    assert (config.hydra.sweeper._target_ == sweeper) == (not has_sweep)


@pytest.mark.parametrize("choice", ["default", "early_stopping", "ema"])
def test_the_config_composes_without_the_reports(choice: str, tmp_path: Path) -> None:
    """The callbacks that training needs stay."""
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    shutil.rmtree(conf / "reports")
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = hydra.compose("train", [f"callbacks={choice}", f"run_dir={tmp_path}"])
    complete = compose(f"callbacks={choice}").callbacks
    needed = {"checkpoint", "step_log", "epoch_log", "progress_bar"} | ({choice} - {"default"})
    needed |= {"calibration"} & {*complete}
    assert set(config.callbacks) == needed
    assert set(complete) == needed | {"class_metrics", "report", "model_card", "hparams", "tensorboard", "slow_steps"}


@pytest.fixture(scope="module")
def sample() -> DataModule:
    """Return the DataModule of data=sample, for tests that only read its image shape and classes."""
    return sample_datamodule()


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_is_valid_and_can_be_instantiated(group: str, choice: str, sample: DataModule) -> None:
    """On the sample and on the CPU; datasets that need a download are not read."""
    choose = f"{group}={choice}"
    data = REQUIRED.get(choose, []) if group == "data" else ["data=sample"]
    config = compose(choose, *data)
    if "pretrained" in config.model._target_:
        config.model.weights = None  # the default is downloaded
    check_config(OmegaConf.merge(config, {"trainer": ON_CPU}))
    if (group, choice) in GPU_ONLY:
        return
    assert config.data.root.endswith("sample") == (group != "data" or choice == "sample")
    if group in ("trainer", "callbacks", "logger", "experiment"):
        trainer = build_trainer(config.trainer, config.callbacks, config.logger, ON_CPU)
        assert len(trainer.loggers) == len(config.logger)
    if group in ("finetune", "experiment") and config.get("finetune"):
        assert instantiate(config.finetune, "finetune").mode == config.finetune.mode
    if group in ("data", "experiment"):
        datamodule = instantiate(config.data, "data")
        assert isinstance(datamodule, DataModule)
    if group in ("model", "loss", "optimizer", "scheduler", "experiment"):
        classifier = build_classifier(config, sample)
        assert type(classifier.network).__name__ == config.model._target_.rpartition(".")[2]


@pytest.mark.parametrize(("group", "choice"), [pair for pair in CHOICES if pair[0] in ("data", "experiment")])
def test_augmentations_can_be_replaced_in_every_dataset_and_recipe(group: str, choice: str) -> None:
    """No setting of the default augmentations is left."""
    choose = f"{group}={choice}"
    config = compose(choose, *REQUIRED.get(choose, []), "data/augment=[flip]")
    check_config(OmegaConf.merge(config, {"trainer": ON_CPU}))
    assert list(config.data.augment) == ["flip"]


def augmentation_keys(name: str) -> list[str]:
    """Return the keys of a file of conf/data/augment, those of its defaults first: crop_4 is a crop."""
    file = OmegaConf.load(CONFIG_DIR / "data" / "augment" / f"{name}.yaml")
    assert isinstance(file, DictConfig)
    bases = [base for base in file.get("defaults", []) if base != "_self_"]
    inherited = [key for base in bases for key in augmentation_keys(base)]
    return [*inherited, *(str(key) for key in file if key != "defaults")]


@pytest.mark.parametrize("names", [*([name] for name in AUGMENTATIONS), AUGMENTATIONS, []], ids=str)
def test_augmentations_are_applied_in_the_order_of_the_list(names: list[str], images: torch.Tensor) -> None:
    """Each alone, all and none; shape and dtype of the images stay the same."""
    config = compose("data=sample", f"data/augment=[{','.join(names)}]")
    check_config(config.data)
    datamodule = instantiate(config.data, "data")
    keys = list(dict.fromkeys(key for name in names for key in augmentation_keys(name)))
    assert list(config.data.augment) == keys
    assert len(datamodule.augment) == len(keys)
    augmented = datamodule.augment(images)
    assert (augmented.shape, augmented.dtype) == (images.shape, images.dtype)


@pytest.mark.parametrize(("optimizer", "scheduler"), [("muon", "linear"), ("adamw", "one_cycle"), ("sgd", "constant")])
def test_whole_numbers_are_accepted_for_all_floats(optimizer: str, scheduler: str) -> None:
    """Of data, augmentation, optimizer, scheduler, classifier and trainer: 1, or 0 where 1 is out of range."""
    choices = [f"data/augment=[{','.join(AUGMENTATIONS)}]", f"optimizer={optimizer}", f"scheduler={scheduler}"]
    more = ["data=sample", "callbacks=none", "logger=none", "data.std=[0.5]", "trainer.gradient_clip_val=0.5"]
    config = compose(*choices, *more, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    replaced = []
    for key, value in flatten(config).items():
        is_list = isinstance(value, list) and all(isinstance(number, float) for number in value) and value
        if key.startswith("sweep.") or not (isinstance(value, float) or is_list):
            continue
        for number in (1, 0):
            OmegaConf.update(config, key, [number] * len(value) if is_list else number)
            with suppress(UserError):
                check_config(OmegaConf.merge(config, {"trainer": ON_CPU}))
                replaced.append(key)
                break
        else:
            pytest.fail(f"{key} accepts neither 1 nor 0")
    assert {"data.mixup_alpha", "data.cutmix_alpha", "data.dataset_mean", "optimizer.lr"} < set(replaced)
    config.data.val_fraction = config.data.test_fraction = 0.2
    datamodule, classifier, trainer = build_experiment(config, ON_CPU)
    assert datamodule.mix
    trainer.fit(classifier, datamodule)
    assert trainer.global_step == 1


HEAVY = {"torch", "torchvision", "lightning", "tensorboard", "matplotlib", "numpy", "pydantic"}
COMPOSE = """
import sys
import pytorch_intro
assert not {heavy} & set(sys.modules)
import hydra
from omegaconf import OmegaConf
with hydra.initialize_config_dir({conf!r}, version_base="1.3"):
    config = hydra.compose("train", ["data=sample"])
print(OmegaConf.to_container(config.data, resolve=True))
"""


def test_hydra_compose_and_instantiate_need_the_import_of_the_package_only(tmp_path: Path) -> None:
    """In a new process: the import registers the resolvers, and imports nothing heavy."""
    code = COMPOSE.format(heavy=HEAVY, conf=str(CONFIG_DIR))
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
    )
    assert process.stdout, process.stderr
    datamodule = hydra.utils.instantiate(ast.literal_eval(process.stdout))
    datamodule.setup("fit")
    assert (len(datamodule.train_set), len(datamodule.val_set)) == (1280, 320)
