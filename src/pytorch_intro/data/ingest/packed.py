"""Millions of texts in little memory."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class PackedTexts(Sequence[str]):
    """An immutable sequence of texts, such as paths, in two arrays.

    A list has an object of about 100 bytes for each. In a forked worker process, reading an object changes its
    reference count, which copies its page: each worker would soon have a list of its own.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        content, ends = bytearray(), array("q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogateescape")
            ends.append(len(content))
        self.content = np.frombuffer(content, dtype=np.uint8)
        self.ends = np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        row = range(len(self))[index]  # also from the end; an IndexError outside
        return self.content[self.ends[row] : self.ends[row + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        content, start = self.content.tobytes(), 0
        for end in self.ends[1:].tolist():
            yield content[start:end].decode("utf-8", "surrogateescape")
            start = end
