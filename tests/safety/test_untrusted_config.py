"""The config of a run folder from elsewhere can only name parts of a training."""

import re
from pathlib import Path

import pytest
from conftest import Command, compose
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.flatten import iter_values
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT, PROJECT_VARIABLE
from pytorch_intro.safety.untrusted_config import (
    ALLOWED_BASES,
    UNSAFE_DATASETS,
    find_object,
    is_allowed_target,
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
    "pytorch_intro.common.files.remove",
    "pytorch_intro.common.files.shutil.rmtree",
    "pytorch_intro.cli.entrypoint.run",
    "torchvision.models._utils.Callable",
    "lightning.pytorch.loggers.MLFlowLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "lightning.pytorch.loggers.CometLogger",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.callbacks.OnExceptionCheckpoint",
    "torch",
]
MISSING = ["", "torch.nn.Nonsense", "nonsense.Nonsense"]


@pytest.mark.parametrize("target", HOSTILE)
def test_targets_that_are_not_part_of_a_training_are_refused(target: str) -> None:
    """The object exists, so it is refused for its kind."""
    assert find_object(target) is not None
    assert not is_allowed_target(target)


@pytest.mark.parametrize("target", MISSING)
def test_targets_that_do_not_exist_are_refused(target: str) -> None:
    assert find_object(target) is None
    assert not is_allowed_target(target)


@pytest.mark.parametrize("name", ALLOWED_BASES)
def test_every_allowed_base_is_a_class(name: str) -> None:
    assert isinstance(find_object(name), type)


@pytest.mark.parametrize("name", UNSAFE_DATASETS)
def test_every_unsafe_dataset_exists(name: str) -> None:
    assert isinstance(find_object(f"torchvision.datasets.lsun.{name}"), type)


def test_every_target_of_the_configs_is_allowed() -> None:
    files = [file for file in CONFIG_DIR.rglob("*.yaml") if not {"bench", "hydra"} & set(file.parts)]
    values = [
        pair for file in files for pair in iter_values(OmegaConf.to_container(OmegaConf.load(file)), types=(dict, list))
    ]
    named = {value for key, value in values if key.endswith("_target_")}
    refused = {target for target in named if target != "???" and not is_allowed_target(target)}
    assert len(named) > 20
    assert not refused


@pytest.mark.skipif(not (CONFIG_DIR / "logger" / "mlflow.yaml").exists(), reason="the loggers were deleted")
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tracking_uri", "http://127.0.0.1:9"),
        ("tracking_uri", "postgresql://host/db"),
        ("tracking_uri", "sqlite:////tmp/mlflow.db"),
        ("tracking_uri", "sqlite:///${outputs}/../mlflow.db"),
        ("artifact_location", "s3://bucket"),
    ],
)
def test_a_server_that_a_config_names_needs_permission(setting: str, value: str) -> None:
    """It would get what a resumed run logs. The database in outputs/ needs none."""
    verify_config(compose("logger=mlflow", run_dir=FOLDER), FOLDER, [], "config.yaml")
    config = compose("logger=mlflow", run_dir=FOLDER)
    config.logger.mlflow[setting] = value
    resolved = config.logger.mlflow[setting]
    with pytest.raises(UserError, match=rf"{setting}=.*refused.*add 'allow=\[{re.escape(resolved)}\]'"):
        verify_config(config, FOLDER, [], "config.yaml")
    verify_config(config, FOLDER, [resolved], "config.yaml")


