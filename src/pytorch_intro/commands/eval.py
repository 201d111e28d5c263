"""Evaluate a finished run on its test images, or on others of the same classes."""

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.inference.finished_run import FinishedRun, apply_overrides, resolve_run


@entrypoint("eval", resolvers={"resolve_run": resolve_run})
def main(config: DictConfig) -> float | None:
    from lightning import seed_everything

    from pytorch_intro.analysis.class_metrics import find_class_metrics
    from pytorch_intro.analysis.plots import save
    from pytorch_intro.config.paths import display_path
    from pytorch_intro.config.validate import check_value
    from pytorch_intro.data.datamodule import DataModule
    from pytorch_intro.inference.eval_data import (
        count_images_of_run,
        data_for_threshold,
        external_test_data,
        original_test_data,
    )
    from pytorch_intro.inference.evaluate import force_single_device, record, show, summarize_evaluation
    from pytorch_intro.inference.explain import check_explainable, plot_mistakes
    from pytorch_intro.inference.load import Predictor, load_from
    from pytorch_intro.inference.operating_point import check_goal, evaluate_with_goal
    from pytorch_intro.runs.folder import MISTAKES_EXPLAINED
    from pytorch_intro.training.hardware import resolve_hardware
    from pytorch_intro.training.trainer import build_trainer

    own_parts = ["model", "classifier", "data"]
    run = FinishedRun(config.run_dir, config.allow, [*own_parts, "trainer", "callbacks", "metrics"])
    goal = check_goal(config, run)
    predictor = None
    if check_value("explain", config.explain, bool):
        predictor = Predictor(load_from(run))
        check_explainable(predictor)
    overrides = apply_overrides(run.config, config, ["data", "trainer", "metrics"])
    is_external = "data" in overrides
    force_single_device(run.config.trainer, overrides)
    hardware = resolve_hardware(run.config)
    seed_everything(run.config.seed, workers=True, verbose=False)

    datamodule = external_test_data(run) if is_external else original_test_data(run)
    class_metrics = {"_target_": "pytorch_intro.analysis.class_metrics.ClassMetrics"}
    progress_bar = run.config.callbacks.get("progress_bar")
    callbacks = OmegaConf.create({"class_metrics": class_metrics, "progress_bar": progress_bar})
    trainer = build_trainer(run.config.trainer, callbacks, OmegaConf.create({}), hardware)
    if metrics := run.config.get("metrics"):
        from pytorch_intro.config.validate import check_config
        from pytorch_intro.metrics.callback import add_metrics

        check_config(metrics, "metrics", {})
        add_metrics(metrics, datamodule, trainer)
    own_run = FinishedRun(config.run_dir, config.allow, own_parts) if is_external else run
    own_data: DataModule | None = None if is_external else datamodule
    if goal and is_external:
        own_data = data_for_threshold(own_run)
    point = evaluate_with_goal(goal, run, trainer, run.classifier(compiled=True), datamodule, own_data)

    evaluation = summarize_evaluation(run, trainer, datamodule, point)
    if is_external:
        evaluation |= count_images_of_run(own_run, datamodule, own_data)
    try:
        written = record(evaluation, find_class_metrics(trainer).reliability, point, run.path, is_external)
        errors = find_class_metrics(trainer).errors
        if predictor and errors:
            written.append(run.path / MISTAKES_EXPLAINED)
            save(plot_mistakes(predictor, errors, datamodule.classes), written[-1])
    finally:
        show(evaluation)  # also if it cannot be recorded
        if point:
            print(point.describe())
    print(f"\nwritten: {', '.join(map(display_path, written))}")
    return evaluation["test/accuracy"]
