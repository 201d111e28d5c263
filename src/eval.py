"""Score a finished run on its test images, or on others of the same classes: python src/eval.py --help"""

from omegaconf import DictConfig

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.finished_run import FinishedRun, with_settings_given


@entrypoint("eval")
def main(config: DictConfig) -> float:
    from lightning import seed_everything
    from omegaconf import OmegaConf

    from pytorch_intro.evaluation import evaluation_of, record, show
    from pytorch_intro.hardware import checked_hardware
    from pytorch_intro.scored_data import other_data, recorded_data
    from pytorch_intro.trainer import build_trainer

    run = FinishedRun(config.run_dir, config.allow)
    is_other = with_settings_given(run.config, config, ["data", "trainer"])
    hardware = checked_hardware(run.config)
    seed_everything(run.config.seed, workers=True, verbose=False)

    datamodule = other_data(run) if is_other else recorded_data(run)
    classifier = run.classifier()
    settings = run.config.trainer
    limit = settings.limit_test_batches or 1.0  # 0 spared the training its test
    one_device = {"devices": 1, "num_nodes": 1, "strategy": "auto", "limit_test_batches": limit}
    bar = OmegaConf.create({"progress_bar": run.config.callbacks.get("progress_bar")})
    trainer = build_trainer(settings, bar, OmegaConf.create({}), hardware | one_device)
    trainer.test(classifier, datamodule, verbose=False)

    evaluation = evaluation_of(run, trainer, datamodule)
    record(evaluation, run.path)
    show(evaluation, run)
    return evaluation["test/accuracy"]


if __name__ == "__main__":
    main()
