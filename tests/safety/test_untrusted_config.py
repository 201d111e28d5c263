"""A run's folder that comes from elsewhere names parts of a training and nothing else."""

from pathlib import Path

import pytest
from conftest import Command, compose
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT
from pytorch_intro.safety.untrusted_config import (
    ALLOWED_BASES,
    UNSAFE_DATASETS,
    find_object,
    is_allowed_target,
    iter_values,
    verify_config,
)

FOLDER = PROJECT / "outputs" / "never"

HOSTILE = [
    "torch.utils.data.datapipes.iter.routeddecoder.RoutedDecoderIterDataPipe",
    "torchvision.datasets.LSUN",
    "os.system",
    "subprocess.run",
    "builtins.exec",
    "pathlib.Path.touch",
    "torch.os.system",
    "torch.hub.load",
    "torch.load",
    "torch.utils.cpp_extension.load_inline",
    "torch.utils.collect_env.run",
    "lightning.pytorch.utilities.migration.utils.pl_legacy_patch",
    "pytorch_intro.runs.folder.remove",
    "pytorch_intro.runs.folder.shutil.rmtree",
    "pytorch_intro.benchmarks.workbench.run_process",
    "torchvision.models._utils.Callable",
    "torch",
]
MISSING = ["", "torch.nn.Nonsense", "nonsense.Nonsense"]


@pytest.mark.parametrize("target", HOSTILE)
def test_an_object_that_is_not_part_of_a_training_is_refused(target: str) -> None:
    """The object exists, so that it is refused for what it is."""
    assert find_object(target) is not None
    assert not is_allowed_target(target)


@pytest.mark.parametrize("target", MISSING)
def test_a_name_of_nothing_is_refused(target: str) -> None:
    assert find_object(target) is None
    assert not is_allowed_target(target)


@pytest.mark.parametrize("name", ALLOWED_BASES)
def test_every_allowed_base_is_a_class(name: str) -> None:
    assert isinstance(find_object(name), type)


@pytest.mark.parametrize("name", UNSAFE_DATASETS)
def test_every_unsafe_dataset_exists(name: str) -> None:
    assert isinstance(find_object(f"torchvision.datasets.lsun.{name}"), type)


def test_every_target_of_this_project_s_configs_is_a_part_of_a_training() -> None:
    files = [file for file in CONFIG_DIR.rglob("*.yaml") if not {"bench", "hydra"} & set(file.parts)]
    values = [pair for file in files for pair in iter_values(OmegaConf.to_container(OmegaConf.load(file)), "")]
    named = {value for key, value in values if key.endswith("_target_")}
    refused = {target for target in named if target != "???" and not is_allowed_target(target)}
    assert len(named) > 20
    assert not refused


def test_what_the_user_allows_may_be_named() -> None:
    """A package with all in it, a module, or one object; not what merely begins with the same letters."""
    config = compose("data=custom", "data.dataset._target_=stripes.boards.Stripes", run_dir=FOLDER)
    for allowed in ("stripes", "stripes.boards", "stripes.boards.Stripes"):
        verify_config(config, FOLDER, [allowed], "config.yaml")
    for others in ([], ["stripe"], ["stripes.boards.Strip"], ["boards"], [""]):
        with pytest.raises(UserError, match=r"config.yaml: data.dataset._target_=stripes.boards.Stripes is refused"):
            verify_config(config, FOLDER, others, "config.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"_target_": "os.mkdir", "path": "PATH"}},
        {"callbacks": {"more": {"_target_": "os.mkdir", "path": "PATH"}}},
        {"trainer": {"plugins": [{"_target_": "os.mkdir", "path": "PATH"}]}},
        {"model": "${oc.create:'{_target_: os.mkdir, path: PATH}'}"},
        {"call": "os.mkdir", "model": {"_target_": "${call}", "path": "PATH"}},
        {"model": {"_target_": "torch.os.mkdir", "path": "PATH"}},
        {"stash": ["os.mkdir"], "model": {"_target_": "${stash.${oc.env:PL_GLOBAL_SEED,0}}", "path": "PATH"}},
        {"stash": ["${new_run_dir:PATH,null}"]},
        {"callbacks": {"checkpoint": {"dirpath": "PATH"}}},
        {"logger": {"tensorboard": {"save_dir": "${run_dir}/../../sprung"}}},
        {"allow": ["os"], "model": {"_target_": "os.mkdir", "path": "PATH"}},
    ],
)
def test_a_hostile_config_of_a_run_s_folder_is_refused_and_calls_nothing(
    command: Command, run_copy: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """However deep, by reference, or with an allowance that it gives itself."""
    run = run_copy
    (run / "result.json").unlink()
    config = OmegaConf.load(run / "config.yaml")
    trap = tmp_path / "sprung"
    if isinstance(change.get("model"), dict):
        del config.model
    merged = OmegaConf.merge(config, OmegaConf.create(OmegaConf.to_yaml(change).replace("PATH", str(trap))))
    (run / "config.yaml").write_text(OmegaConf.to_yaml(merged))
    answer = command(f"resume={run}")
    assert answer.code == 2, answer.err
    assert answer.err.count("\n") == 1
    assert "is refused" in answer.err
    assert str(run / "config.yaml") in answer.err
    assert not trap.exists()
