"""Everything here depends on parts of Lightning that are private, or unknown to type checkers; checked with 2.6.6.

Other modules use Lightning's public API only, so that an upgrade touches this file and its test; logger=csv has its own
in reports/csv_logger.py.
Source: https://github.com/Lightning-AI/pytorch-lightning/tree/2.6.6/src/lightning
"""

from lightning import Callback, Trainer


def callbacks(trainer: Trainer) -> list[Callback]:
    """Return the trainer's callbacks; the attribute is public, but assigned by a connector that mypy cannot see."""
    return trainer.callbacks  # type: ignore[attr-defined]


def fix_resume_with_max_steps(trainer: Trainer) -> None:
    """Let a run with max_steps resume from the end of an epoch.

    With max_steps, FitLoop treats every restart as one within an epoch, and ends the finished epoch a second time: its
    hooks run and its counters advance twice. See FitLoop.restarting in pytorch/loops/fit_loop.py.
    """
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def is_resumable_step(trainer: Trainer) -> bool:
    """Return whether a checkpoint saved in on_train_batch_end would be complete.

    It is not while gradients are being accumulated (they are not in a checkpoint), before a validation that follows
    this batch, or at the last batch of an epoch, whose end saves a checkpoint itself. Lightning's loop decides both
    right after this hook, by these two methods; see _TrainingEpochLoop in pytorch/loops/training_epoch_loop.py.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return not (trainer.is_last_batch or loop._should_accumulate() or loop._should_check_val_fx(fetcher))
