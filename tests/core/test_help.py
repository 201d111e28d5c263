"""--help and --cfg are fast, because heavy imports are deferred; Hydra's flags work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import FORKS, Command
from forked import TRAIN, run_script

from pytorch_intro.cli import argv
from pytorch_intro.config import groups
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

HEAVY = ["torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "matplotlib", "numpy", "pydantic"]
GROUPS = ["data", "data/augment", "model", "loss", "optimizer", "scheduler", "trainer", "experiment", "callbacks"]
GROUPS += [group for group in ("logger", "finetune", "metrics") if (CONFIG_DIR / group).exists()]
SCRIPTS = ["train", "eval", "predict", "export", "serve", "data_report", "bench"]
RUN_AND_LIST_IMPORTS = """
import atexit, os, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
src, *flags = sys.argv[1:]
sys.path[0] = src
for name in {scripts}:
    sys.argv = [os.path.join(src, name + ".py"), *flags]
    runpy.run_path(sys.argv[0], run_name="__main__")
    print("end of", name)
"""


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=["help", "cfg"])
def test_help_and_cfg_import_nothing_heavy(flags: list[str], tmp_path: Path) -> None:
    """All scripts, in a real process, in another working directory, that lists its imports when it ends."""
    code = RUN_AND_LIST_IMPORTS.format(scripts=SCRIPTS)
    process = subprocess.run(
        [sys.executable, "-c", code, str(PROJECT / "src"), *flags],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert not set(HEAVY) & set(process.stderr.split())
    printed = re.split(r"^end of \w+$", process.stdout, flags=re.MULTILINE)
    assert len(printed) == len(SCRIPTS) + 1
    assert all(text.strip() for text in printed[:-1])
    assert not list(tmp_path.iterdir())


OWN_GROUPS = {
    "train": [*GROUPS, "sweep", "search", "hydra/sweeper", "hydra/launcher"],
    "eval": [group for group in ("data", "metrics", "trainer") if (CONFIG_DIR / group).exists()],
    "predict": [],
    "export": ["data"],
    "serve": [],
    "data_report": ["data"],
    "bench": ["bench"],
}


def read_choices(text: str) -> dict[str, dict[str, str]]:
    """Return the choices of a help text with their descriptions, by group."""
    groups = re.findall(r"^  ([a-z/]+)\n((?:    \w+ +\S.*\n?)+)", text, re.MULTILINE)
    return {group: dict(re.findall(r"^    (\w+) +(\S.*)", lines, re.MULTILINE)) for group, lines in groups}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_lists_the_choices_of_the_groups_of_the_command(script: Command, name: str) -> None:
    """With the first comment of each file, in 100 columns, and at least one example."""
    text = script(name, "--help").out
    choices = read_choices(text)
    assert sorted(choices) == sorted(OWN_GROUPS[name])
    for group, descriptions in choices.items():
        files = {file.stem: file for file in (CONFIG_DIR / group).glob("*.yaml") if not file.stem.startswith("_")}
        assert descriptions.keys() == files.keys()  # without conf/data/_base.yaml, which is not a choice
        for choice, file in files.items():
            assert descriptions[choice].removesuffix(" (default)") == argv.first_comment(file)
    assert max(map(len, text.splitlines())) <= 100
    assert f"python src/{name}.py" in text
    assert "$" not in text


def test_every_config_file_starts_with_a_describing_comment() -> None:
    files = [file for file in CONFIG_DIR.rglob("*.yaml") if not file.stem.startswith("_")]
    assert not [str(file) for file in files if not argv.first_comment(file)]


def test_help_marks_the_default_choice_and_lists_added_files(
    script: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file added to conf/ is listed without any other change; the defaults of eval are those of the run."""
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    (conf / "optimizer" / "lion.yaml").write_text("# Lion (Chen et al. 2023)\n_target_: lion.Lion\n")
    monkeypatch.setattr(groups, "CONFIG_DIRS", [conf])
    text = script("train", "--help").out
    choices = read_choices(text)
    assert choices["optimizer"]["lion"] == "Lion (Chen et al. 2023)"
    defaults = {group: name for group in choices for name, words in choices[group].items() if "(default)" in words}
    assert defaults["optimizer"] == "muon"
    assert defaults["hydra/sweeper"] == "grid"
    assert len([line for line in text.splitlines() if line.startswith("  python src/train.py")]) == 6
    assert "(default)" not in str(read_choices(script("eval", "--help").out))


INTERNALS = r"^\s*(?:from|import) hydra\._internal"


def test_only_one_module_uses_the_private_api_of_hydra() -> None:
    files = [file for file in (PROJECT / "src").rglob("*.py") if re.search(INTERNALS, file.read_text(), re.MULTILINE)]
    assert [file.name for file in files] == ["hydra_internals.py"]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--cfg", "job", "--package", "model"], "# @package model\n_target_: "),
        (["--cfg", "job", "--resolve"], str(PROJECT / "outputs")),
        (["model=mlp", "--cfg", "job", "model.hidden_features=[7]"], "\n  - 7\n"),
        (["--info", "defaults"], "Defaults List"),
        (["--info"], "Config search path"),
        (["--hydra-help"], "Hydra (1."),
    ],
    ids=str,
)
def test_hydra_flags_such_as_cfg_and_info_work(command: Command, arguments: list[str], printed: str) -> None:
    answer = command(*arguments)
    assert answer.code == 0, answer.err
    assert printed in answer.out
    assert not answer.err


