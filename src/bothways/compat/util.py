"""Functions of `sentence_transformers.util` over vectors. Arrays give arrays, and tensors give tensors.

A and B vectors, D values of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.compat.mining import (
    community_detection,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    semantic_search,
)
from bothways.compat.tensors import as_given, read_array
from bothways.precision import PRECISIONS, quantize

__all__ = [
    "SimilarityFunction",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "truncate_embeddings",
]

_Array = npt.NDArray[Any]

# Fewer vectors than this make poor ranges for int8, as sentence-transformers warns.
_ENOUGH = 100


def cos_sim(a: Any, b: Any) -> Any:
    """The cosine of every vector of a with every one of b: (A, B)."""
    return as_given(_unit(_rows(a)) @ _unit(_rows(b)).T, a, b)


def pytorch_cos_sim(a: Any, b: Any) -> Any:
    """The same as `cos_sim`, by its old name."""
    return cos_sim(a, b)


def dot_score(a: Any, b: Any) -> Any:
    """The dot product of every vector of a with every one of b: (A, B)."""
    return as_given(_rows(a) @ _rows(b).T, a, b)


def euclidean_sim(a: Any, b: Any) -> Any:
    """The negative euclidean distance of every vector of a to every one of b: (A, B)."""
    return as_given(_each_with_each(a, b, _euclidean), a, b)


def manhattan_sim(a: Any, b: Any) -> Any:
    """The negative sum of absolute differences of every vector of a to every one of b: (A, B)."""
    return as_given(_each_with_each(a, b, _manhattan), a, b)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """The cosine of each vector of a with the one of b beside it: (A,)."""
    return as_given(np.add.reduce(_unit(read_array(a)) * _unit(read_array(b)), axis=-1), a, b)


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """The dot product of each vector of a with the one of b beside it: (A,)."""
    return as_given(np.add.reduce(read_array(a) * read_array(b), axis=-1), a, b)


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """The negative euclidean distance of each vector of a to the one of b beside it: (A,)."""
    return as_given(_euclidean(read_array(a), read_array(b)), a, b)


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """The negative sum of absolute differences of each vector of a to the one of b beside it: (A,)."""
    return as_given(_manhattan(read_array(a), read_array(b)), a, b)


def pairwise_angle_sim(x: Any, y: Any) -> Any:
    """The similarity that AnglE models are trained for, of each vector of x with the one of y beside it: (A,)."""
    halves = []
    for vectors in (_unit(read_array(x)), _unit(read_array(y))):
        if vectors.shape[1] % 2:
            vectors = np.pad(vectors, ((0, 0), (0, 1)))
        halves.append(np.split(vectors, 2, axis=1))
    (real, imaginary), (other_real, other_imaginary) = halves
    cosines = real * other_real + imaginary * other_imaginary
    sines = imaginary * other_real - real * other_imaginary
    return as_given(np.abs(np.add.reduce(cosines + sines, axis=1)), x, y)


def normalize_embeddings(embeddings: Any) -> Any:
    """Scale vectors, one (D,) or many (A, D), to length 1; those of zeros stay."""
    return as_given(_unit(read_array(embeddings)), embeddings)


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """Keep the first so many values of every vector, or all."""
    return embeddings[..., :truncate_dim]


def quantize_embeddings(
    embeddings: Any,
    precision: str,
    ranges: npt.ArrayLike | None = None,
    calibration_embeddings: Any = None,
) -> _Array:
    """Store vectors, (A, D) or one (D,), in fewer bits: "float32", "int8", "uint8", "binary" or "ubinary".

    Args:
        embeddings: The vectors, of floats.
        precision: See `bothways.precision.quantize`.
        ranges: (2, D), the smallest and largest values, for "int8" and "uint8".
        calibration_embeddings: Vectors to take the ranges from; those of `embeddings` themselves without either.

    Raises:
        ValueError: The precision is unknown, or ranges can't be taken from a single vector.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Precision {precision!r} is not supported, must be one of {', '.join(PRECISIONS)}")
    if getattr(embeddings, "dtype", None) in (np.int8, np.uint8):
        raise ValueError("embeddings are int8 or uint8 already; pass the floats that they were made of")
    vectors = read_array(embeddings)
    if vectors.ndim > 2:
        raise ValueError(f"embeddings have the shape {vectors.shape}; pass vectors (D,) or (A, D)")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision in ("int8", "uint8") and ranges is None and vectors.size:
        ranges = _ranges(vectors, precision, calibration_embeddings)
    quantized = quantize(np.atleast_2d(vectors), precision, ranges)
    return quantized if vectors.ndim == 2 else quantized[0]


class SimilarityFunction(Enum):
    """The measures of similarity by their names in a checkpoint's files."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Any]:
        """The function that compares each vector with each."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Any]:
        """The function that compares each vector with the one beside it."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """The names."""
        return [measure.value for measure in SimilarityFunction]


_FUNCTIONS = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
}


def _rows(values: Any) -> _Array:
    return np.atleast_2d(read_array(values))


def _unit(vectors: _Array) -> _Array:
    # The floor under the length is torch's (nn.functional.normalize).
    lengths = np.sqrt(np.add.reduce(np.square(vectors), axis=-1, keepdims=True))
    units: _Array = vectors / np.maximum(lengths, 1e-12)
    return units


def _each_with_each(a: Any, b: Any, measure: Callable[[_Array, _Array], _Array]) -> _Array:
    """Compare vector by vector, without an array (A, B, D) in memory."""
    rows, others = _rows(a), _rows(b)
    compared = np.empty((len(rows), len(others)), np.result_type(rows, others))
    for n, row in enumerate(rows):
        compared[n] = measure(others, row)
    return compared


def _euclidean(a: _Array, b: _Array) -> _Array:
    distances: _Array = np.sqrt(np.add.reduce(np.square(a - b), axis=-1))
    return -distances


def _manhattan(a: _Array, b: _Array) -> _Array:
    distances: _Array = np.add.reduce(np.abs(a - b), axis=-1)
    return -distances


def _ranges(vectors: _Array, precision: str, calibration: Any) -> _Array:
    if calibration is None:
        if vectors.ndim == 1 or len(vectors) == 1:
            raise ValueError(
                f"Cannot compute {precision} quantization ranges from a single embedding. Call `quantize_embeddings` "
                "with `ranges` or `calibration_embeddings` from a representative set of embeddings instead."
            )
        if len(vectors) < _ENOUGH:
            logging.getLogger("bothways").warning(
                "%s takes its ranges from %d vectors; more, or calibration_embeddings, make it more stable",
                precision,
                len(vectors),
            )
    known = vectors if calibration is None else read_array(calibration)
    return np.stack([known.min(axis=0), known.max(axis=0)]).astype(np.float32)
