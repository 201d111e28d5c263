"""Random numbers that are a function of what they are drawn for, so that a run carried on draws the same ones."""

import random
from hashlib import blake2b
from typing import Literal

import numpy as np
import torch


def seed_draws(device: torch.device, purpose: Literal["step", "image"], *key: int) -> None:
    """Begin all global generators anew: torch's, on the host and on a device, NumPy's and Python's.

    Where each batch does so, by its number, nothing has to be kept of the generators' states when a run is
    interrupted. It takes some microseconds; torch.manual_seed takes ten times as long, for devices that are not there,
    and NumPy's SeedSequence several times.

    Args:
        device: That training runs on.
        purpose, key: What is drawn for: a training step, by seed, process and number, or an image of a data set that is
            asked anew each time, by seed, epoch and number. Another purpose or number gives other draws.
    """
    digest = blake2b(repr((purpose, *key)).encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "little")
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