@pytest.mark.parametrize("flag", ["--config-dir", "--config-path"])
def test_configs_of_another_directory_are_used(command: Command, tmp_path: Path, flag: str) -> None:
    """--config-dir adds a directory, --config-path replaces conf/; a primary config can be in either."""
    conf = tmp_path / "more"
    (conf / "model").mkdir(parents=True)
    (conf / "model" / "tiny.yaml").write_text("width: 3\n")
    (conf / "mine.yaml").write_text("defaults:\n  - model: tiny\n  - _self_\nseed: 7\n")
    answer = command(flag, str(conf), "--config-name", "mine", "--cfg", "job")
    assert (answer.code, answer.out) == (0, "model:\n  width: 3\nseed: 7\n"), answer.err
    choice = command(flag, str(conf), "model=tiny", "--cfg", "job", "--package", "model")
    assert (choice.code == 0) == (flag == "--config-dir")


def test_the_config_is_composed_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """hydra.main composes it twice, to look for hydra.mode."""
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
def test_sweep_is_started_by_m_or_by_hydra_mode(command: Command, mode: list[str]) -> None:
    answer = command("data=sample", "seed=0,-1", *mode)
    assert answer.code == 2
    assert ("no job was started" in answer.err) == bool(mode)


ALLOWED = {
    "hydra", "omegaconf", "antlr4", "pydantic", "pydantic_core", "annotated_types", "typing_inspection",
    "hydra_plugins", "tensorboard", "google", "absl", "attr", "filelock", "torch", "torchvision", "fsspec",
    "numpy", "pytorch_intro",
    "boto3", "botocore", "s3transfer", "jmespath", "certifi", "urllib3",  # by tensorboard, if Ray has installed them
}  # fmt: skip


def list_imports_at_first_step(out: Path, *arguments: str) -> None:
    """Train until the first step; write what has been imported since this process was forked."""
    from lightning import LightningModule

    before = set(sys.modules)

    def stop(*_: Any) -> Any:
        out.write_text(" ".join(set(sys.modules) - before))
        os._exit(0)

    LightningModule.on_train_batch_end = stop  # type: ignore[method-assign, assignment]
    run_script([TRAIN, *arguments])


def test_training_imports_little_more_than_torch_and_lightning(tmp_path: Path) -> None:
    """Until the first step: packages for the configuration and TensorBoard's writer, and no benchmarks."""
    out = tmp_path / "imports"
    process = FORKS.Process(target=list_imports_at_first_step, args=(out, "data=sample", f"outputs={tmp_path}"))
    process.start()
    process.join(100)
    imported = set(out.read_text().split())
    assert "pytorch_intro.training.classifier" in imported
    packages = {module.split(".")[0] for module in imported}
    assert packages - set(sys.stdlib_module_names) <= ALLOWED
    assert not [name for name in imported if name.startswith(("pytorch_intro.benchmarks", "torchvision.models"))]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("run=outputs/a", "run=outputs/a"),
        ("name=1.10", "name='1.10'"),
        ("name=1_000", "name='1_000'"),
        ("name=lr=0.1,wd=0", "name='lr=0.1,wd=0'"),
        ("name=ü", "name='ü'"),
        ("name=null", "name=null"),
        ("+data.labels=ü.csv", "+data.labels='ü.csv'"),
        ("data.cache_dir=1.5", "data.cache_dir='1.5'"),
        ("images=a b", "images='a b'"),
        ("run", "run"),
        *((f"{key}=~/ü", f"{key}='/home/me/ü'") for key in argv.PATHS),
        ("name=~/a", "name='~/a'"),
        ("resume=outputs/lr=0.1,seed=1", "resume='outputs/lr=0.1,seed=1'"),
        ("images=${x}.png", "images='\\${x}.png'"),
        ("outputs=/home/${oc.env:USER}/out", "outputs=/home/${oc.env:USER}/out"),
        ("run=2024", "run='2024'"),
        ("resume=null", "resume=null"),
        ("positive=true", "positive='true'"),
        ("positive=1.50", "positive='1.50'"),
        ("positive=null", "positive='null'"),
        ("positive=shirt", "positive=shirt"),
    ],
)
def test_names_and_paths_are_quoted_if_hydra_would_parse_them(
    monkeypatch: pytest.MonkeyPatch, typed: str, read: str
) -> None:
    """Except for interpolations, in settings that may have some. In paths, ~ is expanded."""
    monkeypatch.setenv("HOME", "/home/me")
    assert argv.quote_texts([typed]) == [read]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("name=1.10", "name='1.10'"),
        ("data.root=~/a,1,b c", "data.root=/home/me/a,'1','b c'"),
        ("data.root=choice(a,b)", "data.root=choice(a,b)"),
        ("data.root='a,b'", "data.root='a,b'"),
    ],
)
def test_a_comma_separates_names_and_paths_in_a_sweep(monkeypatch: pytest.MonkeyPatch, typed: str, read: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert argv.quote_texts(["-m", typed]) == ["-m", read]
