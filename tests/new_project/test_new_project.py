"""pytorch-intro new: what it creates, that every command works there, and what it refuses."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import NO_PICTURES, ONE_BATCH, Command, write_images
from installed import Installed, build_wheel, create_environment, install

import pytorch_intro
from pytorch_intro.commands.new import main
from pytorch_intro.config import groups, paths
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT
from pytorch_intro.new_project import create
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training import summary

HAS_INFERENCE = (PROJECT / "src" / "eval.py").exists()
HAS_SWEEPS = (PROJECT / "src" / "hydra_plugins").exists()
FEW = ["experiment=shoes", *(argument for argument in ONE_BATCH if not argument.startswith(("data=", "name=")))]
FILES = {
    "pyproject.toml", "README.md", "Makefile", ".gitignore", "outputs/.gitignore", "tests/test_shoes.py",
    "src/shoes/__init__.py", "src/shoes/network.py", "src/shoes/classifier.py", "src/shoes/dataset.py",
    "conf/model/shoes.yaml", "conf/data/shoes.yaml", "conf/experiment/shoes.yaml",
}  # fmt: skip
# What YAML or Hydra's command line reads as a boolean, null or a number.
NO_TEXT = ("on", "off", "yes", "no", "true", "false", "null", "nan", "inf")
# Part of the project of the test below: ends its process in the second step, as `kill -9` does.
KILLER = """
import os, signal
from lightning.pytorch.callbacks import Callback

