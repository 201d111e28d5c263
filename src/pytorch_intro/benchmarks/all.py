"""All benchmarks, one after the other, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence

from pytorch_intro.benchmarks.workbench import Figures, Workbench
from pytorch_intro.errors import UserError
from pytorch_intro.paths import PROJECT


class AllBenchmarks:
    """Runs `python src/bench.py bench=NAME` for some names; what they print is seen as it comes.

    Args:
        benchmarks: Named arguments of `python src/bench.py`.
    """

    def __init__(self, benchmarks: dict[str, Sequence[str]]) -> None:
        self.benchmarks = benchmarks

    def __call__(self, workbench: Workbench) -> Figures:
        """The figures of each."""
        figures: Figures = {}
        for name, arguments in self.benchmarks.items():
            print(f"\nbench={name}", flush=True)
            folder = workbench.file.with_suffix("") / name
            device = f"trainer.accelerator={workbench.device}"
            command = [sys.executable, str(PROJECT / "src" / "bench.py"), f"bench={name}", device, *arguments]
            if subprocess.run([*command, f"outputs={folder}"]).returncode:
                raise UserError(f"bench={name}: it ended with the error above")
            (file,) = (folder / "bench").glob("*.json")
            figures[name] = json.loads(file.read_text())
        return figures
