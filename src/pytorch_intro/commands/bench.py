"""Compare this project with plain PyTorch, in one run."""

import json
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.cli.entrypoint import entrypoint


@entrypoint("bench")
def main(config: DictConfig) -> None:
    from lightning import seed_everything
    from pydantic import PositiveInt

    from pytorch_intro.benchmarks.harness import BenchmarkContext, environment, find_comparisons, plot_comparisons
    from pytorch_intro.common.files import write_atomically
    from pytorch_intro.config.instantiate import instantiate
    from pytorch_intro.training.hardware import resolve_hardware

    hardware = resolve_hardware(config, {"seeds": PositiveInt})
    seed_everything(config.seed, verbose=False)

    file = Path(config.run_dir) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    benchmark = instantiate(config.bench, "bench")
    figures = benchmark(BenchmarkContext(config, hardware, file))
    picture = file.with_suffix(".png")
    if (comparisons := find_comparisons(figures)) and not picture.exists():
        plot_comparisons(comparisons, picture)
        print(f"plot: {picture}")

    figures |= environment(hardware["accelerator"]) | {"config": OmegaConf.to_container(config, resolve=True)}
    write_atomically(file, json.dumps(figures, indent=2))
    print(f"figures: {file}")
