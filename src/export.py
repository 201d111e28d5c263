"""Export a finished run as ONNX and as torch.export's .pt2: python src/export.py --help"""

from omegaconf import DictConfig

from pytorch_intro.entrypoint import entrypoint
from pytorch_intro.finished_run import recorded_run


@entrypoint("export", resolvers={"resolve_run": recorded_run})
def main(config: DictConfig) -> None:
    from pydantic import PositiveInt

    from pytorch_intro.check import check_value
    from pytorch_intro.exporting import PACKAGES, compare, describe, save, write_together
    from pytorch_intro.extras import check_installed
    from pytorch_intro.finished_run import FinishedRun, with_settings_given
    from pytorch_intro.loading import Predictor, loaded
    from pytorch_intro.paths import shown_path
    from pytorch_intro.scored_data import images_to_compare

    check_installed("exporting", PACKAGES, "export")
    check_value("num_images", config.num_images, PositiveInt)
    run = FinishedRun(config.run_dir, config.allow, ["model", "classifier", "data"])
    given = with_settings_given(run.config, config, ["data"])
    predictor = Predictor(loaded(run))
    images, kind = images_to_compare(run, config.num_images, is_other="data" in given)

    with write_together(run.path / "export") as folder:
        save(predictor, folder)
        compare(predictor, images, kind, folder)
        describe(run, folder)
    print(f"written: {', '.join(map(shown_path, sorted((run.path / 'export').iterdir())))}")


if __name__ == "__main__":
    main()