class Killer(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images whose name needs quotes in YAML and in a shell."""
    folder = tmp_path / 'my "photos" $x #1'
    write_images(folder, *(f"{label}/{number}.png" for label in ("boot", "sandal") for number in range(8)))
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs the command, expects exit code 2, and returns the line that it printed."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        answer = capsys.readouterr()
        assert (stop.value.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        return answer.err.removeprefix("error: ").strip()

    return run


def relative_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("has_data", [False, True], ids=["sample", "folder"])
def test_a_new_project_is_a_page_of_code_without_placeholders(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], has_data: bool
) -> None:
    project = tmp_path / "shoes"
    main([str(project), *(["--data", str(photos)] if has_data else [])])
    assert relative_files(project) - {"local.mk"} == FILES - ({"src/shoes/dataset.py"} if has_data else set())
    texts = {name: (project / name).read_text() for name in relative_files(project)}
    assert sum(len(text.splitlines()) for text in texts.values()) <= 150
    assert not [name for name, text in texts.items() if re.search("my_project|0.0.0|DATA_FOLDER", text)]
    assert f'"pytorch-intro>={pytorch_intro.__version__}"' in texts["pyproject.toml"]
    images = "16 images of 2 classes" if has_data else "2,000 images"
    assert images in capsys.readouterr().out


@pytest.mark.skipif(not (HAS_INFERENCE and HAS_SWEEPS), reason="inference and sweeps are optional parts")
def test_every_command_runs_in_a_new_project(installed: Installed, tmp_path: Path) -> None:
    """From a folder below, with a file that replaces a built-in choice; kill -9 and two ranks included."""
    project = tmp_path / "Schuhe ü (1)"
    created = installed.start(tmp_path, "new", project.name, "--name", "shoes")
    assert created.returncode == 0, created.stderr
    assert not (project / "local.mk").exists()
    (project / "src" / "shoes" / "killer.py").write_text(KILLER)
    (project / "conf" / "optimizer").mkdir()
    (project / "conf" / "optimizer" / "sgd.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n")
    write_images(tmp_path, "image.png")
    below = project / "notebooks"
    below.mkdir()
    few = [*FEW, *NO_PICTURES]
    commands = [
        ["kill", "train", *few, "name=first", "trainer.max_epochs=3", "+callbacks.killer._target_=shoes.killer.Killer"],
        ["train", "resume=../outputs/first"],
        ["train", "-m", *few, "name=widths", "model.width=4,8", "optimizer=sgd"],
        ["eval", "run=first"],
        ["predict", "run=first", f"images={tmp_path / 'image.png'}", "num_workers=0"],
        ["export", "run=first", "num_images=2", "formats=[safetensors]"],
        *([["tour", "15"]] if importlib.util.find_spec("pytorch_intro.tour") else []),
        ["train", *few, "name=ranks", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
    ]
    exit_code, printed = installed.run_all(below, commands, tmp_path)
    assert exit_code == 0, printed
    expected = ["kill: exit code -9", *(f"{command[0]}: exit code 0" for command in commands[1:])]
    assert [line for line in printed.splitlines() if "exit code" in line] == expected, printed
    assert "resuming from" in printed
    assert {path.name for path in project.iterdir()} == {name.partition("/")[0] for name in FILES} | {"notebooks"}
    assert not list(below.iterdir())
    outputs = project / "outputs"
    config = yaml.safe_load((outputs / "first" / "config.yaml").read_text())
    assert config["model"] == {"_target_": "shoes.network.Network", "width": 32}
    assert {path.name for path in (outputs / "first").iterdir()} >= {"result.json", "predictions.csv", "export"}
    assert json.loads((outputs / "first" / "result.json").read_text())["epochs"] == 3
    jobs = list((outputs / "sweeps" / "widths").glob("*/config.yaml"))
    assert [yaml.safe_load(job.read_text())["optimizer"]["lr"] for job in jobs] == [0.5, 0.5]
    assert (outputs / "ranks" / "result.json").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_project_passes_its_own_tests_after_an_upgrade_of_the_package(installed: Installed, tmp_path: Path) -> None:
    """Created by one version, run by a higher one, without an edit; a lower one is refused."""
    project = tmp_path / "Größe 42"
    assert installed.start(tmp_path, "new", str(project)).returncode == 0
    newer = create_environment(tmp_path / "env")
    (tmp_path / "wheel").mkdir()
    install(newer, build_wheel(tmp_path / "wheel", "7.0.0"))
    assert newer.start(project, "--version").stdout == "pytorch-intro 7.0.0\n"
    answer = newer.run(project, ["make", "test"])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 passed" in answer.stdout
    file = project / "pyproject.toml"
    file.write_text(file.read_text().replace(f">={pytorch_intro.__version__}", ">=7.0.1"))
    answer = newer.start(project, "train")
    assert answer.returncode == 2
    assert answer.stderr == (
        f"error: {file}: the project needs pytorch-intro>=7.0.1, but 7.0.0 is installed; install a version that fits, "
        "or change this requirement\n"
    )


def test_make_finds_a_clone_and_a_python_that_are_not_installed(tmp_path: Path, installed: Installed) -> None:
    """local.mk names both; without them, make would use any python3."""
    project = tmp_path / "shoes"
    main([str(project)])
    lines = (project / "local.mk").read_text().splitlines()
    assert f"export PYTHONPATH := {PROJECT / 'src'}" in lines
    answer = installed.run(project, ["make", "--dry-run", "train", "ARGS=seed=1 name=a"])
    assert answer.stdout.endswith("-m pytorch_intro train experiment=shoes seed=1 name=a\n")
    answer = installed.run(project, ["make", "run", "ARGS=train --help"])
    assert "  model\n    shoes " in answer.stdout, answer.stderr


def test_the_commands_after_a_run_work_in_a_project_of_a_clone(
    tmp_path: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command pytorch-intro is installed there, and the shell has no PYTHONPATH."""
    project = tmp_path / "My shoes"
    main([str(project), "--name", "shoes"])
    monkeypatch.setattr(summary, "IS_CLONE", False)
    monkeypatch.setattr(summary, "PROJECT", project)
    monkeypatch.chdir(project)
    printed = summary.next_commands({}, RunFolder(project / "outputs" / "first"))
    (command,) = [line.partition("#")[0] for line in printed.splitlines() if "train --help" in line]
    answer = installed.run(project, ["bash", "-c", command])
    assert "  model\n    shoes " in answer.stdout, answer.stderr


def test_a_project_of_photos_trains_on_them(
    tmp_path: Path, photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "shoes"
    main([str(project), "--data", str(photos)])
    monkeypatch.setattr(groups, "CONFIG_DIRS", [project / "conf", CONFIG_DIR])
    monkeypatch.setattr(paths, "PROJECT", project)
    monkeypatch.setattr(paths, "IS_CLONE", False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    answer = command(*FEW, *NO_PICTURES, "name=first", "data.image_size=32")
    assert answer.code == 0, answer.err
    result = json.loads((tmp_path / "outputs" / "first" / "result.json").read_text())
    assert "test/accuracy" in result


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shoes", "shoes"), ("My Shoes (2)", "my_shoes_2"), ("Größe-42", "große_42"), ("café.d", "cafe_d")],
)
def test_the_name_follows_from_the_folder(tmp_path: Path, folder: str, name: str) -> None:
    """In letters that Hydra's command line reads without quotes."""
    assert create.derive_name(tmp_path / folder) == name.replace("ß", "")


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("42", "'42' is not a Python name"),
        ("靴", "'' is not a Python name"),
        ("class", "'class' is not a Python name"),
        *((name, f"'{name}' is not text in YAML or on the command line") for name in NO_TEXT),
        ("random", "'random' would hide the installed module random"),
        ("torch", "'torch' would hide the installed module torch"),
        ("yaml", "'yaml' would hide the installed module yaml"),
        ("cnn", "'cnn' would hide the built-in choice model=cnn"),
        ("folder", "'folder' would hide the built-in choice data=folder"),
    ],
)
def test_a_name_that_cannot_work_is_refused(
    tmp_path: Path, refused: Callable[..., str], folder: str, reason: str
) -> None:
    """Derived or given; another --name remedies it."""
    line = refused(tmp_path / folder)
    assert reason in line
    assert line.endswith("add --name NAME")
    if name := re.findall(r"'(.*)' ", reason)[0]:
        assert reason in refused(tmp_path / "shoes", "--name", name)
    assert not list(tmp_path.iterdir())
    main([str(tmp_path / folder), "--name", "shoes"])
    assert relative_files(tmp_path / folder) >= FILES


