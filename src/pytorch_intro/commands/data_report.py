"""Look at a dataset before training."""

from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint


@entrypoint("data_report")
def main(config: DictConfig) -> None:
    import shlex
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from pytorch_intro.config.instantiate import instantiate
    from pytorch_intro.config.paths import command_line, display_path
    from pytorch_intro.config.validate import SETTINGS, check_config
    from pytorch_intro.data_report.findings import Findings
    from pytorch_intro.data_report.predictions import average_predictions
    from pytorch_intro.data_report.report import Report, check_replaceable, choose_name
    from pytorch_intro.data_report.survey import Survey
    from pytorch_intro.training.hardware import choose_accelerator

    check_config(config, settings=SETTINGS | {"run": str | int | None})
    data, runs = config.data, []
    if config.run is not None:
        from pytorch_intro.inference.held_out import choose_images, find_runs, predict_held_out

        runs = find_runs(str(config.run), config.outputs, config.allow)
        for run in runs:
            choose_images(run, config)
        data = runs[0].config.data
        check_config(data, "data")
    name = choose_name(config, HydraConfig.get().runtime.choices["data"], data.get("root"), runs)
    folder = Path(config.run_dir) / name
    check_replaceable(folder)

    device = choose_accelerator("auto") if runs else "cpu"
    outputs = [output for run in runs for output in predict_held_out(run, device)]
    survey = Survey(instantiate(data, "data"))
    predictions = average_predictions(survey, outputs, [display_path(run.path) for run in runs]) if runs else None
    command = shlex.join([*command_line("data_report"), *HydraConfig.get().overrides.task])
    report = Report(Findings(survey, predictions), name, command)
    report.save(folder)
    print(report.summary())
    print(f"\nwritten: {display_path(folder / 'report.md')}")
