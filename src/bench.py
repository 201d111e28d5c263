"""This project beside plain PyTorch, in one run: python src/bench.py --help"""

import json
import tempfile
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.entrypoint import entrypoint


@entrypoint("bench")
def main(config: DictConfig) -> None:
    from lightning import seed_everything
    from pydantic import PositiveInt

    from pytorch_intro.bench import compared, environment, lightning_epochs, plain_epochs
    from pytorch_intro.build import build, build_classifier, build_optimization
    from pytorch_intro.check import check
    from pytorch_intro.hardware import choose_hardware
    from pytorch_intro.run_folder import write_atomically
    from pytorch_intro.trainer import build_trainer

    folder = Path(config.run_dir)
    hardware = choose_hardware(config.trainer.accelerator, config.trainer.devices, config.trainer.precision)
    check(OmegaConf.merge(config, {"trainer": hardware}), {"bench.rounds": PositiveInt, "bench.epochs": PositiveInt})
    seed_everything(config.seed, verbose=False)
    datamodule = build(config.data, "data")
    datamodule.setup("fit")

    optimization = build_optimization(config.optimizer, config.scheduler)
    plain, ours = [], []
    for turn in range(config.bench.rounds):
        classifier = build_classifier(config.classifier, config.model, datamodule, *optimization)
        plain += plain_epochs(classifier, datamodule, hardware["accelerator"], config.bench.epochs)
        classifier = build_classifier(config.classifier, config.model, datamodule, *optimization)
        with tempfile.TemporaryDirectory() as config.run_dir:
            trainer = build_trainer(config.trainer, config.callbacks, config.logger, hardware)
            ours += lightning_epochs(classifier, datamodule, trainer)
        print(f"round {turn + 1}/{config.bench.rounds}", flush=True)

    config.run_dir = str(folder)
    figures = compared(plain=plain, lightning=ours) | environment(hardware["accelerator"])
    file = folder / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    write_atomically(file, json.dumps(figures | {"config": OmegaConf.to_container(config, resolve=True)}, indent=2))
    print(f"figures: {file}")


if __name__ == "__main__":
    main()