@pytest.mark.parametrize("name", ["y", "n", "none", "e1", "o1", "x_1"])
def test_a_name_that_looks_like_another_value_but_is_text_is_accepted(name: str) -> None:
    assert create.check_name(name) == name
    assert yaml.safe_load(name) == name


def test_nothing_is_overwritten(tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder is filled, also the working directory, and one with nothing but a new Git repository."""
    (tmp_path / "shoes").mkdir()
    (tmp_path / "shoes" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    assert refused(tmp_path / "shoes") == f"{tmp_path / 'shoes'}: not empty; choose a new folder"
    assert refused(tmp_path / "file", "--name", "x") == f"{tmp_path / 'file'}: a file; choose a new folder"
    assert refused(tmp_path / "link", "--name", "x") == f"{tmp_path / 'link'}: a file; choose a new folder"
    assert refused(tmp_path / "file" / "shoes").endswith("cannot be written (Not a directory); choose another folder")
    assert {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {
        "README.md": "mine", "file": "mine"
    }  # fmt: skip
    (tmp_path / "boots" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "boots")
    main(["."])
    assert (tmp_path / "boots" / "src" / "boots" / "network.py").exists()


@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    project = tmp_path / "shoes"
    if exists:
        project.mkdir()
    opened = Path.open

    def fail_at_network(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "network.py" and "x" in arguments:
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", fail_at_network)
    assert refused(project) == f"{project}: cannot be written (No space left on device); choose another folder"
    assert [*tmp_path.rglob("*")] == ([project] if exists else [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: DIR; see python src/new.py --help"),
        (["shoes", "name=x"], "unrecognized arguments: name=x; see python src/new.py --help"),
        (["shoes", "--data"], "argument --data: expected one argument; see python src/new.py --help"),
        (["shoes", "--data", "missing"], "--data missing: .*"),
        (["shoes", "--data", "one"], "--data one: one class, a; add a subfolder for another one"),
        (["shoes", "--data", "none"], "--data none: .*"),
        (["shoes", "--data", "${x}"], r"--data \$\{x\}: \$\{ in a path starts an interpolation .*"),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "one" / "a", "1.png")
    Path("none").mkdir()
    assert re.fullmatch(line, refused(*arguments))
    assert not (tmp_path / "shoes").exists()
