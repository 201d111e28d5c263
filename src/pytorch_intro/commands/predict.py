"""Classify your own images."""

import sys
from io import TextIOWrapper

from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.inference.finished_run import resolve_run


@entrypoint("predict", resolvers={"resolve_run": resolve_run})
def main(config: DictConfig) -> None:
    from pytorch_intro.data.ingest.find_files import find_files
    from pytorch_intro.inference.decision import check_decision
    from pytorch_intro.inference.finished_run import FinishedRun
    from pytorch_intro.inference.load import Predictor, load_from
    from pytorch_intro.inference.predict import Preprocessor, check_output, check_settings, predict_files
    from pytorch_intro.inference.prediction_report import PredictionReport
    from pytorch_intro.training.hardware import choose_accelerator

    check_settings(config)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be valid UTF-8
    paths = find_files(config.images, sys.stdin)
    run = FinishedRun(config.run_dir, config.allow)
    decision = check_decision(config, run)
    output = check_output(config)
    predictor = Predictor(load_from(run)).to(choose_accelerator(config.trainer.accelerator))
    preprocessor = Preprocessor(predictor.decoder, config.invert, run.inputs["border"])
    if config.explain:
        from pytorch_intro.inference.explain import check_explainable

        check_explainable(predictor)

    explained = predictor if config.explain else None
    report = PredictionReport(run, config.top_k, decision, explained, output, config.min_probability)
    batches = predict_files(predictor, paths, preprocessor, config.batch_size, config.num_workers)
    report.save(batches, config.images)
    report.print_summary()
    if report.num_failed:
        sys.exit(1)
