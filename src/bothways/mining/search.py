"""The nearest vectors of each query, and the nearest pairs of one set.

Letters: Q queries, N vectors of a corpus, D values of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bothways.arrays import FloatArray
from bothways.engines.compare import Comparer, Indices, Vectors
from bothways.mining.options import Score, comparer, count
from bothways.tasks.rerank import Ranked

__all__ = ["Pair", "paraphrase_mining", "ranked", "semantic_search"]

_CANDIDATES = 1 << 22  # pairs that are looked at together


class Pair(NamedTuple):
    """Two vectors of one set, i < j, and how alike they are."""

    score: float
    i: int
    j: int


def semantic_search(
    queries: Any,
    corpus: Any,
    *,
    top_k: int = 10,
    score: Score = "cosine",
    threads: int | None = None,
    chunk_size: int | None = None,
) -> list[list[Ranked]]:
    """Find the vectors of a corpus that are most like each query: for each the best first, as `Ranked(index, score)`.

    Exact, in float32, as sentence-transformers' `util.semantic_search`; equal scores go by smaller index. The result is
    the same bits for any `threads` and `chunk_size`.

    Args:
        queries: (Q, D) or one vector (D,).
        corpus: (N, D); a memory-mapped .npy file of float32 is read where it lies.
        top_k: How many each query gets, if there are as many.
        score: "cosine", or "dot" for the vectors as they are.
        threads: How many compute; None for as many as a model uses.
        chunk_size: The most vectors that are looked at together; None lets a piece take 16 MiB.

    Raises:
        InputError: A value is NaN or infinite, or the two have vectors of different sizes.
    """
    kept = count(top_k, "top_k")
    found = comparer(score, threads, chunk_size).nearest(Vectors(queries, "queries"), Vectors(corpus, "corpus"), kept)
    return ranked(*found)


def ranked(scores: FloatArray, indices: Indices) -> list[list[Ranked]]:
    """Rows of scores and indices as lists."""
    rows = zip(indices.tolist(), scores.tolist(), strict=True)
    return [[Ranked(*pair) for pair in zip(*row, strict=True)] for row in rows]


def paraphrase_mining(
    embeddings: Any,
    *,
    top_k: int = 100,
    max_pairs: int = 500_000,
    score: Score = "cosine",
    threads: int | None = None,
    chunk_size: int | None = None,
) -> list[Pair]:
    """Find the pairs of vectors that are most alike, each pair once, the best first.

    As sentence-transformers' `util.paraphrase_mining_embeddings`: of every vector the `top_k` nearest others are looked
    at, and the best `max_pairs` pairs kept. Equal scores go by smaller i, then j.

    Args:
        embeddings: (N, D).
        top_k: How many others of each vector are looked at.
        max_pairs: How many pairs are kept.
        score: "cosine", or "dot" for the vectors as they are.
        threads: How many compute; None for as many as a model uses.
        chunk_size: The most vectors that are looked at together; None lets a piece take 16 MiB.

    Raises:
        InputError: A value is NaN or infinite.
    """
    vectors, others = Vectors(embeddings, "embeddings"), count(top_k, "top_k")
    best, compare = _Pairs(len(vectors), count(max_pairs, "max_pairs")), comparer(score, threads, chunk_size)
    others = min(others, len(vectors) - 1)
    if others < 1:
        return []
    step = max(1, _CANDIDATES // (others + 1))
    for begin in range(0, len(vectors), step):
        own = np.arange(begin, min(begin + step, len(vectors)))
        best.add(own, *_nearest_others(compare, vectors, own, others))
    return best.sorted()


def _nearest_others(compare: Comparer, vectors: Vectors, own: Indices, top_k: int) -> tuple[FloatArray, Indices]:
    """The best for some of the vectors, themselves left out: scores and indices (len(own), top_k)."""
    scores, indices = compare.nearest(vectors.select(own), vectors, top_k + 1)
    keep = indices != own[:, None]
    keep[keep.all(axis=1), -1] = False  # of those that are not among their own best
    return scores[keep].reshape(-1, top_k), indices[keep].reshape(-1, top_k)


class _Pairs:
    """The best pairs so far; a pair that is added twice, from both sides with one score, counts once."""

    def __init__(self, size: int, limit: int) -> None:
        self._size, self._limit, self._worst = size, limit, -np.inf
        self._scores = np.empty(0, np.float32)
        self._keys = np.empty(0, np.int64)  # i * size + j

    def add(self, own: Indices, scores: FloatArray, indices: Indices) -> None:
        """Add every own vector with its row of others."""
        candidates = scores >= self._worst
        i = np.broadcast_to(own[:, None], indices.shape)[candidates]
        j = indices[candidates]
        keys, first = np.unique(
            np.concatenate([self._keys, np.minimum(i, j) * self._size + np.maximum(i, j)]), return_index=True
        )
        found = np.concatenate([self._scores, scores[candidates]])[first]
        if len(keys) > self._limit:
            order = np.argsort(-found, kind="stable")[: self._limit]  # stable: the keys are in order
            keys, found = keys[order], found[order]
            self._worst = found[-1]
        self._scores, self._keys = found, keys

    def sorted(self) -> list[Pair]:
        """All pairs, the best first."""
        order = np.lexsort((self._keys, -self._scores))
        i, j = np.divmod(self._keys[order], self._size)
        return [Pair(*pair) for pair in zip(self._scores[order].tolist(), i.tolist(), j.tolist(), strict=True)]
