"""--help and --cfg answer at once, because nothing heavy is imported before it is needed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Command

from pytorch_intro import command_line
from pytorch_intro.paths import CONFIG_DIR, PROJECT

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


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_as_it_is_written(script: Command, name: str) -> None:
    """It leaves none of the project's choices out, so that nothing is added to it."""
    written = yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text())["hydra"]["help"]["template"]
    assert script(name, "--help").out == f"{written}\n"


def test_help_names_every_choice_of_every_group_and_gives_five_examples(
    script: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also those that are added to conf/, with no need to say so anywhere else."""
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    (conf / "optimizer" / "lion.yaml").write_text("_target_: lion.Lion\n")
    monkeypatch.setattr(command_line, "CONFIG_DIR", conf)
    text = script("train", "--help").out
    named = dict(re.findall(r"^  ([a-z/]+)\s+(.*?)(?=^  \S|^$)", text, re.MULTILINE | re.DOTALL))
    for group in GROUPS:
        for choice in (conf / group).glob("*.yaml"):
            assert re.search(rf"\b{choice.stem}\b", named[group]), f"{group}={choice.stem}"
    assert named["optimizer"].endswith("adamw, sgd; lion\n")
    assert len([line for line in text.splitlines() if line.startswith("  python src/train.py")]) == 5


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_entrypoint_reads_at_a_glance(script: str) -> None:
    """60 lines at most."""
    assert len((PROJECT / "src" / f"{script}.py").read_text().splitlines()) <= 60


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
    assert "pytorch_intro.classifier" in imported, process.stderr
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
    command_line.quote_paths()
    assert sys.argv[1] == read
