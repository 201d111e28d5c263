"""--help and --cfg answer at once, because nothing heavy is imported before it is needed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from pytorch_intro.cli import argv
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

HEAVY = ["torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "matplotlib", "numpy", "pydantic"]
GROUPS = ["data", "data/augment", "model", "optimizer", "scheduler", "trainer", "experiment", "callbacks", "logger"]
SCRIPTS = ["train", "eval", "predict", "export", "bench"]
RUN_AND_LIST_IMPORTS = """
import atexit, os, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=["help", "cfg"])
def test_an_answer_about_the_command_imports_nothing_heavy(script: str, flags: list[str], tmp_path: Path) -> None:
    """A real process, in another working directory, that lists what it has imported when it ends."""
    process = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_IMPORTS, str(PROJECT / "src" / f"{script}.py"), *flags],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert not set(HEAVY) & set(process.stderr.split())
    assert process.stdout
    assert not list(tmp_path.iterdir())


OWN_GROUPS = {
    "train": [*GROUPS, "sweep", "search", "hydra/sweeper", "hydra/launcher"],
    "eval": ["data", "data/augment", "trainer"],
    "predict": [],
    "export": ["data", "data/augment"],
    "bench": ["bench"],
}


def read_choices(text: str) -> dict[str, dict[str, str]]:
    """The choices of a help text with their descriptions, by group."""
    groups = re.findall(r"^  ([a-z/]+)\n((?:    \w+ +\S.*\n?)+)", text, re.MULTILINE)
    return {group: dict(re.findall(r"^    (\w+) +(\S.*)", lines, re.MULTILINE)) for group, lines in groups}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_lists_the_choices_of_the_command_s_own_groups(script: Command, name: str) -> None:
    """Every file of each group with its first comment, in 100 columns, and at least one example."""
    text = script(name, "--help").out
    choices = read_choices(text)
    assert sorted(choices) == sorted(OWN_GROUPS[name])
    for group, descriptions in choices.items():
        for file in (CONFIG_DIR / group).glob("*.yaml"):
            assert descriptions[file.stem].removesuffix(" (default)") == argv.first_comment(file)
    assert max(map(len, text.splitlines())) <= 100
    assert f"python src/{name}.py" in text
    assert "$" not in text


def test_every_config_file_begins_with_a_comment_that_describes_it() -> None:
    files = [file for file in CONFIG_DIR.rglob("*.yaml") if not file.stem.startswith("_")]
    assert not [str(file) for file in files if not argv.first_comment(file)]


