"""A command ends right after its last line, and Ctrl-C or a wrong Python ends it quietly from its first line on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytorch_intro.config.paths import PROJECT

CHECK_AT_EXIT = """
import atexit, gc, sys
atexit.register(lambda: print("frozen:", gc.get_freeze_count() > 10_000))  # the first is called last
sys.path.insert(0, "src")
sys.argv = ["src/train.py", "--info", "plugins"]
import train
train.main()
"""


def test_the_garbage_collector_does_not_search_all_objects_at_exit() -> None:
    """Torch and Lightning create 700,000; searching them took a second."""
    process = subprocess.run(
        [sys.executable, "-c", CHECK_AT_EXIT], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines()[-1] == "frozen: True"


@pytest.mark.parametrize("script", sorted(path.name for path in (PROJECT / "src").glob("*.py")))
def test_ctrl_c_during_the_first_import_exits_quietly(script: str, tmp_path: Path) -> None:
    """Before the handler of the command line is installed; the first package from elsewhere is OmegaConf."""
    (tmp_path / "omegaconf.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n")
    process = subprocess.run(
        [sys.executable, f"src/{script}"],
        cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


@pytest.mark.parametrize("script", sorted(path.name for path in (PROJECT / "src").glob("*.py")))
def test_a_python_without_the_requirements_is_answered_with_the_remedy(script: str) -> None:
    """As without `source .venv/bin/activate`; -S leaves out all installed packages."""
    process = subprocess.run([sys.executable, "-S", f"src/{script}"], cwd=PROJECT, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (2, "")
    line = (
        f"error: hydra is not installed in {sys.executable}; activate the environment, as in source .venv/bin/activate"
    )
    assert process.stderr.startswith(line)
    assert process.stderr.count("\n") == 1


def test_a_program_that_imports_the_package_without_the_requirements_gets_the_error_itself() -> None:
    process = subprocess.run(
        [sys.executable, "-S", "-c", "import pytorch_intro"], cwd=PROJECT / "src", capture_output=True, text=True
    )
    assert "ModuleNotFoundError: No module named 'hydra'" in process.stderr
