"""The installed package: a wheel, its command, and a project of the user's own with a conf/ and a src/."""

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import NO_PICTURES, ONE_BATCH, Command
from installed import Installed

import pytorch_intro
from pytorch_intro import __main__ as program
from pytorch_intro.config import groups, paths
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

ONE_STEP = [*(argument for argument in ONE_BATCH if not argument.startswith("name=")), *NO_PICTURES]
HAS_INFERENCE = (PROJECT / "src" / "eval.py").exists()
HAS_SWEEPS = (PROJECT / "src" / "hydra_plugins").exists()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    path = tmp_path_factory.mktemp("empty") / "Schuhe ü (1)"
    path.mkdir()
    return path


def test_the_wheel_has_code_configs_and_sample_and_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= 3e6
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {path.relative_to(PROJECT / "src") for path in (PROJECT / "src").glob("*/**/*.py")}
    configs = {Path("pytorch_intro/conf", path.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*.yaml")}
    sample = {path.relative_to(PROJECT / "src") for path in (PROJECT / "src").glob("pytorch_intro/data/sample/*.gz")}
    assert len(sample) == 4
    assert names >= {path.as_posix() for path in code | configs | sample} | {"pytorch_intro/py.typed"}
    assert {name.partition("/")[0] for name in names} == {path.parts[0] for path in code}


def test_the_extra_all_has_the_packages_of_every_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        required = re.findall(r"^Requires-Dist: (.*); extra == '(\w+)'$", archive.read(name).decode(), re.MULTILINE)
    assert len({extra for _, extra in required}) > 2
    assert {line for line, extra in required if extra == "all"} == {line for line, extra in required if extra != "all"}


def test_the_installed_command_trains_in_an_empty_folder(installed: Installed, folder: Path) -> None:
    """A real process; outputs/ is in the folder, and the commands to run next are those of the package."""
    answer = installed.start(folder, "train", *ONE_STEP, "model=mlp", "name=first")
    assert answer.returncode == 0, answer.stderr
    assert {path.name for path in folder.iterdir()} == {"outputs"}
    result = json.loads((folder / "outputs" / "first" / "result.json").read_text())
    assert result["command"].startswith("pytorch-intro train data=sample")
    assert result["pytorch_intro"] == pytorch_intro.__version__
    assert f"pytorch-intro predict run={Path('outputs', 'first')} images=PATH" in answer.stdout
    assert "src/" not in answer.stdout


def test_ctrl_c_during_the_first_import_of_the_installed_command_exits_quietly(
    installed: Installed, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "omegaconf.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n")
    answer = installed.start(folder, "train", PYTHONPATH=str(tmp_path))
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")


NETWORK = """
from torch import nn


class Network(nn.Sequential):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, num_classes))
"""
OWN_FILES = {
    "src/mine.py": NETWORK.replace("nn.LazyLinear(", "nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], "),
    "conf/model/mine.yaml": "# My network\n_target_: mine.Network\nwidth: 16\n",
    "conf/data/mine.yaml": "# My data\ndefaults: [sample, _self_]\nbatch_size: 16\n",
    "conf/experiment/mine.yaml": "# @package _global_\n# My recipe\ndefaults:\n  - override /model: mine\n"
    "  - override /data: mine\ntrainer:\n  max_epochs: 1\n",
    "conf/optimizer/sgd.yaml": "# My SGD\n_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n",
}


def write_project(folder: Path) -> None:
    for name, text in OWN_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# Entries of a defaults list that Hydra cannot read, by the name of their file.
ENTRIES = {
    "bool": "override /data: on",
    "nested_bool": "override /logger: [csv, off]",
    "number": "override /data: 1",
    "key": "on: cnn",
    "alone": "on",
    "two": "{/data: sample, /logger: csv}",
    "empty": "{}",
}


@pytest.fixture
def own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a conf/ and a src/ of its own, for commands in this process."""
    write_project(tmp_path)
    monkeypatch.setattr(groups, "CONFIG_DIRS", [tmp_path / "conf", CONFIG_DIR])
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setattr(paths, "IS_CLONE", False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_help_lists_the_choices_of_both_places_ones_own_first(own_project: Path, command: Command) -> None:
    text = command("--help").out
    assert re.search(r"^  model\n    mine +My network\n    cnn .*\(default\)\n    mlp ", text, re.MULTILINE)
    assert re.search(r"^  optimizer\n    sgd +My SGD\n    muon .*\(default\)\n    adamw ", text, re.MULTILINE)
    assert "pytorch-intro train data=sample" in text
    assert "needs pytorch-intro[scale]" in text or not HAS_SWEEPS
    assert "python src/" not in text


def test_configs_of_both_places_are_composed_and_ones_own_win(own_project: Path, command: Command) -> None:
    own = yaml.safe_load(command("experiment=mine", "optimizer=sgd", "--cfg", "job").out)
    assert own["model"] == {"_target_": "mine.Network", "width": 16}
    assert own["data"]["batch_size"] == 16
    assert own["data"]["root"] == "${package:data/sample}"
    assert own["optimizer"] == {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    assert yaml.safe_load(command("model=mlp", "--cfg", "job").out)["model"]["_target_"].endswith("MLP")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model=min"], "model=min: unknown choice; did you mean mine\\? choose from .*cnn, .*mine, mlp.*"),
        (["model=mine", "model.widht=3"], "model.widht: unknown setting; did you mean model.width.*"),
        (["model.width=3", "model=mlp"], "model.width: unknown setting; it needs model=cnn or model=mine"),
        (["model=broken"], r".*conf/model/broken\.yaml, line 3: not valid YAML \(.*\); correct this line"),
        (["model=latin"], r".*conf/model/latin\.yaml: not UTF-8 \(.*\); save it as UTF-8"),
        (["model=text"], "Invalid defaults list in 'model/text', defaults must be a list .*; write a list there, .*"),
        *(
            ([f"model={name}"], rf"model/{name}\.yaml: defaults: .+: not GROUP: NAME; .*quote a name such as 'on', .*")
            for name in ENTRIES
        ),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_name_the_configs_of_both_places(
    own_project: Path, command: Command, arguments: list[str], line: str
) -> None:
    files = {
        "broken": b"# Mine\nwidth: [1, 2\nheight: 3\n",
        "latin": b"# Gr\xf6\xdfe\n",
        "text": b"defaults: a",
        **{name: f"defaults: [{entry}]".encode() for name, entry in ENTRIES.items()},
    }
    for name, content in files.items():
        (own_project / "conf" / "model" / f"{name}.yaml").write_bytes(content)
    answer = command(*arguments)
    assert answer.code == 2
    assert re.fullmatch(f"error: {line}\n", answer.err), answer.err


@pytest.mark.parametrize("name", ["random.py", "torch.py", "json/__init__.py", "pytorch_intro/__init__.py"])
def test_a_module_that_hides_a_needed_one_is_refused(own_project: Path, command: Command, name: str) -> None:
    file = own_project / "src" / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    answer = command("--cfg", "job")
    assert answer.code == 2
    hidden = own_project / "src" / Path(name).parts[0]
    remedy = "in a clone, use python src/train.py" if "intro" in name else "rename it"
    assert answer.err == f"error: {hidden}: hides the module {hidden.stem} of Python or of a package; {remedy}\n"


@pytest.mark.parametrize(
    ("dependencies", "problem"),
    [
        ('["numpy", "PyTorch_Intro[photos]>=0.0.1"]', None),
        ('["pytorch-intro>=99"]', "the project needs pytorch-intro>=99, but {version} is installed; install .*"),
        ('["pytorch-intro<=0.0.1"]', "the project needs pytorch-intro<=0.0.1, but {version} is installed; install .*"),
        ('["pytorch-intro"', "not valid \\(.*\\); correct it"),
        ('["pytorch-intro >> 3"]', "not valid \\(.*\\); correct it"),
    ],
    ids=["fits", "newer", "older", "no TOML", "no requirement"],
)
def test_a_project_for_another_version_is_refused(
    own_project: Path, command: Command, dependencies: str, problem: str | None
) -> None:
    file = own_project / "pyproject.toml"
    file.write_text(f'[project]\nname = "mine"\ndependencies = {dependencies}\n')
    answer = command("--cfg", "job")
    if problem is None:
        assert answer.code == 0
    else:
        assert answer.code == 2
        assert re.fullmatch(f"error: {file}: {problem.format(version=pytorch_intro.__version__)}\n", answer.err)


@pytest.mark.parametrize(
    ("variable", "folder", "found"),
    [(None, "a/b/c", "a"), (None, "x/y", "x/y"), ("other", "a/b/c", "other")],
    ids=["parent with conf", "none", "variable"],
)
def test_the_project_is_the_nearest_folder_with_a_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, folder: str, found: str
) -> None:
    """Or that of the environment variable, or of a script of the clone."""
    (tmp_path / "a" / "conf").mkdir(parents=True)
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setattr(sys, "argv", ["pytorch-intro"])
    monkeypatch.setattr(paths, "CLONE", None)
    if variable:
        monkeypatch.setenv(paths.PROJECT_VARIABLE, str(tmp_path / variable))
    assert paths.find_project() == tmp_path / found
    monkeypatch.setattr(paths, "CLONE", PROJECT)
    monkeypatch.setattr(sys, "argv", [str(PROJECT / "src" / "train.py")])
    assert paths.find_project() == PROJECT


def test_the_program_lists_the_commands_and_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each file in commands/."""
    program.main([])
    listed = re.findall(r"^  (\w+) +\S.*[^.]$", capsys.readouterr().out.split("Commands:")[1], re.MULTILINE)
    assert listed == sorted(path.stem for path in (PROJECT / "src").glob("*.py"))
    program.main(["--version"])
    assert capsys.readouterr().out == f"pytorch-intro {pytorch_intro.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("trian", "use train, "), ("evaluate", "use eval, "),
        *((typed, "choose from bench, data_report, eval, ") for typed in ("qqq", "nosuch", "help")),
    ],
)  # fmt: skip
def test_an_unknown_command_is_answered_with_the_nearest_or_all(
    capsys: pytest.CaptureFixture[str], typed: str, remedy: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main([typed])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {typed}: unknown command; {remedy}")


def test_the_citation_has_the_version() -> None:
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == pytorch_intro.__version__
