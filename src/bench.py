"""This project beside plain PyTorch, in one run: python src/bench.py --help"""

import json
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.entrypoint import entrypoint


@entrypoint("bench")
def main(config: DictConfig) -> None:
    from lightning import Trainer, seed_everything
    from pydantic import PositiveInt

    from pytorch_intro.atomic import write_atomically
    from pytorch_intro.benchmarks.workbench import Workbench, environment
    from pytorch_intro.build import build, build_classifier, build_optimization
    from pytorch_intro.classifier import Classifier
    from pytorch_intro.datamodule import DataModule
    from pytorch_intro.hardware import checked_hardware
    from pytorch_intro.trainer import build_trainer

    hardware = checked_hardware(config, {"seeds": PositiveInt})
    seed_everything(config.seed, verbose=False)

    def make_datamodule() -> DataModule:
        datamodule = build(config.data, "data")
        datamodule.setup("fit")
        return datamodule

    def make_classifier(datamodule: DataModule) -> Classifier:
        optimization = build_optimization(config.optimizer, config.scheduler)
        return build_classifier(config.classifier, config.model, datamodule, *optimization)

    def make_trainer(folder: str) -> Trainer:
        in_folder = OmegaConf.merge(config, {"run_dir": folder})
        return build_trainer(in_folder.trainer, in_folder.callbacks, in_folder.logger, hardware)

    parts = (make_datamodule, make_classifier, make_trainer)
    file = Path(config.run_dir) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    figures = build(config.bench, "bench")(Workbench(hardware["accelerator"], file, *parts))

    figures |= environment(hardware["accelerator"]) | {"config": OmegaConf.to_container(config, resolve=True)}
    write_atomically(file, json.dumps(figures, indent=2))
    print(f"figures: {file}")


if __name__ == "__main__":
    main()
