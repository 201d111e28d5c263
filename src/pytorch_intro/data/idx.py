"""The idx format of the MNIST family: a magic number, the sizes, then the bytes (LeCun et al., 1998)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pytorch_intro.common.errors import UserError

UINT8 = 0x08
MAX_BYTES = 1 << 28  # Fashion-MNIST's largest file has 47 million


def parse_idx(content: bytes, source: Path) -> Tensor:
    """Return the content of an idx file as uint8: (N, H, W) for images, (N,) for labels.

    Raises:
        UserError: if it is not idx of unsigned bytes, or its size differs from its header.
    """
    dimensions = content[3] if len(content) > 3 else 0
    header = 4 + 4 * dimensions
    if content[:3] != bytes([0, 0, UINT8]) or not 1 <= dimensions <= 4 or len(content) < header:
        raise UserError(f"{source} is not an idx file of unsigned bytes; restore it")
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64).tolist()
    if len(content) - header != np.prod(shape, dtype=object):
        raise UserError(f"{source} has {len(content) - header} bytes of data, expected {shape}; restore it")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)


def read_gzip(path: Path) -> bytes:
    """Return the decompressed content of a .gz file.

    Raises:
        UserError: if it cannot be opened, is damaged, or expands to more than MAX_BYTES, as a gzip bomb does.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); restore or remove it") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} expands to more than {MAX_BYTES >> 20} MiB; restore or remove it")
    return content
