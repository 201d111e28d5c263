"""Train a network, select its best weights by validation, test them once."""

import time

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.config.paths import display_path
from pytorch_intro.runs.folder import Result, RunFolder
from pytorch_intro.safety.untrusted_config import verify_run
from pytorch_intro.training.summary import print_summary


@entrypoint("train")
def main(config: DictConfig) -> Result:
    run = RunFolder.of(config)
    with run.lock():
        return train(run.recorded_config(config, verify=verify_run), run)


def train(config: DictConfig, run: RunFolder) -> Result:
    from pytorch_intro.training.finder_checks import check_finders

    started = time.perf_counter()
    check_finders(config, is_sweep=HydraConfig.get().mode == RunMode.MULTIRUN)
    if config.get("find") == "lr":
        return find_lr(config, run)
    if finished := run.recorded_result(config):
        print_summary(finished, run, "finished before, this is the stored result")
        return finished

    from pytorch_intro.training.callbacks.total_time import TotalTime
    from pytorch_intro.training.checkpoint import select_checkpoint
    from pytorch_intro.training.finder_checks import FINDER_SETTINGS
    from pytorch_intro.training.finders import resolve_batch_size
    from pytorch_intro.training.hardware import resolve_hardware
    from pytorch_intro.training.lightning_internals import callbacks, kill_ranks_on_error
    from pytorch_intro.training.result import result_of, run_result_hooks
    from pytorch_intro.training.resume import check_extension, check_unchanged, checkpoint_to_resume
    from pytorch_intro.training.setup import build_experiment, check_trained
    from pytorch_intro.training.trainer import wait_for_all_ranks

    if "sweep" in config:  # unless the sweeps were deleted
        from pytorch_intro.sweeps.folder import check_settings

        check_settings(config)
    hardware = resolve_hardware(config, FINDER_SETTINGS)
    config.trainer.threads = hardware["threads"]  # recorded, since the bits of the result depend on it
    resolve_batch_size(config, hardware)
    datamodule, classifier, trainer = build_experiment(config, hardware)
    if config.get("metrics"):
        from pytorch_intro.metrics.callback import add_metrics

        add_metrics(config.metrics, datamodule, trainer)
    callbacks(trainer).append(total_time := TotalTime(started))
    check_extension(run.path, run.changes(config))
    if not config.overwrite:
        check_unchanged(run.path, datamodule.hparams)
    run.begin(config)
    wait_for_all_ranks(trainer)

    with kill_ranks_on_error(trainer):
        trainer.fit(classifier, datamodule, ckpt_path=checkpoint_to_resume(run.path), weights_only=True)
        check_trained(trainer)
        selected = select_checkpoint(trainer)
        trainer.test(classifier, datamodule, ckpt_path=selected.path, weights_only=True, verbose=False)

    result = result_of(config, trainer, selected, total_time.seconds())
    rows = run_result_hooks(trainer, result)
    run.finish(result)
    print_summary(result, run, more_rows=rows)
    return result


def find_lr(config: DictConfig, run: RunFolder) -> Result:
    """Print a learning rate that suits the config, and plot lr_find.png in the run folder; no run is recorded there."""
    from pytorch_intro.analysis.plots import plot_learning_rates, save
    from pytorch_intro.training.finder_checks import FINDER_SETTINGS
    from pytorch_intro.training.finders import find_learning_rate, resolve_batch_size
    from pytorch_intro.training.hardware import resolve_hardware

    hardware = resolve_hardware(config, FINDER_SETTINGS)
    resolve_batch_size(config, hardware)
    found = find_learning_rate(config, hardware)
    file = run.path / "lr_find.png"
    save(plot_learning_rates(*found, found.suggestion), file)
    current = config.optimizer.get("lr", "unknown")
    print(
        f"\nsuggestion: optimizer.lr={found.suggestion:.2g} (the config has {current}), half of the rate with the "
        f"lowest loss, {found.lowest:.2g}; the loss falls fastest at {found.steepest:.2g}\n"
        f"written: {display_path(file)}"
    )
    return {"suggested_lr": found.suggestion, "steepest_lr": found.steepest, "lowest_loss_lr": found.lowest}
