"""Export a finished run as ONNX and as torch.export's .pt2."""

from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.inference.finished_run import resolve_run


@entrypoint("export", resolvers={"resolve_run": resolve_run})
def main(config: DictConfig) -> None:
    from pydantic import PositiveInt

    from pytorch_intro.common.errors import check_installed
    from pytorch_intro.common.files import atomic_directory
    from pytorch_intro.config.paths import display_path
    from pytorch_intro.config.validate import check_value
    from pytorch_intro.inference.eval_data import images_to_compare
    from pytorch_intro.inference.export import PACKAGES, compare_with_pytorch, export_model, save_labels
    from pytorch_intro.inference.finished_run import FinishedRun, apply_overrides
    from pytorch_intro.inference.load import Predictor, load_from

    check_installed("exporting", PACKAGES, "export")
    num_images = check_value("num_images", config.num_images, PositiveInt)
    run = FinishedRun(config.run_dir, config.allow, ["model", "classifier", "data"])
    overrides = apply_overrides(run.config, config, ["data"])
    predictor = Predictor(load_from(run))
    images, kind = images_to_compare(run, num_images, is_external="data" in overrides)

    with atomic_directory(run.path / "export") as folder:
        export_model(predictor, folder)
        compare_with_pytorch(predictor, images, kind, folder)
        save_labels(run, folder)
    print(f"written: {', '.join(map(display_path, sorted((run.path / 'export').iterdir())))}")
