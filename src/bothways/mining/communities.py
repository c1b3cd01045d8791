"""Groups of vectors that lie around a central one. Letters: N vectors, D values of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.engines.compare import Comparer, Indices, Vectors
from bothways.mining.options import comparer, count, number

__all__ = ["community_detection"]

_MEMBERS = 1 << 22  # that are held at once


def community_detection(
    embeddings: Any,
    *,
    threshold: float = 0.75,
    min_size: int = 10,
    threads: int | None = None,
    chunk_size: int | None = None,
) -> list[list[int]]:
    """Group vectors whose cosine to a central one reaches a threshold: the indices of each group, the largest first.

    As sentence-transformers' `util.community_detection`: no vector is in two groups, the first of a group is its
    centre, the others follow from the nearest on. Equal scores go by smaller index.

    Args:
        embeddings: (N, D).
        threshold: The smallest cosine to the centre.
        min_size: The fewest vectors of a group, its centre included.
        threads: How many compute; None for as many as a model uses.
        chunk_size: The most vectors that are looked at together; None lets a piece take 16 MiB.

    Raises:
        InputError: A value is NaN or infinite.
    """
    vectors, smallest = Vectors(embeddings, "embeddings"), count(min_size, "min_size")
    compare = comparer("cosine", threads, chunk_size)
    least = float(np.float32(number(threshold, "threshold")))
    sizes = compare.counts(vectors, vectors, least)
    taken = np.zeros(len(vectors), bool)
    groups: list[list[int]] = []
    for centre, members in _neighbourhoods(compare, vectors, sizes, smallest, taken):
        free = members[~taken[members]]
        if not taken[centre] and len(free) >= smallest:
            groups.append([centre, *free[free != centre].tolist()])
            taken[groups[-1]] = True
    return sorted(groups, key=len, reverse=True)


def _neighbourhoods(
    compare: Comparer, vectors: Vectors, sizes: Indices, smallest: int, taken: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, Indices]]:
    """Every vector whose neighbourhood is large enough with its members, the largest first.

    What is taken by then is left out, so members are looked for only now, of as many centres at once as memory allows:
    `sizes` already says how many there are.
    """
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= smallest]
    while len(order := order[~taken[order]]):
        largest = int(sizes[order[0]])
        centres, order = np.split(order, [max(1, _MEMBERS // largest)])
        _, members = compare.nearest(vectors.select(centres), vectors, largest)
        for centre, row in zip(centres.tolist(), members, strict=True):
            yield centre, row[: sizes[centre]]
