"""Vectors against vectors, piece by piece, by the native core: scores, the best of each, how many reach a score.

Every sum runs along the depth in float32: a pair's score is the same bits whichever way the work is cut, on any number
of threads, and with either of the two as the query. Letters: Q queries, N vectors of a corpus, D values, K kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.engines.threads import default_threads
from bothways.errors import DeviceError, InputError

__all__ = ["Comparer", "Indices", "Vectors", "products"]

Indices = npt.NDArray[np.int64]

#: Rows of a corpus that are read at once, the values that they may have (16 MiB), and rows of queries: so a call into
#: the core, which Ctrl-C has to wait for, takes a fraction of a second.
_ROWS = 1 << 16
_VALUES = 1 << 22
_QUERY_ROWS = 512

_SMALLEST_LENGTH = 1e-12  # shorter vectors are scaled as if they were so long, as in torch.nn.functional.normalize
_LARGEST_LENGTH = 8e37  # its inverse is still a normal float32
_LARGEST_PRODUCT = 3e38  # of two lengths: no sum on the way can pass the largest float32
_MOST_VECTORS = 2**32 - 2  # what the core can number

_SQUARE = 64  # pairs that are scored at once, by a square of products for its diagonal
_SMALL = 1 << 22  # multiplications that are done before a second thread has started


class Vectors:
    """The rows of an array (N, D), read as float32 a piece at a time; float32 is not copied.

    Args:
        values: An array of floats, memory-mapped or not, or a list of vectors; one vector (D,) counts as (1, D).
        name: What messages call them.
        which: Only these rows, in this order.

    Raises:
        InputError: They are no vectors of one size.
    """

    def __init__(self, values: Any, name: str, which: Indices | None = None) -> None:
        try:
            array = np.asarray(values)
        except (TypeError, ValueError):
            raise InputError(f"{name} has vectors of different sizes; pass an array (N, D)") from None
        if array.ndim == 1:
            array = array[None] if array.size else array.reshape(0, 0)
        if array.ndim != 2:
            raise InputError(f"{name} has the shape {array.shape}; pass vectors (N, D)")
        small = array.dtype.kind in "iu" and array.dtype.itemsize == 1
        if len(array) and (array.dtype.kind not in "fiu" or small):
            raise InputError(f"{name} has the dtype {array.dtype}; pass floats, as `Encoder.embed` gives them")
        if len(array) and not array.shape[1]:
            raise InputError(f"{name} has the shape {array.shape}: the vectors have no values")
        if len(array) > _MOST_VECTORS:
            raise InputError(f"{name} has {len(array)} vectors; at most {_MOST_VECTORS} can be compared at once")
        self.name, self._array, self._which = name, array, which

    def __len__(self) -> int:
        return len(self._array if self._which is None else self._which)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self._array.shape[1])

    def select(self, which: Indices) -> Vectors:
        """Only these rows, in this order."""
        return Vectors(self._array, self.name, which if self._which is None else self._which[which])

    def number(self, row: int) -> int:
        """The number that a row has in the array."""
        return row if self._which is None else int(self._which[row])

    def rows(self, which: slice) -> FloatArray:
        """Some rows as float32, copied only where they don't lie so already."""
        with np.errstate(over="ignore"):  # what becomes infinite is refused later
            rows = self._array[which if self._which is None else self._which[which]]
            return np.require(rows, np.float32, ("C_CONTIGUOUS", "ALIGNED"))


@dataclass(frozen=True)
class _Piece:
    """Rows that are read at once, what each is multiplied by, and the length of the longest."""

    begin: int
    rows: FloatArray
    scales: FloatArray | None
    longest: float

    @property
    def place(self) -> slice:
        return slice(self.begin, self.begin + len(self.rows))


