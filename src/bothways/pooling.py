"""Turns token rows into one vector per sequence, with the meaning that sentence-transformers gives each pooling.

Every sequence is pooled on its own slice, so its vector never depends on what shares the batch.
Letters: T tokens, B sequences, n one sequence's tokens, H hidden, D pooled values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bothways.arrays import FloatArray, IntArray
from bothways.embed_spec import POOLINGS
from bothways.errors import InputError

__all__ = ["choose_poolings", "normalize", "pool", "pool_batch"]


def choose_poolings(pooling: str | Iterable[str]) -> tuple[str, ...]:
    """Check a caller's pooling, one name or several; several come back in the order in which they are concatenated."""
    if not isinstance(pooling, str | Iterable):
        raise InputError(f"pooling is {pooling!r}; use one or more of {', '.join(POOLINGS)}")
    names = [pooling] if isinstance(pooling, str) else list(pooling)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"pooling has {name!r} in it; use one or more of {', '.join(POOLINGS)}")
        if name in ("pooler", "pooler_output"):
            raise InputError(
                f"pooling {name!r} is not offered: the pooler was trained for next-sentence prediction or for a "
                f"classifier and makes poor embeddings; use {', '.join(POOLINGS)}, or encode(...).pooler_output"
            )
        if name not in POOLINGS:
            raise InputError(f"pooling {name!r} is unknown; use one or more of {', '.join(POOLINGS)}")
    if not names:
        raise InputError(f"pooling is empty; use one or more of {', '.join(POOLINGS)}")
    return tuple(name for name in POOLINGS if name in names)


def pool(rows: FloatArray, poolings: tuple[str, ...], skip: int = 0) -> FloatArray:
    """Pool one sequence's rows (n, H) into (D,), zeros of no rows, leaving out its first `skip` tokens (a prompt's)."""
    if not len(rows):
        return np.zeros(len(poolings) * rows.shape[1], np.float32)
    # A prompt's last tokens may merge with the text's first: a short text then has no token of its own but the last.
    skip = max(0, min(skip, len(rows) - 1))
    return np.concatenate([_POOLINGS[name](rows, skip) for name in poolings])  # (D,)


def pool_batch(rows: FloatArray, starts: IntArray, poolings: tuple[str, ...], skip: int = 0) -> FloatArray:
    """Pool packed rows (T, H), sequence by sequence, into (B, D)."""
    pooled = np.empty((len(starts) - 1, len(poolings) * rows.shape[1]), np.float32)  # (B, D)
    for n in range(len(pooled)):
        pooled[n] = pool(rows[starts[n] : starts[n + 1]], poolings, skip)
    return pooled


def normalize(vectors: FloatArray) -> FloatArray:
    """Scale every row of (B, D) to length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.add.reduce(np.square(vectors), axis=1, keepdims=True))  # (B, 1)
    scaled: FloatArray = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled


def _cls(rows: FloatArray, skip: int) -> FloatArray:
    first: FloatArray = rows[skip]
    return first


def _max(rows: FloatArray, skip: int) -> FloatArray:
    largest: FloatArray = rows[skip:].max(axis=0)
    return largest


def _mean(rows: FloatArray, skip: int) -> FloatArray:
    mean: FloatArray = np.add.reduce(rows[skip:], axis=0) / np.float32(len(rows) - skip)
    return mean


def _mean_sqrt_len(rows: FloatArray, skip: int) -> FloatArray:
    mean: FloatArray = np.add.reduce(rows[skip:], axis=0) / np.sqrt(np.float32(len(rows) - skip))
    return mean


def _weightedmean(rows: FloatArray, skip: int) -> FloatArray:
    # The first token weighs 1, the next 2, ...; a token keeps its weight when a prompt before it is left out.
    weights = np.arange(1 + skip, 1 + len(rows), dtype=np.float32)  # (n - skip,)
    mean: FloatArray = np.add.reduce(rows[skip:] * weights[:, None], axis=0) / np.add.reduce(weights)
    return mean


def _lasttoken(rows: FloatArray, skip: int) -> FloatArray:
    last: FloatArray = rows[-1]
    return last


_POOLINGS: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}
