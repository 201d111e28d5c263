"""The idx format of the MNIST family: a magic number, the sizes, then the bytes (LeCun et al., 1998)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pytorch_intro.errors import UserError

_UINT8 = 0x08


REMEDY = "remove it, and it is fetched again"


def parse_idx(content: bytes, source: Path) -> Tensor:
    """The bytes of an idx file as a uint8 tensor: (N, H, W) for images, (N,) for labels.

    Raises:
        UserError: if they are not idx of unsigned bytes, or fewer or more than their header says.
    """
    dimensions = content[3] if len(content) > 3 else 0
    header = 4 + 4 * dimensions
    if content[:3] != bytes([0, 0, _UINT8]) or len(content) < header:
        raise UserError(f"{source} is not an idx file of unsigned bytes; {REMEDY}")
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64).tolist()
    if len(content) - header != np.prod(shape, dtype=object):
        raise UserError(f"{source} says it holds {shape} bytes, but {len(content) - header} follow; {REMEDY}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)


def read_bytes(path: Path) -> bytes:
    """The file's bytes, decompressed if its name ends in .gz.

    Raises:
        UserError: if it cannot be opened, or the compressed stream is damaged.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}; {REMEDY}") from error
