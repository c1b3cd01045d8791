"""Stores embeddings in fewer bits: float32 to int8, uint8, or one bit per value.

The results equal those of sentence-transformers' quantize_embeddings, so stored indexes stay usable.
Letters: B vectors, D values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError

__all__ = ["PRECISIONS", "check_precision", "check_ranges", "quantize"]

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def check_precision(precision: str) -> None:
    """Raise InputError for a precision that does not exist."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}")


def check_ranges(ranges: npt.ArrayLike, size: int) -> FloatArray:
    """Read the ranges of `size` values as (2, size), or raise InputError."""
    try:
        given = np.asarray(ranges, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"ranges can't be read as numbers ({error}); pass an array of shape (2, {size})") from None
    if given.shape != (2, size):
        raise InputError(f"ranges has the shape {given.shape}; it must be (2, {size}): smallest and largest values")
    if not np.isfinite(given).all():
        raise InputError("ranges holds values that are not finite; it must hold the smallest and largest values")
    return given


def quantize(vectors: FloatArray, precision: str, ranges: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
    """Convert (B, D) float32 vectors to another precision.

    Args:
        vectors: (B, D).
        precision: "int8" and "uint8" split each value's range into 256 steps and keep the step's number;
            "binary" and "ubinary" keep the sign, eight values to a byte: (B, D / 8), as int8 or uint8.
        ranges: (2, D), the smallest and the largest of each value, for int8 and uint8. Without it they
            are those of `vectors`: then the result depends on all of them, and a few dozen are too few.
    """
    check_precision(precision)
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        packed = np.packbits(vectors > 0, axis=-1)  # (B, ceil(D / 8))
        return packed if precision == "ubinary" else (packed ^ np.uint8(128)).view(np.int8)
    steps = _steps(vectors, precision, ranges)  # (B, D) 0 to 255
    return steps.astype(np.uint8) if precision == "uint8" else (steps - np.float32(128)).astype(np.int8)


def _steps(vectors: FloatArray, precision: str, ranges: npt.ArrayLike | None) -> FloatArray:
    if not len(vectors):
        return vectors
    low, high = _measured(vectors, precision) if ranges is None else check_ranges(ranges, vectors.shape[1])
    step = (high - low) / np.float32(255)  # (D,)
    step[step == 0] = 1
    numbers: FloatArray = np.clip(np.floor((vectors - low) / step), 0, 255)
    return numbers


def _measured(vectors: FloatArray, precision: str) -> tuple[FloatArray, FloatArray]:
    if len(vectors) < 2:
        raise InputError(f"precision {precision!r} can't take its ranges from a single text; pass ranges=(2, D)")
    return vectors.min(axis=0), vectors.max(axis=0)