def test_user_can_allow_a_package_module_or_object() -> None:
    """Names that only start with the same letters stay refused."""
    config = compose("data=custom", "data.dataset._target_=stripes.boards.Stripes", run_dir=FOLDER)
    for allowed in ("stripes", "stripes.boards", "stripes.boards.Stripes"):
        verify_config(config, FOLDER, [allowed], "config.yaml")
    for other in ([], ["stripe"], ["stripes.boards.Strip"], ["boards"], [""]):
        with pytest.raises(UserError, match=r"config.yaml: data.dataset._target_=stripes.boards.Stripes: refused"):
            verify_config(config, FOLDER, other, "config.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"_target_": "os.mkdir", "path": "PATH"}},
        {"callbacks": {"more": {"_target_": "os.mkdir", "path": "PATH"}}},
        {"trainer": {"plugins": [{"_target_": "os.mkdir", "path": "PATH"}]}},
        {"callbacks": {"more": "${oc.create:'{_target_: os.mkdir, path: PATH}'}"}},
        {"call": "os.mkdir", "model": {"_target_": "${call}", "path": "PATH"}},
        {"model": {"_target_": "torch.os.mkdir", "path": "PATH"}},
        {"stash": ["os.mkdir"], "model": {"_target_": "${stash.${oc.env:PL_GLOBAL_SEED,0}}", "path": "PATH"}},
        {"stash": ["${new_run_dir:PATH,null}"]},
        {"callbacks": {"checkpoint": {"dirpath": "PATH"}}},
        {"logger": {"tensorboard": {"save_dir": "${run_dir}/../../sprung"}}},
        {"logger": {"tensorboard": {"version": "../../../sprung"}}},
        {"logger": {"tensorboard": {"sub_dir": "PATH"}}},
        {
            "logger": {
                "csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "${run_dir}", "name": "PATH"}
            }
        },
        {
            "callbacks": {
                "more": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "filename": "../../../sprung"}
            }
        },
        {"trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "filename": "/../PATH"}}},
        {"allow": ["os"], "model": {"_target_": "os.mkdir", "path": "PATH"}},
    ],
)
def test_hostile_config_is_refused_and_calls_nothing(
    command: Command, run_copy: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """At any depth, by interpolation, or with its own `allow`. A model that is text is not even a config."""
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
    assert ("not the config of a run" if isinstance(change.get("model"), str) else ": refused") in answer.err
    assert str(run / "config.yaml") in answer.err
    assert not trap.exists()


def test_settings_that_extend_a_run_are_verified_too(command: Command, run_copy: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    settings = {"callbacks.more": {"_target_": "os.mkdir", "path": str(trap)}}
    extension = OmegaConf.to_yaml([{"command": "python src/train.py", "settings": settings}])
    (run_copy / "config_extended.yaml").write_text(extension)
    answer = command(f"resume={run_copy}")
    assert (answer.code, "callbacks.more._target_=os.mkdir: refused" in answer.err) == (2, True), answer.err
    assert not trap.exists()


@pytest.mark.parametrize("name", ["train.log", "checkpoints", "csv/metrics.csv"])
def test_a_link_out_of_the_run_folder_is_not_written_to(
    command: Command, run_copy: Path, tmp_path: Path, name: str
) -> None:
    """A folder or a file of somebody else; a link to a place within the folder is not refused."""
    (run_copy / "result.json").unlink()
    link, other = run_copy / name, tmp_path / "other"
    (run_copy / "card.md").symlink_to("README.md")
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        link.rename(other)
    else:
        other.write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in [other, *other.rglob("*")]}
    link.symlink_to(other)
    answer = command(f"resume={run_copy}")
    assert answer.code == 2, answer.err
    assert answer.err.startswith(f"error: {link}: refused, a link to {other}, outside the run folder; ")
    assert {path: path.stat().st_mtime_ns for path in [other, *other.rglob("*")]} == before
    assert command(f"resume={run_copy}", f"allow=[{other}]").code == 0


@pytest.mark.parametrize("module", ["their_network.py", "their_network/__init__.py"])
def test_the_code_of_another_project_is_named(tmp_path: Path, module: str) -> None:
    """The run folder is in that project; elsewhere, and for a module that it lacks, the usual remedy."""
    project = tmp_path / "project"
    for file in (project / "conf" / "train.yaml", project / "src" / module):
        file.parent.mkdir(parents=True)
        file.touch()
    config = OmegaConf.create({"model": {"_target_": "their_network.Network"}, "outputs": str(tmp_path)})
    with pytest.raises(UserError, match=f"its code is in the project {project}; .* {PROJECT_VARIABLE}={project}$"):
        verify_config(config, project / "outputs" / "first", [], "config.yaml")
    with pytest.raises(UserError, match=r"'allow=\[their_network\.Network\]'$"):
        verify_config(config, tmp_path / "elsewhere", [], "config.yaml")
    config.model._target_ = "another.Network"
    with pytest.raises(UserError, match=r"'allow=\[another\.Network\]'$"):
        verify_config(config, project / "outputs" / "first", [], "config.yaml")
