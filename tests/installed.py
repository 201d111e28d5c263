"""Build the wheel of this project, install it into an environment of its own, and run its command there."""

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytorch_intro.config.paths import PROJECT

# Runs commands of the installed package in the folder of a project, and prints their exit codes. A command after "kill"
# runs in a process of its own, which the project's code may kill: KILL_AT is set there.
RUN_ALL = """
import os, sys, yaml
from pathlib import Path
yaml.SafeLoader = yaml.CSafeLoader
os.chdir(FOLDER)
sys.path[:] = [SITE, *(path for path in sys.path if path != str(PROJECT / "src")), str(PROJECT / "tests")]
sys.executable = str(PROGRAM.with_name("python"))
with OUT.open("w") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
from forked import forked_processes, run_script

for arguments in COMMANDS:
    if is_killed := arguments[0] == "kill":
        if process := os.fork():
            print(f"kill: exit code {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}", flush=True)
            continue
        os.environ["KILL_AT"] = "2"
        arguments = arguments[1:]
    code = 0
    try:
        with forked_processes("trainer=ddp" in arguments):
            run_script([str(PROGRAM), *arguments])
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        if is_killed:
            os._exit(1)
    print(f"{arguments[0]}: exit code {code}", flush=True)
from pytorch_intro.config import paths
assert Path(paths.__file__).is_relative_to(SITE), paths.__file__
"""


@dataclass(frozen=True)
class Installed:
    """An environment with a wheel of this project, and with the other packages of this one."""

    program: Path

    @property
    def site(self) -> Path:
        """The folder of its packages."""
        (folder,) = self.program.parents[1].glob("lib/python*/site-packages")
        return folder

    def start(self, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command pytorch-intro in a folder."""
        return self.run(folder, [str(self.program), *arguments], **variables)

    def run(self, folder: Path, command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a folder, in the activated environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE"))}
        environment["PATH"] = f"{self.program.parent}{os.pathsep}{environment['PATH']}"
        return subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True)

    def run_all(self, folder: Path, commands: list[list[str]], scratch: Path) -> tuple[int, str]:
        """Run commands in one forked process; return its exit code and what it printed."""
        from conftest import FORKS

        script, out = scratch / "run_all.py", scratch / "out"
        script.write_text(RUN_ALL)
        values = {"FOLDER": folder, "PROJECT": PROJECT, "SITE": str(self.site), "PROGRAM": self.program, "OUT": out}
        process = FORKS.Process(target=runpy.run_path, args=(str(script), {**values, "COMMANDS": commands}))
        process.start()
        process.join(200)
        assert process.exitcode is not None, out.read_text()
        return process.exitcode, out.read_text()


def build_wheel(folder: Path, version: str | None = None) -> Path:
    """Build the wheel as pip builds it, offline; with another version, from a copy."""
    from hatchling.builders.wheel import WheelBuilder

    source = PROJECT
    if version:
        source = folder / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(PROJECT / name, source)
        for name in ("src", "conf"):
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        (source / "src/pytorch_intro/common/version.py").write_text(f'__version__ = "{version}"\n')
    return Path(next(WheelBuilder(str(source)).build(directory=str(folder))))


def create_environment(folder: Path) -> Installed:
    """Create an environment that finds the packages of this one."""
    venv.create(folder, symlinks=True)
    installed = Installed(folder / "bin" / "pytorch-intro")
    (installed.site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return installed


def install(installed: Installed, wheel: Path) -> None:
    """Install a wheel, in place of an earlier one."""
    python = str(installed.program.with_name("python"))
    options = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--force-reinstall", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, *options], check=True)
