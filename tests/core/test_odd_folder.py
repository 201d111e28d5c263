"""The project works in a folder with any name, also one with characters of OmegaConf's or the shell's grammar."""

import runpy
import shutil
from pathlib import Path

import pytest
from conftest import FORKS, NO_PICTURES, ONE_BATCH, write_images

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.config.resolvers import literal_path

NAME = "a ${x} #=q\"é'$"
# Runs commands with the code of the copy, in the folder of the copy, and prints their exit codes.
RUN_ALL = """
import os, runpy, sys, yaml
yaml.SafeLoader = yaml.CSafeLoader
os.chdir(COPY)
sys.path[:] = [str(COPY / "src"), *(path for path in sys.path if not path.startswith(str(PROJECT / "src")))]
with OUT.open("w") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)

for script, *arguments in COMMANDS:
    sys.argv = [f"src/{script}.py", *arguments]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    print(f"{script}: exit code {code}", flush=True)
"""


@pytest.mark.skipif(not (PROJECT / "src" / "eval.py").exists(), reason="inference is an optional part")
def test_every_script_runs_in_a_project_folder_with_any_name(tmp_path: Path) -> None:
    copy = tmp_path / NAME
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, copy / name)
    write_images(tmp_path, "image.png")
    few = [*(argument for argument in ONE_BATCH if not argument.startswith("name=")), "model=mlp", *NO_PICTURES]
    commands = [
        ["train", *few, "name=first"],
        ["train", "resume=outputs/first", "trainer.max_epochs=2"],
        ["train", "-m", *few, "name=rates", "optimizer.lr=0.01"],
        ["eval", "run=latest"],
        ["predict", "run=first", f"images={tmp_path / 'image.png'}", "num_workers=0"],
        ["export", "run=outputs/first", "num_images=2"],
    ]
    script, out = tmp_path / "run_all.py", tmp_path / "out"
    script.write_text(RUN_ALL)
    values = {"COPY": copy, "PROJECT": PROJECT, "OUT": out, "COMMANDS": commands}
    process = FORKS.Process(target=runpy.run_path, args=(str(script), values))
    process.start()
    process.join(100)
    printed = out.read_text()
    assert process.exitcode == 0, printed
    assert [line for line in printed.splitlines() if "exit code" in line] == [f"{c[0]}: exit code 0" for c in commands]
    assert {path.name for path in copy.iterdir()} == {"src", "conf", "outputs"}
    written = {path.name for path in (copy / "outputs" / "first").iterdir()}
    assert written >= {"result.json", "train.log", "config_extended.yaml", "predictions.csv", "export"}
    assert len(list((copy / "outputs" / "sweeps" / "rates").glob("*/result.json"))) == 1


def test_a_command_in_another_folder_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "${x}"
    folder.mkdir()
    with pytest.raises(UserError, match=r"\$\{x\}.*: \$\{ in a path .*; run the command in "):
        literal_path(folder / "outputs")
    monkeypatch.chdir(folder)
    assert literal_path(folder / "outputs") == "outputs"
