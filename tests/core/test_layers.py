"""Imports point down, in Python and in the strings of conf/; see docs/design.md."""

import ast
import re
from pathlib import Path

import pytest

from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

SOURCE = PROJECT / "src" / "pytorch_intro"
CORE = ("common", "config", "data", "models", "runs", "training", "cli")
OPTIONAL = (
    "safety", "analysis", "photos", "hub", "pretrained", "metrics", "calibration", "reports", "inference", "sweeps",
    "data_report", "new_project", "loggers", "serving", "benchmarks", "tour",
)  # fmt: skip

# Which optional packages the files of a conf/ group may name; every other file may only name the core.
MAY_NAME = {
    "data": ("photos", "hub"),
    "model": ("pretrained",),
    "finetune": ("pretrained",),
    "metrics": ("metrics",),
    "calibration": ("calibration",),
    "reports": ("analysis", "reports"),
    "logger": ("reports", "loggers"),
    "bench": ("benchmarks",),
    "sweep": ("sweeps",),
    "search": ("sweeps",),
}
TARGET = re.compile(r"_target_: *([\w.]+)")


def targets() -> list[tuple[Path, str]]:
    """Return each conf/ file with each `_target_` in it."""
    files = sorted(CONFIG_DIR.rglob("*.yaml"))
    return [(file.relative_to(CONFIG_DIR), target) for file in files for target in TARGET.findall(file.read_text())]


def test_every_package_has_a_layer() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == {*CORE, *OPTIONAL, "commands"}
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_core_configs_instantiate_core_classes_only() -> None:
    named = [(file, target) for file, target in targets() if target.startswith("pytorch_intro.")]
    assert len(named) > 20
    for file, target in named:
        package = target.split(".")[1]
        allowed = (*CORE, *MAY_NAME.get(file.parts[0], ()))
        assert package in allowed, f"conf/{file} names {target}"
        assert (SOURCE / package).is_dir(), f"conf/{file} names {target}, which does not exist"


def test_hydra_plugins_import_sweeps_only() -> None:
    files = sorted((PROJECT / "src" / "hydra_plugins").glob("*.py"))
    imported = {name for file in files for name in imported_modules(ast.parse(file.read_text()))}
    own = {name for name in imported if name.startswith("pytorch_intro.")}
    assert "pytorch_intro.sweeps.runner" in own
    assert {name.split(".")[1] for name in own} == {"sweeps"}


@pytest.mark.parametrize("package", ["torch", "lightning", "hydra"])
def test_common_imports_nothing_heavy_at_module_level(package: str) -> None:
    files = sorted((SOURCE / "common").glob("*.py"))
    assert len(files) > 4
    for file in files:
        module = ast.parse(file.read_text())
        top_level = ast.Module([node for node in module.body if not is_for_type_checkers(node)], [])
        for function in [
            node for node in ast.walk(top_level) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]:
            function.body = []
        names = imported_modules(top_level)
        assert not [name for name in names if name.split(".")[0] == package], file


def is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported_modules(tree: ast.AST) -> set[str]:
    """Return the dotted names of the modules that a syntax tree imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names
