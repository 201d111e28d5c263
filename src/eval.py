"""Score a finished run on its test images, or on others of the same classes: python src/eval.py --help"""

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.finished_run import FinishedRun, with_settings_given


@entrypoint("eval")
def main(config: DictConfig) -> float | None:
    from lightning import seed_everything

    from pytorch_intro.evaluation import force_single_device, record, show, summarize_evaluation
    from pytorch_intro.hardware import resolve_hardware
    from pytorch_intro.scored_data import other_data, recorded_data
    from pytorch_intro.trainer import build_trainer

    run = FinishedRun(config.run_dir, config.allow, ["model", "classifier", "data", "trainer", "callbacks"])
    given = with_settings_given(run.config, config, ["data", "trainer"])
    force_single_device(run.config.trainer, given)
    hardware = resolve_hardware(run.config)
    seed_everything(run.config.seed, workers=True, verbose=False)

    datamodule = other_data(run) if "data" in given else recorded_data(run)
    class_metrics = {"_target_": "pytorch_intro.class_metrics.ClassMetrics"}
    bar = run.config.callbacks.get("progress_bar")
    callbacks = OmegaConf.create({"class_metrics": class_metrics, "progress_bar": bar})
    trainer = build_trainer(run.config.trainer, callbacks, OmegaConf.create({}), hardware)
    trainer.test(run.classifier(compiled=True), datamodule, verbose=False)

    evaluation = summarize_evaluation(run, trainer, datamodule)
    show(evaluation)
    record(evaluation, run.path, is_external="data" in given)
    return evaluation["test/accuracy"]


if __name__ == "__main__":
    main()
