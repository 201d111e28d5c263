"""The idx format of the MNIST family: a magic number, the sizes, then the bytes (LeCun et al., 1998)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pytorch_intro.errors import UserError

_UINT8 = 0x08
LARGEST = 1 << 28  # bytes; Fashion-MNIST's largest file has 47 million

REMEDY = "remove it, and it is fetched again"


def parse_idx(content: bytes, source: Path) -> Tensor:
    """The bytes of an idx file as a uint8 tensor: (N, H, W) for images, (N,) for labels.

    Raises:
        UserError: if they are not idx of unsigned bytes, or fewer or more than their header says.
    """
    dimensions = content[3] if len(content) > 3 else 0
    header = 4 + 4 * dimensions
    if content[:3] != bytes([0, 0, _UINT8]) or not 1 <= dimensions <= 4 or len(content) < header:
        raise UserError(f"{source} is not an idx file of unsigned bytes; {REMEDY}")
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64).tolist()
    if len(content) - header != np.prod(shape, dtype=object):
        raise UserError(f"{source} says it holds {shape} bytes, but {len(content) - header} follow; {REMEDY}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)


def read_bytes(path: Path) -> bytes:
    """The file's bytes, decompressed if its name ends in .gz.

    Raises:
        UserError: if it cannot be opened, is damaged, or is larger than any of its kind: a few bytes of gzip can stand
            for more than the memory holds.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}; {REMEDY}") from error
    if len(content) > LARGEST:
        raise UserError(f"{path} holds more than {LARGEST >> 20} MiB, which no file of its kind does; {REMEDY}")
    return content
