"""Where each second of a training goes, between the shell and the prompt."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks import stack_sampler
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, check_arguments, run_process
from pytorch_intro.benchmarks.stack_sampler import PARTS

WIDTH = 100  # characters of the bar


class Run(NamedTuple):
    """Seconds of a command, and of each of its parts, which add up to them."""

    seconds: float
    parts: dict[str, float]


def measure_budget(context: BenchmarkContext, rounds: PositiveInt, arguments: Sequence[str] = ()) -> Figures:
    """Train in new processes, each with a stack sampler; print the parts of the run with the median time, and a bar.

    Times are those of the host: with a GPU, a part may wait for what an earlier one started.

    Args:
        rounds: Number of runs.
        arguments: Arguments of `python src/train.py`.
    """
    check_arguments([arguments])
    with tempfile.TemporaryDirectory() as folder:
        command = context.command("train", *arguments, f"outputs={folder}")
        runs = [
            run_sampled([*command, f"name=run-{turn}"], folder) for turn in tqdm(range(rounds), "runs", leave=False)
        ]
    median = sorted(runs, key=lambda run: run.seconds)[(rounds - 1) // 2]
    print_budget(runs, median)
    return {"runs": [run._asdict() for run in runs], "median": median._asdict(), "bar": bar(median.parts)}


def run_sampled(command: Sequence[str], folder: str) -> Run:
    """Run a command of Python with the stack sampler; the time after its last sample is that of the exit."""
    file = Path(folder, "parts.json")
    python, *script = command
    process = run_process([python, stack_sampler.__file__, str(file), str(time.time()), *script])
    parts = json.loads(file.read_text(encoding="utf-8"))
    parts["exit"] += process.seconds - sum(parts.values())
    return Run(process.seconds, parts)


def print_budget(runs: Sequence[Run], median: Run) -> None:
    """Print the bar and a line for each part: its letter, seconds, share, and the range over all runs."""
    print(f"from the shell to the prompt: {median.seconds:.2f} s, the median of n={len(runs)}\n\n{bar(median.parts)}\n")
    for name, letter in PARTS.items():
        seconds, every = median.parts[name], [run.parts[name] for run in runs]
        spread = f"({min(every):.2f} to {max(every):.2f})"
        print(f"  {letter} {name:<20}{seconds:>8.2f} s{seconds / median.seconds:>8.1%}  {spread}")


def bar(parts: Mapping[str, float]) -> str:
    """Return WIDTH letters, shared out between the parts in proportion, with the largest remainders rounded up."""
    total = sum(parts.values())
    exact = {name: seconds / total * WIDTH for name, seconds in parts.items()}
    widths = {name: int(width) for name, width in exact.items()}
    by_remainder = sorted(exact, key=lambda name: widths[name] - exact[name])
    for name in by_remainder[: WIDTH - sum(widths.values())]:
        widths[name] += 1
    return "".join(PARTS[name] * width for name, width in widths.items())
