"""Train a network, choose its best weights by validation, test them once: python src/train.py --help"""

import time

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.foreign_config import verify_config
from pytorch_intro.run_folder import RunFolder
from pytorch_intro.summary import show


@entrypoint("train")
def main(config: DictConfig) -> float | None:
    run = RunFolder.of(config)
    with run.claimed():
        return train(run.recorded_config(config, verify=verify_config), run)


def train(config: DictConfig, run: RunFolder) -> float | None:
    started = time.perf_counter()
    if recorded := run.recorded_result(config):
        show(recorded, run, config.outputs, "finished before; this is the result that it recorded")
        return recorded.get(OmegaConf.select(config, "sweep.objective"))

    from lightning import seed_everything

    from pytorch_intro.build import build, build_classifier, build_optimization
    from pytorch_intro.checkpoint import chosen_weights
    from pytorch_intro.hardware import checked_hardware
    from pytorch_intro.model_card import model_card
    from pytorch_intro.result import result_of
    from pytorch_intro.resumption import checkpoint_to_resume
    from pytorch_intro.trainer import build_trainer, check_monitors, meet

    hardware = checked_hardware(config)
    seed_everything(config.seed, workers=True, verbose=False)

    trainer = build_trainer(config.trainer, config.callbacks, config.logger, hardware)
    optimization = build_optimization(config.optimizer, config.scheduler, config.trainer)
    datamodule = build(config.data, "data")
    datamodule.setup("fit")
    check_monitors(trainer, datamodule)
    classifier = build_classifier(config.classifier, config.model, datamodule, *optimization)

    run.begin(config)
    meet(trainer)
    resumed = checkpoint_to_resume(run.path)
    fit_started = time.perf_counter()
    trainer.fit(classifier, datamodule, ckpt_path=resumed.path, weights_only=True)
    train_seconds = resumed.train_seconds + time.perf_counter() - fit_started
    chosen = chosen_weights(trainer)
    trainer.test(classifier, datamodule, ckpt_path=chosen.path, weights_only=True, verbose=False)
    result = result_of(config, trainer, chosen, train_seconds, time.perf_counter() - started)
    run.finish(result, model_card(config, result, classifier, datamodule))
    show(result, run, config.outputs, confused=classifier.confused(datamodule.classes))
    return result.get(OmegaConf.select(config, "sweep.objective"))


if __name__ == "__main__":
    main()
