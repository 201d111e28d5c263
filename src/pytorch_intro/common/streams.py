"""Standard streams whose write errors never stop a program."""

import io
import os
import sys
from typing import Any


class LossyFile(io.FileIO):
    """A file that discards everything from the first error on: no reader, as after `… | head`, or a full disk."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or discard them."""
        try:
            return super().write(data)
        except OSError as error:
            with open(os.devnull, "wb") as null:  # noqa: PTH123
                os.dup2(null.fileno(), self.fileno())
            if self.fileno() != 2 and not isinstance(error, BrokenPipeError):  # 2 is stderr
                print(f"output: {error.strerror}, the rest is not shown", file=sys.stderr)
            return len(data)


def protect_streams() -> None:
    """Make print never fail: replace characters that the encoding lacks, and discard what cannot be written.

    A closed stream, as after `>&-`, is replaced by the null device, so that no other file gets its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, errors="replace"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":  # in tests and notebooks it may be another kind
            setattr(sys, name, protect(stream))


def protect(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream to the same file that print never fails on."""
    stream.reconfigure(errors="replace")
    buffer: Any = stream.buffer
    file = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED, the buffer is the file
    if type(file) is not io.FileIO:  # a console of Windows, or protected already
        return stream
    stream.flush()
    lossy: Any = LossyFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        lossy if buffer is file else io.BufferedWriter(lossy),
        stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
