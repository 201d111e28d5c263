"""Score a finished run on its test images, or on others of the same classes: python src/eval.py --help"""

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.finished_run import FinishedRun, recorded_run, with_settings_given


@entrypoint("eval", resolvers={"resolve_run": recorded_run})
def main(config: DictConfig) -> float | None:
    from lightning import seed_everything

    from pytorch_intro.evaluation import evaluation_of, on_one_device, record, show
    from pytorch_intro.hardware import checked_hardware
    from pytorch_intro.scored_data import other_data, recorded_data
    from pytorch_intro.trainer import build_trainer

    run = FinishedRun(config.run_dir, config.allow, ["model", "classifier", "data", "trainer", "callbacks"])
    given = with_settings_given(run.config, config, ["data", "trainer"])
    on_one_device(run.config.trainer, given)
    hardware = checked_hardware(run.config)
    seed_everything(run.config.seed, workers=True, verbose=False)

    datamodule = other_data(run) if "data" in given else recorded_data(run)
    bar = OmegaConf.create({"progress_bar": run.config.callbacks.get("progress_bar")})
    trainer = build_trainer(run.config.trainer, bar, OmegaConf.create({}), hardware)
    trainer.test(run.classifier(compiled=True), datamodule, verbose=False)

    evaluation = evaluation_of(run, trainer, datamodule)
    show(evaluation)
    record(evaluation, run.path, is_other="data" in given)
    return evaluation["test/accuracy"]


if __name__ == "__main__":
    main()
