"""The task `rerank`: how well documents answer a query, by a cross-encoder, as sentence-transformers' CrossEncoder."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bothways.heads import activation
from bothways.tasks.scores import Limits, Scorer

__all__ = ["Ranked", "rerank"]


@dataclass(frozen=True)
class Ranked:
    """A document's place among those given, and its score."""

    index: int
    score: float


def rerank(
    query: str, documents: Iterable[str], scorer: Scorer, limits: Limits, *, top_k: int | None, function: str
) -> list[Ranked]:
    """Return the `top_k` documents (None: all), the best first; equal scores keep the input order.

    Args:
        query: What is asked.
        documents: Read as they are computed; no more than `top_k` scores are kept.
        scorer: A classification head of one score.
        limits: How long pairs are taken; the longer half is cut first.
        top_k: How many.
        function: The activation that a logit goes through, such as "sigmoid".
    """
    apply = activation(function)

    def ranked() -> Iterator[Ranked]:
        for pair in scorer.score(((query, document) for document in documents), limits):
            yield Ranked(pair.number, float(apply(pair.scores[0])[0]))

    def order(item: Ranked) -> tuple[float, int]:
        return -item.score, item.index

    return sorted(ranked(), key=order) if top_k is None else heapq.nsmallest(top_k, ranked(), key=order)
