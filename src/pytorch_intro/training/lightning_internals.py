"""Everything here depends on parts of Lightning that are private, or unknown to type checkers; checked with 2.6.6.

Other modules use Lightning's public API only, so that an upgrade touches this file and its test; logger=csv has its own
in reports/csv_logger.py.
Source: https://github.com/Lightning-AI/pytorch-lightning/tree/2.6.6/src/lightning
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.connectors.signal_connector import _get_sigkill_signal
from lightning.pytorch.trainer.states import TrainerFn

BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def callbacks(trainer: Trainer) -> list[Callback]:
    """Return the trainer's callbacks; the attribute is public, but assigned by a connector that mypy cannot see."""
    return trainer.callbacks  # type: ignore[attr-defined]


def fix_resume(trainer: Trainer) -> None:
    """Make a resumed run continue like an uninterrupted one; see pytorch/loops/fit_loop.py."""
    fix_resume_with_max_steps(trainer)
    fix_resume_after_stop(trainer)
    call_epoch_start_hooks_on_resume(trainer)


def fix_resume_with_max_steps(trainer: Trainer) -> None:
    """Make a run with max_steps resume from the end of an epoch.

    With max_steps, FitLoop treats every restart as one within an epoch, and ends the finished epoch a second time: its
    hooks run and its counters advance twice. See FitLoop.restarting.
    """
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def fix_resume_after_stop(trainer: Trainer) -> None:
    """Correct trainer.current_epoch in a run that has nothing left to train, only to test.

    A checkpoint saved in on_train_epoch_end does not count its epoch as completed yet. FitLoop.on_run_start corrects
    that, but is skipped there; FitLoop.done does so only for max_epochs.
    """
    loop = trainer.fit_loop
    load_state_dict = loop.load_state_dict

    def load_and_complete(state_dict: dict[str, Any]) -> None:
        load_state_dict(state_dict)
        loop.epoch_progress.current.completed = loop.epoch_progress.current.processed  # type: ignore[attr-defined]

    loop.load_state_dict = load_and_complete  # type: ignore[method-assign, assignment]


def call_epoch_start_hooks_on_resume(trainer: Trainer) -> None:
    """Call the hook on_train_epoch_start in a run that is resumed within an epoch, where FitLoop leaves it out.

    A callback may set there what no checkpoint holds, as GradientAccumulationScheduler does with
    trainer.accumulate_grad_batches. Left out are callbacks with a state_dict, which restore their state themselves:
    calling their hook twice would reset it. Nothing is logged a second time.
    """
    loop = trainer.fit_loop
    on_advance_start = loop.on_advance_start

    def start_epoch() -> None:
        is_resumed = loop.restarted_mid_epoch
        on_advance_start()
        if not is_resumed:
            return
        every, loggers = callbacks(trainer), trainer.loggers
        stateless = [callback for callback in every if type(callback).state_dict is Callback.state_dict]
        trainer.callbacks, trainer.loggers = stateless, []  # type: ignore[attr-defined]
        try:
            call._call_callback_hooks(trainer, "on_train_epoch_start")
        finally:
            trainer.callbacks, trainer.loggers = every, loggers  # type: ignore[attr-defined]

    loop.on_advance_start = start_epoch  # type: ignore[method-assign]


def skip_empty_hooks(trainer: Trainer) -> None:
    """Make Lightning skip the hooks of a training batch that a callback does not implement.

    For 15 callbacks it would call about 80 empty methods per step, at more than a microsecond each. It skips a hook
    that is not callable. See _call_callback_hooks in pytorch/trainer/call.py.
    """
    for callback in callbacks(trainer):
        for name in BATCH_HOOKS:
            if getattr(getattr(callback, name), "__func__", None) is getattr(Callback, name):
                setattr(callback, name, None)


def leave_out_epoch(trainer: Trainer) -> None:
    """Stop Lightning from logging `epoch` with each metric: it would be TensorBoard's first chart.

    It does so unless it is given the step; see pytorch/trainer/connectors/logger_connector/logger_connector.py.
    """
    connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    log_metrics = connector.log_metrics

    def log_with_step(metrics: Any, step: int | None = None) -> None:
        if step is None and "step" not in metrics:
            step = loop._batches_that_stepped
        log_metrics(metrics, step)

    connector.log_metrics = log_with_step  # type: ignore[method-assign]


def fix_signals(trainer: Trainer) -> None:
    """Make a rank that receives SIGTERM exit without waiting for the others.

    Lightning's handler calls that of the command only after a broadcast to all ranks, which never ends if another rank
    waits in a different collective. Its training loop broadcasts in every step, too, and waits for the device; here,
    GracefulShutdown does so on the CPU. See pytorch/trainer/connectors/signal_connector.py.
    """
    trainer._signal_connector._sigterm_notifier_fn = lambda *_: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


@contextmanager
def kill_ranks_on_error(trainer: Trainer) -> Iterator[None]:
    """Kill the ranks that Lightning launched when this one, rank 0, stops early: they may wait for it.

    Those that are still starting would try to connect for half an hour. Lightning does so after Ctrl-C only.
    """
    try:
        yield
    except BaseException:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(_get_sigkill_signal())
            launcher.procs.clear()  # for the thread that kills rank 0 after any of them; see _ChildProcessObserver
        raise


def keep_averages(trainer: Trainer) -> None:
    """Make WeightAveraging test the averages, not the weights that it restores to train them further.

    A checkpoint has the averages as its weights, and the others besides. See WeightAveraging.on_load_checkpoint in
    pytorch/callbacks/weight_averaging.py.
    """
    for callback in callbacks(trainer):
        if isinstance(callback, WeightAveraging):
            callback.on_load_checkpoint = partial(load_averages, callback.on_load_checkpoint)  # type: ignore[method-assign]


def load_averages(
    load: Callable[..., None], trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
) -> None:
    if trainer.state.fn == TrainerFn.FITTING:
        load(trainer, pl_module, checkpoint)


def validate_before_training(trainer: Trainer) -> None:
    """Run a whole validation before the first step, with all hooks and loggers; to be called in on_train_start.

    As _TrainingEpochLoop does it after an epoch, in pytorch/loops/training_epoch_loop.py. Averages of the weights start
    with the current ones: on_fit_start may have changed those that WeightAveraging.setup copied.
    """
    for callback in callbacks(trainer):
        if isinstance(callback, WeightAveraging) and callback._average_model is not None:
            callback._average_model.module.load_state_dict(trainer.lightning_module.state_dict())
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def is_resumable_step(trainer: Trainer) -> bool:
    """Return whether a checkpoint saved in on_train_batch_end would be complete.

    It is not while gradients are being accumulated (they are not in a checkpoint), before a validation that follows
    this batch, or at the last batch of an epoch or of the training: the end of the epoch saves a checkpoint itself.
    Lightning's loop decides all three right after this hook, by these methods; see _TrainingEpochLoop in
    pytorch/loops/training_epoch_loop.py.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    is_last = loop._is_training_done or (trainer.should_stop and trainer.fit_loop._can_stop_early)
    return not (trainer.is_last_batch or is_last or loop._should_accumulate() or loop._should_check_val_fx(fetcher))
