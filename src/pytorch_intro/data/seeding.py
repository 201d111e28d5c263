"""Seeds that are a function of what is sampled, so that a resumed run samples the same numbers."""

import random
from hashlib import blake2b
from typing import Literal

import numpy as np
import torch


def seed_all_rngs(device: torch.device, purpose: Literal["step", "image", "features"], *key: int) -> None:
    """Reseed the global RNGs of torch (host and device), NumPy and Python from (purpose, *key).

    The key is (seed, rank, step), (seed, epoch, image index) or, for features, (seed, view, first row, batch). With a
    call per batch, no RNG state has to be saved for resume. A call takes microseconds; torch.manual_seed takes ten
    times as long, for devices that do not exist, and NumPy's SeedSequence several times as long.
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