def test_help_marks_the_default_choice_and_lists_added_files(
    script: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file added to conf/ is listed without any other change; eval has no defaults but those of the run."""
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    (conf / "optimizer" / "lion.yaml").write_text("# Lion (Chen et al. 2023)\n_target_: lion.Lion\n")
    monkeypatch.setattr(argv, "CONFIG_DIR", conf)
    text = script("train", "--help").out
    choices = read_choices(text)
    assert choices["optimizer"]["lion"] == "Lion (Chen et al. 2023)"
    defaults = {group: name for group in choices for name, words in choices[group].items() if "(default)" in words}
    assert defaults["optimizer"] == "muon"
    assert defaults["hydra/sweeper"] == "grid"
    assert len([line for line in text.splitlines() if line.startswith("  python src/train.py")]) == 5
    assert "(default)" not in str(read_choices(script("eval", "--help").out))


COMPOSE = """
import sys
import pytorch_intro
assert not {heavy} & set(sys.modules)
import hydra
with hydra.initialize_config_dir({conf!r}, version_base="1.3"):
    config = hydra.compose("train", ["data=sample"])
datamodule = hydra.utils.instantiate(config.data)
datamodule.setup("fit")
print(len(datamodule.train_set), len(datamodule.val_set))
"""


def test_a_notebook_composes_the_config_after_importing_the_package(tmp_path: Path) -> None:
    """In a new process that does nothing else: the import registers the resolvers, and imports nothing heavy."""
    code = COMPOSE.format(heavy=set(HEAVY), conf=str(CONFIG_DIR))
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
    )
    assert process.stdout.split() == ["1280", "320"], process.stderr


INTERNALS = r"^\s*(?:from|import) hydra\._internal"


def test_one_module_uses_the_private_api_of_hydra() -> None:
    files = [file for file in (PROJECT / "src").rglob("*.py") if re.search(INTERNALS, file.read_text(), re.MULTILINE)]
    assert [file.name for file in files] == ["hydra_internals.py"]


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["--cfg", "job", "--package", "model"], 0, "# @package model\n_target_: "),
        (["--cfg", "job", "--resolve"], 0, str(PROJECT / "outputs")),
        (["--cfg", "hydra", "-m"], 2, ""),
        (["--resolve"], 2, ""),
        (["--flag"], 2, ""),
        (["--info", "defaults"], 0, "Defaults List"),
        (["--hydra-help"], 0, "Hydra (1."),
    ],
    ids=str,
)
def test_hydra_s_flags_work_or_end_in_one_line(command: Command, arguments: list[str], code: int, printed: str) -> None:
    answer = command(*arguments)
    assert answer.code == code, answer.err
    assert printed in answer.out
    assert answer.err.count("\n") == (code == 2)


def test_the_config_is_composed_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """hydra.main composes it a second time, to look for hydra.mode."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    calls = []
    load = ConfigLoaderImpl.load_configuration

    def counted(*arguments: Any, **keywords: Any) -> Any:
        calls.append(keywords)
        return load(*arguments, **keywords)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    assert command("name=../elsewhere").code == 2
    assert len(calls) == 1


@pytest.mark.parametrize("mode", [[], ["-m"], ["hydra.mode=MULTIRUN"]], ids=str)
def test_a_sweep_is_asked_for_by_m_or_by_hydra_mode(command: Command, mode: list[str]) -> None:
    answer = command("data=sample", "seed=0,-1", *mode)
    assert answer.code == 2
    assert ("no job was begun" in answer.err) == bool(mode)


ALLOWED = {
    "hydra", "omegaconf", "antlr4", "pydantic", "pydantic_core", "annotated_types", "typing_inspection",
    "hydra_plugins", "tensorboard", "google", "absl", "attr", "filelock", "torch", "torchvision", "fsspec",
    "numpy", "pytorch_intro",
    "boto3", "botocore", "s3transfer", "jmespath", "certifi", "urllib3",  # by tensorboard, where Ray has brought them
}  # fmt: skip
LIST_AT_FIRST_STEP = """
import os, runpy, sys
import torch, lightning
before = set(sys.modules)
from lightning import LightningModule
def leave(*_):
    print(*(set(sys.modules) - before), file=sys.stderr)
    sys.stderr.flush()
    os._exit(0)
LightningModule.on_train_batch_end = leave
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_until_the_first_training_step_little_more_is_imported_than_torch_and_lightning(tmp_path: Path) -> None:
    """Packages for the configuration, TensorBoard's writer; no other, and none of the benchmarks."""
    train = [str(PROJECT / "src" / "train.py"), "data=sample"]
    process = subprocess.run(
        [sys.executable, "-c", LIST_AT_FIRST_STEP, *train, f"outputs={tmp_path}"], capture_output=True, text=True
    )
    imported = set(process.stderr.split())
    assert "pytorch_intro.training.classifier" in imported, process.stderr
    packages = {module.split(".")[0] for module in imported}
    assert packages - set(sys.stdlib_module_names) <= ALLOWED
    assert not [name for name in imported if name.startswith(("pytorch_intro.benchmarks", "torchvision.models"))]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("run=outputs/a", "run=outputs/a"),
        ("resume=outputs/lr=0.1,seed=1", "resume='outputs/lr=0.1,seed=1'"),
        ("images=${x}.png", "images='\\${x}.png'"),
        ("outputs=/home/${oc.env:USER}/out", "outputs=/home/${oc.env:USER}/out"),
        ("run=2024", "run='2024'"),
        ("resume=null", "resume=null"),
    ],
)
def test_paths_are_quoted_where_hydra_would_read_something_else(
    monkeypatch: pytest.MonkeyPatch, typed: str, read: str
) -> None:
    """But for references, in settings that may have some."""
    monkeypatch.setattr(sys, "argv", ["src/train.py", typed])
    argv.quote_paths()
    assert sys.argv[1] == read
