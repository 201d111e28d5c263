"""Each optional capability can be deleted with its configs and tests, and everything else still runs."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
from conftest import FORKS, NO_PICTURES, ONE_BATCH

from pytorch_intro.config.paths import PROJECT

PACKAGE = "src/pytorch_intro"
SERVING = [
    f"{PACKAGE}/serving", "src/serve.py", f"{PACKAGE}/commands/serve.py", "conf/serve.yaml", "tests/serving",
]  # fmt: skip
# What `git rm -r` deletes.
CAPABILITIES = {
    "sweeps": [
        f"{PACKAGE}/sweeps", "src/hydra_plugins", "conf/sweep", "conf/search", "conf/hydra/sweeper",
        "conf/hydra/launcher", "tests/sweeps",
    ],
    "reports": [f"{PACKAGE}/reports", "conf/reports", "conf/logger/csv.yaml", "tests/reports"],
    "inference": [
        f"{PACKAGE}/inference", "src/eval.py", "src/predict.py", "src/export.py", f"{PACKAGE}/commands/eval.py",
        f"{PACKAGE}/commands/predict.py", f"{PACKAGE}/commands/export.py", "conf/eval.yaml", "conf/predict.yaml",
        "conf/export.yaml", "conf/finished_run.yaml", "tests/inference", *SERVING,
    ],
    "serving": SERVING,
    "data_report": [
        f"{PACKAGE}/data_report", "src/data_report.py", f"{PACKAGE}/commands/data_report.py", "conf/data_report.yaml",
        "tests/data_report",
    ],
    "new_project": [f"{PACKAGE}/new_project", "src/new.py", f"{PACKAGE}/commands/new.py", "tests/new_project"],
    "hub": [f"{PACKAGE}/hub", "conf/data/huggingface.yaml", "tests/hub"],
    "loggers": [f"{PACKAGE}/loggers", "conf/logger/mlflow.yaml", "conf/logger/wandb.yaml", "tests/loggers"],
    "safety": [f"{PACKAGE}/safety", "tests/safety"],
    "pretrained": [
        f"{PACKAGE}/pretrained", "conf/model/timm.yaml", "conf/model/torchvision.yaml", "conf/finetune",
        "conf/experiment/finetune.yaml", "conf/bench/finetune.yaml", f"{PACKAGE}/benchmarks/finetuning.py",
        "tests/pretrained",
    ],
    "calibration": [f"{PACKAGE}/calibration", "conf/calibration", "tests/calibration"],
    "photos": [
        f"{PACKAGE}/photos", "conf/data/augment/affine.yaml", "conf/data/augment/blur.yaml",
        "conf/data/augment/color_jitter.yaml", "conf/data/augment/grayscale.yaml", "conf/data/augment/photos.yaml",
        "conf/data/augment/photos_light.yaml", "conf/data/augment/randaugment.yaml", "conf/data/augment/rotation.yaml",
        "conf/data/augment/trivialaugment.yaml", "conf/data/augment/vflip.yaml", "conf/bench/photo_augmentations.yaml",
        f"{PACKAGE}/benchmarks/photo_augmentations.py", "tests/photos",
    ],
    "metrics": [f"{PACKAGE}/metrics", "conf/metrics", "tests/metrics"],
    "benchmarks": [
        f"{PACKAGE}/benchmarks", "src/bench.py", f"{PACKAGE}/commands/bench.py", "conf/bench.yaml", "conf/bench",
        "tests/benchmarks",
    ],
    "tour": [f"{PACKAGE}/tour", "src/tour.py", f"{PACKAGE}/commands/tour.py", "tests/tour"],
}  # fmt: skip

# Those that have not been deleted already.
PRESENT = [name for name, deleted in CAPABILITIES.items() if (PROJECT / deleted[0]).exists()]

# Prints the help of every script, then trains on one batch. Runs in a new process with the code of the copy.
RUN_ALL = """
import os, runpy, sys, yaml
from pathlib import Path
yaml.SafeLoader = yaml.CSafeLoader
src = COPY / "src"
os.chdir(COPY)
sys.path[:] = [str(src), *(path for path in sys.path if not path.startswith(str(PROJECT / "src")))]
with OUT.open("w") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)

def run(script, *arguments):
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, (script, stop.code)

for script in sorted(src.glob("*.py")):
    run(script, "--help")
    print(f"help of {script.stem}: ok", flush=True)
run(src / "train.py", *ARGUMENTS)
import pytorch_intro
assert Path(pytorch_intro.__file__).is_relative_to(COPY)
"""


@pytest.mark.parametrize("capability", PRESENT)
def test_everything_else_runs_without_an_optional_capability(capability: str, tmp_path: Path) -> None:
    """Without sweeps, -m uses Hydra's basic sweeper, which numbers the jobs."""
    copy = copy_without(CAPABILITIES[capability], tmp_path / "copy")
    if capability == "safety":
        leave_out_verification(copy)
    has_sweeps = capability != "sweeps"
    arguments = [*ONE_BATCH, *(NO_PICTURES if capability != "reports" else [])]
    arguments = arguments if has_sweeps else ["-m", *arguments]
    script, out = tmp_path / "run_all.py", tmp_path / "out"
    script.write_text(RUN_ALL)
    values = {"COPY": copy, "PROJECT": PROJECT, "OUT": out, "ARGUMENTS": arguments}
    process = FORKS.Process(target=runpy.run_path, args=(str(script), values))
    process.start()
    process.join(100)
    printed = out.read_text()
    assert process.exitcode == 0, printed
    names = sorted(path.stem for path in (copy / "src").glob("*.py"))
    assert re.findall(r"^help of (\w+): ok$", printed, re.MULTILINE) == names
    run = copy / "outputs" / ("first" if has_sweeps else "sweeps/first/0")
    assert (run / "result.json").exists(), printed
    assert (run / "README.md").exists() == (capability != "reports")


def copy_without(deleted: list[str], copy: Path) -> Path:
    """Copy the code and the configs except for these files and folders, all of which must exist."""
    assert all((PROJECT / name).exists() for name in deleted)

    def ignored(folder: str, names: list[str]) -> list[str]:
        path = Path(folder).relative_to(PROJECT)
        return [name for name in names if (path / name).as_posix() in deleted]  # __pycache__ saves half a second

    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    return copy


def leave_out_verification(copy: Path) -> None:
    """Delete the import of the verification and the argument that passes it, in training and in inference."""
    changed = []
    for file in (copy / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "pytorch_intro.safety" in text:
            text = re.sub(r"^ *from pytorch_intro\.safety\.\S+ import verify_\w+\n", "", text, flags=re.MULTILINE)
            file.write_text(re.sub(r",\s*(verify=)?verify_(config|run)\b", "", text), encoding="utf-8")
            changed.append(file.name)
    assert sorted(changed) == ["finished_run.py", "train.py"]
