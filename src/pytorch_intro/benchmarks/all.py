"""All benchmarks in sequence, each in a new process."""

import json
import subprocess
import sys
from collections.abc import Sequence

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT


class AllBenchmarks:
    """Runs `python src/bench.py bench=NAME` for each name.

    Args:
        benchmarks: Arguments of `python src/bench.py` by name of the benchmark.
    """

    def __init__(self, benchmarks: dict[str, Sequence[str]]) -> None:
        self.benchmarks = benchmarks

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return the figures of each benchmark."""
        figures: Figures = {}
        for name, arguments in self.benchmarks.items():
            print(f"\nbench={name}", flush=True)
            folder = context.file.with_suffix("") / name
            device = f"trainer.accelerator={context.device}"
            command = [sys.executable, str(PROJECT / "src" / "bench.py"), f"bench={name}", device, *arguments]
            if subprocess.run([*command, f"outputs={folder}"]).returncode:
                raise UserError(f"bench={name}: failed with the error above; fix that, then rerun")
            (file,) = (folder / "bench").glob("*.json")
            figures[name] = json.loads(file.read_text())
        return figures
