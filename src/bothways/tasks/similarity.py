"""The task `similarity`: how alike two sets of embeddings are, by the checkpoint's own measure.

Letters: A and B vectors, D values of each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from bothways.arrays import FloatArray
from bothways.engines.compare import products
from bothways.errors import InputError
from bothways.pooling import normalize

__all__ = ["similarities", "vectors"]


def vectors(values: Any, name: str, embed: Callable[[Any], FloatArray]) -> FloatArray:
    """Read texts, which are embedded, or embeddings, one (D,) or many (B, D), as (B, D) float32."""
    if isinstance(values, Iterator):
        values = list(values)
    if isinstance(values, str) or (isinstance(values, Collection) and any(isinstance(v, str) for v in values)):
        return embed(values)
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        message = f"{name} mixes texts, vectors or vectors of different sizes; pass all texts or all vectors"
        raise InputError(message) from None
    if array.ndim == 1:
        array = array[None, :] if array.size else array.reshape(0, 0)
    if array.ndim != 2:
        raise InputError(f"{name} has the shape {array.shape}; pass vectors (D,) or (B, D), or texts")
    if len(array) and not array.shape[1]:
        raise InputError(f"{name} has the shape {array.shape}: the vectors have no values; pass what a model computed")
    return np.ascontiguousarray(array)


def similarities(a: FloatArray, b: FloatArray, measure: str, threads: int) -> FloatArray:
    """Compare every row of a (A, D) with every row of b (B, D): (A, B), larger is more alike.

    "euclidean" and "manhattan" are negative distances, as in sentence-transformers.
    """
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)), np.float32)
    if a.shape[1] != b.shape[1]:
        raise InputError(f"a has vectors of {a.shape[1]} values and b of {b.shape[1]}; both must come from one model")
    for name, array in (("a", a), ("b", b)):
        broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(broken):
            raise InputError(
                f"{name}: vector {broken[0]} holds NaN or infinite values; embed its text again, and look at the "
                "model's weights"
            )
    if measure == "cosine":
        a, b = normalize(a), normalize(b)
    if measure in ("cosine", "dot"):
        # By the native core rather than NumPy: its products do not depend on how many rows are multiplied at once.
        return products(a, b, threads)
    return -np.stack([_distances(row, b, measure) for row in a])


def _distances(row: FloatArray, b: FloatArray, measure: str) -> FloatArray:
    """Distances (B,) from one vector (D,), without an array (A, B, D) in memory."""
    difference = b - row  # (B, D)
    distances: FloatArray = (
        np.sqrt(np.add.reduce(np.square(difference), axis=1))
        if measure == "euclidean"
        else np.add.reduce(np.abs(difference), axis=1)
    )
    return distances
