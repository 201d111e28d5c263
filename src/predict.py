"""Tell what is in pictures of one's own: python src/predict.py --help"""

import sys
from io import TextIOWrapper

from omegaconf import DictConfig

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.finished_run import recorded_run


@entrypoint("predict", resolvers={"resolve_run": recorded_run})
def main(config: DictConfig) -> None:
    from pytorch_intro.file_search import found_files
    from pytorch_intro.finished_run import FinishedRun
    from pytorch_intro.hardware import choose_accelerator
    from pytorch_intro.loading import Predictor, loaded
    from pytorch_intro.predicting import Look, check_settings, predictions
    from pytorch_intro.prediction_report import PredictionReport

    check_settings(config)
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # names of files need not be text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    paths = found_files(config.images, sys.stdin)
    run = FinishedRun(config.run_dir, config.allow)
    predictor = Predictor(loaded(run)).to(choose_accelerator(config.trainer.accelerator))
    look = Look(predictor.decoder, config.invert, run.inputs["border"])

    with PredictionReport(run, config.top_k) as report:
        for batch in predictions(predictor, paths, look, config.batch_size, config.num_workers):
            report.add(batch)
        report.close()
    report.show()
    if report.unread:
        sys.exit(1)


if __name__ == "__main__":
    main()
