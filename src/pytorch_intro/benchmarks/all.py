"""All benchmarks in sequence, each in a new process."""

import json
import subprocess
from collections.abc import Sequence

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures
from pytorch_intro.common.errors import UserError


def run_all(context: BenchmarkContext, benchmarks: dict[str, Sequence[str]]) -> Figures:
    """Run `python src/bench.py bench=NAME` with its arguments for each benchmark; return the figures by name."""
    figures: Figures = {}
    for name, arguments in benchmarks.items():
        print(f"\nbench={name}", flush=True)
        folder = context.file.with_suffix("") / name
        command = context.command("bench", f"bench={name}", *arguments, f"outputs={folder}")
        if subprocess.run(command).returncode:
            raise UserError(f"bench={name}: failed with the error above; fix that, then rerun")
        (file,) = (folder / "bench").glob("*.json")
        figures[name] = json.loads(file.read_text())
    return figures
