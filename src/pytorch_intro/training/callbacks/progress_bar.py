"""A progress bar over the batches of an epoch."""

import sys

from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from pydantic import NonNegativeInt


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar for training and testing, without one for validation; only on a terminal."""

    def __init__(self, refresh_rate: NonNegativeInt) -> None:
        super().__init__(refresh_rate if sys.stdout.isatty() else 0)  # 0: no bar

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)
