"""Export a finished run to files that run without this project: ONNX, torch.export's .pt2 and others."""

from pathlib import Path

from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.inference.finished_run import resolve_run


@entrypoint("export", resolvers={"resolve_run": resolve_run})
def main(config: DictConfig) -> None:
    from typing import Annotated

    from pydantic import Field, PositiveInt

    from pytorch_intro.common.errors import RunError, UserError
    from pytorch_intro.common.files import atomic_directory, check_replaceable_directory
    from pytorch_intro.config.paths import display_path
    from pytorch_intro.config.validate import check_value
    from pytorch_intro.inference.eval_data import calibration_images, images_to_compare, own_training_images
    from pytorch_intro.inference.export import FILES, compare_with_pytorch, describe, refused_formats, save_labels
    from pytorch_intro.inference.finished_run import FinishedRun, apply_overrides
    from pytorch_intro.inference.formats import FORMATS, check_formats, write_formats
    from pytorch_intro.inference.load import Predictor, load_from

    formats = check_formats(check_value("formats", config.formats, list[str]))
    num_images = check_value("num_images", config.num_images, PositiveInt)
    max_drop = check_value("max_accuracy_drop", config.max_accuracy_drop, Annotated[float, Field(ge=0, le=1)])
    if config.push is not None:
        push(config)
        return
    parts = ["model", "classifier", "data"]
    run = FinishedRun(config.run_dir, config.allow, parts)
    target = run.path / "export"
    check_replaceable_directory(target)
    overrides = apply_overrides(run.config, config, ["data"])
    predictor = Predictor(load_from(run))
    is_external = "data" in overrides
    data = images_to_compare(run, num_images, is_external)
    lossy = [name for name in formats if not FORMATS[name].is_exact]
    if lossy and data.targets is None:
        raise UserError(
            f"formats={lossy[0]}: its accuracy cannot be measured without the test images of the run; set "
            "data.root=DIR, choose other data with data=CHOICE, or leave it out"
        )
    calibration = None
    if "onnx_int8" in formats:
        own = data.train_set or own_training_images(FinishedRun(config.run_dir, config.allow, parts))
        calibration = calibration_images(own)

    description = describe(run, predictor.network.network)
    with atomic_directory(target, FILES) as folder:
        write_formats(formats, predictor, folder, calibration, description)
        table = compare_with_pytorch(predictor, formats, data, folder)
        refused = refused_formats(table, max_drop)
        if len(refused) == len(formats):
            raise UserError("; ".join(refused.values()))
        for name in refused:
            del table[name]
            for file in FORMATS[name].files:
                (folder / file).unlink()
        save_labels(description, folder, table)
        written = [target / path.name for path in sorted(folder.iterdir())]
    print(f"written: {', '.join(map(display_path, written))}")
    if refused:
        raise RunError("; ".join(refused.values()))


def push(config: DictConfig) -> None:
    """Upload the run to the Hugging Face hub: push=USER/NAME."""
    from tempfile import TemporaryDirectory

    from hydra.core.hydra_config import HydraConfig

    from pytorch_intro.common.errors import UserError
    from pytorch_intro.config.validate import check_value
    from pytorch_intro.inference.finished_run import FinishedRun
    from pytorch_intro.inference.load import load_from
    from pytorch_intro.inference.repository import check_push, push_run
    from pytorch_intro.runs.config_record import PARTS

    name = check_value("push", config.push, str)
    private = check_value("private", config.private, bool)
    answer_yes = check_value("yes", config.yes, bool)
    if any(text.lstrip("+").startswith("formats=") for text in HydraConfig.get().overrides.task):
        raise UserError(f"push={name}: uploads the weights, no other formats; leave out formats=")
    check_push(name, answer_yes)
    run = FinishedRun(config.run_dir, config.allow, [*PARTS, "loss"])
    with TemporaryDirectory() as folder:
        push_run(run, load_from(run), Path(folder), name, private, answer_yes)