class Comparer:
    """Compares vectors by their cosine or their dot product.

    Args:
        cosine: Scale every vector to length 1; else scores are plain products.
        threads: By default as many as an engine uses.
        chunk_size: The most rows that are read at once; None is a choice that takes 16 MiB.

    Raises:
        DeviceError: BOTHWAYS_LEVEL can't be had here, or so many threads can't be started.
    """

    def __init__(self, *, cosine: bool, threads: int | None = None, chunk_size: int | None = None) -> None:
        import bothways._native as _native  # only now, as `import bothways` must not need the core
        from bothways.engines.native import level_in_force

        self._cosine, self._chunk_size, self._read_ranks = cosine, chunk_size or _ROWS, _native.read_ranks
        try:
            self._native = _native.Comparer(level=level_in_force(), threads=threads or default_threads()[0])
        except RuntimeError as error:
            raise DeviceError(f"{error}; pass a smaller number of threads") from None

    def nearest(self, queries: Vectors, corpus: Vectors, top_k: int) -> tuple[FloatArray, Indices]:
        """The best of a corpus for every query: scores (Q, K) and indices (Q, K), equal scores by smaller index.

        K is `top_k`, or N where that is less.
        """
        ranks = np.zeros((len(queries), min(top_k, len(corpus))), np.uint64)
        if ranks.size:
            for query, other in self._pairs(queries, corpus):
                part = ranks[query.place]
                self._native.nearest(query.rows, query.scales, other.rows, other.scales, first=other.begin, ranks=part)
        return self._read_ranks(ranks)

    def counts(self, queries: Vectors, corpus: Vectors, least: float) -> Indices:
        """How many of a corpus score `least` or more with each query: (Q,)."""
        counts = np.zeros(len(queries), np.int64)
        for query, other in self._pairs(queries, corpus):
            part = counts[query.place]
            self._native.count(query.rows, query.scales, other.rows, other.scales, least=least, counts=part)
        return counts

    def pairwise(self, a: Vectors, b: Vectors) -> FloatArray:
        """Score the first of a with the first of b, and so on: (N,), the bits that `nearest` gives them."""
        scores = np.empty(len(a), np.float32)
        for one, other in zip(self._pieces(a, _SQUARE), self._pieces(b, _SQUARE), strict=True):
            _check_overflow(a, b, one, other)
            scores[one.place] = self._native.products(one.rows, one.scales, other.rows, other.scales).diagonal()
        return scores

    def products(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Every row of a (Q, D) with every row of b (N, D) as they are: (Q, N)."""
        step = max(_QUERY_ROWS, _VALUES * _QUERY_ROWS // b.size)
        result = np.empty((len(a), len(b)), np.float32)
        for begin in range(0, len(a), step):
            result[begin : begin + step] = self._native.products(a[begin : begin + step], None, b, None)
        return result

    def _pairs(self, queries: Vectors, corpus: Vectors) -> Iterator[tuple[_Piece, _Piece]]:
        """Every piece of the queries with every piece of the corpus, which is read once."""
        if not len(queries) or not len(corpus):
            return
        if queries.dimensions != corpus.dimensions:
            raise InputError(
                f"{queries.name} has vectors of {queries.dimensions} values and {corpus.name} of {corpus.dimensions}; "
                "both must come from one model"
            )
        for other in self._pieces(corpus, min(_ROWS, max(1, _VALUES // corpus.dimensions))):
            for query in self._pieces(queries, _QUERY_ROWS):
                _check_overflow(queries, corpus, query, other)
                yield query, other

    def _pieces(self, vectors: Vectors, step: int) -> Iterator[_Piece]:
        step = min(step, self._chunk_size)
        for begin in range(0, len(vectors), step):
            rows = vectors.rows(slice(begin, begin + step))
            lengths = self._native.lengths(rows)
            if not np.isfinite(lengths).all():
                row = vectors.number(begin + int(np.argmin(np.isfinite(lengths))))
                raise InputError(f"row {row} of {vectors.name} holds NaN or infinity (in float32); leave it out")
            longest = float(lengths.max())
            if self._cosine and longest > _LARGEST_LENGTH:
                raise InputError(_too_long(vectors, begin + int(lengths.argmax()), longest))
            scales = (1 / np.maximum(lengths, _SMALLEST_LENGTH)).astype(np.float32) if self._cosine else None
            yield _Piece(begin, rows, scales, 1 if self._cosine else longest)


def _check_overflow(queries: Vectors, corpus: Vectors, query: _Piece, other: _Piece) -> None:
    """Refuse vectors whose products might leave float32 on the way, as infinity and NaN have no order."""
    if query.longest * other.longest > _LARGEST_PRODUCT:
        vectors, piece = max((queries, query), (corpus, other), key=lambda pair: pair[1].longest)
        row = int(np.abs(piece.rows).max(axis=1).argmax())
        raise InputError(_too_long(vectors, piece.begin + row, piece.longest))


def _too_long(vectors: Vectors, row: int, length: float) -> str:
    return (
        f"row {vectors.number(row)} of {vectors.name} has the length {length:.1e}, whose products leave float32; "
        "scale the vectors down"
    )


def products(a: FloatArray, b: FloatArray, threads: int) -> FloatArray:
    """Multiply every row of a (Q, D) with every row of b (N, D): (Q, N), a pair's bits whatever the others are."""
    small = len(a) * b.size < _SMALL
    return Comparer(cosine=False, threads=1 if small else threads).products(a, b)
