"""int8 and uint8 for a stream: the first embedding can't be written before the range of every value is known.

So float32 rows wait in a temporary file, memory stays bounded, and the result is that of all embeddings at once.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from bothways.cli.output import Vector
from bothways.errors import InputError
from bothways.precision import quantize

__all__ = ["RANGED", "quantized"]

#: The precisions whose values depend on the ranges of all embeddings.
RANGED = ("int8", "uint8")

_LENGTH = struct.Struct("<Q")  # bytes of the text that follows


def quantized(
    rows: Iterator[tuple[str, Vector]], precision: str, folder: Path | None
) -> Generator[tuple[str, Vector], None, None]:
    """Convert float32 rows to `precision`, with ranges taken from all of them.

    Args:
        rows: Texts with their float32 embeddings.
        precision: One of `RANGED`.
        folder: Where the temporary file goes; the system's folder for such files when None.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        count, low, high = _store(rows, file)
        if count == 1:
            raise InputError(f"precision {precision!r} takes its ranges from all texts: give more than one")
        file.seek(0)
        for _ in range(count):
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            text = file.read(length).decode("utf-8")
            row = np.frombuffer(file.read(low.nbytes), np.float32)  # (D,)
            yield text, quantize(row[None], precision, ranges=np.stack([low, high]))[0]


def _store(rows: Iterator[tuple[str, Vector]], file: IO[bytes]) -> tuple[int, Vector, Vector]:
    """Write the rows one after the other; return their number and the smallest and largest of each value."""
    count, low, high = 0, np.zeros(0, np.float32), np.zeros(0, np.float32)
    for count, (text, row) in enumerate(rows, 1):
        low, high = (np.minimum(low, row), np.maximum(high, row)) if count > 1 else (row, row)
        encoded = text.encode("utf-8")
        file.write(_LENGTH.pack(len(encoded)) + encoded + row.tobytes())
    return count, low, high
