"""What position schemes are made of, for every engine: biases and vectors by distance, frequencies of rotation.

Letters used for shapes: N heads, D head size.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.spec import RelativeVectors, Rotary

__all__ = ["REACH", "alibi_by_distance", "alibi_slopes", "bias_by_distance", "frequencies", "rows_by_distance"]

#: Keys further away than this share the outermost bias (T5's largest distance, which MPNet has too).
REACH = 128


def bias_by_distance(table: FloatArray) -> FloatArray:
    """Spread a table of T5's buckets (buckets, N) out to (N, 2 * REACH + 1): by key's place - query's place + REACH."""
    distances = np.arange(-REACH, REACH + 1)
    return np.ascontiguousarray(table[_buckets(distances, len(table))].T)


def _buckets(distances: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The bucket of every distance: half of them for keys behind the query; near ones alone, far ones by logarithm.

    As in T5 (Raffel et al., 2020) and, to the rounding of float32, transformers' modeling_mpnet.py.
    """
    half, near = count // 2, count // 4
    size = np.abs(distances)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(near)) / np.float32(math.log(REACH / near))
    far = np.minimum(near + (ratio * np.float32(half - near)).astype(np.int64), half - 1)
    return np.where(distances > 0, half, 0) + np.where(size < near, size, far)


def alibi_by_distance(heads: int, reach: int) -> FloatArray:
    """(N, 2 * reach + 1) what ALiBi adds to scores, by key's place - query's place + reach."""
    distances = np.abs(np.arange(-reach, reach + 1))
    result: FloatArray = (-alibi_slopes(heads)[:, None] * distances).astype(np.float32)
    return result


def alibi_slopes(heads: int) -> npt.NDArray[np.float64]:
    """(N,) the slopes of ALiBi: 2 ** (-8 / N) and its powers where N is a power of two.

    Else those of the power of two below it, then every second one of the power above (Press et al., Train Short, Test
    Long, 2022, and their code).
    """
    power = 1 << (heads.bit_length() - 1)
    first, twice = (2.0 ** (-8 / count * np.arange(1, count + 1)) for count in (power, 2 * power))
    slopes: npt.NDArray[np.float64] = np.concatenate([first, twice[::2]])[:heads]
    return slopes


def frequencies(rotary: Rotary, size: int) -> FloatArray:
    """(D / 2,) the angle between two neighbouring positions, for each pair of a head's values.

    Rounded to float32 on the way as in transformers' modeling_rope_utils.py (Su et al., RoFormer, 2021).
    """
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    result: FloatArray = np.float32(rotary.factor) / np.float32(rotary.base) ** exponents
    return result


def rows_by_distance(vectors: RelativeVectors, positions: int) -> npt.NDArray[np.int64]:
    """The table's row for every distance of a key behind its query, from -(positions - 1) to positions - 1.

    By logarithm in float32, as transformers' modeling_deberta_v2.py has it: rounding decides about rows.
    """
    distances = -np.arange(1 - positions, positions)
    size, near = np.abs(distances), vectors.rows // 4
    if vectors.max_distance is not None and positions - 1 > near:
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.log(np.float32((vectors.max_distance - 1) / near))
            ratio = np.log(np.maximum(size, near).astype(np.float32) / np.float32(near)) / whole
        far = np.ceil(ratio * np.float32(near - 1)) + near
        size = np.where(size > near, np.nan_to_num(far, nan=near, posinf=vectors.rows).astype(np.int64), size)
    result: npt.NDArray[np.int64] = np.clip(np.sign(distances) * size + vectors.rows // 2, 0, vectors.rows - 1)
    return result
