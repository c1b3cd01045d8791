"""The task `rerank`: how well documents answer a query, by a cross-encoder, as sentence-transformers' CrossEncoder."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from bothways.heads import activation
from bothways.tasks.plan import Plan
from bothways.tasks.scores import Limits, Scorer

__all__ = ["Ranked", "best", "rerank"]


@dataclass(frozen=True)
class Ranked:
    """A document's place among those given, and its score."""

    index: int
    score: float


def rerank(query: str, scorer: Scorer, limits: Limits, *, function: str) -> Plan[str, float]:
    """Plan to score documents by how well they answer a query.

    Args:
        query: What is asked.
        scorer: A classification head of one score.
        limits: How long pairs are taken; the longer half is cut first.
        function: The activation that a logit goes through, such as "sigmoid".
    """
    apply = activation(function)
    pairs = scorer.texts(limits).then(lambda logits: float(apply(logits)[0]))
    return pairs.taking(lambda document: (query, document))


def best(scores: Iterable[float], top_k: int | None) -> list[Ranked]:
    """Return the `top_k` documents (None: all), the best first; equal scores keep the input order.

    Scores are read as they are computed, and no more than `top_k` of them are kept.
    """
    ranked = (Ranked(number, score) for number, score in enumerate(scores))

    def order(item: Ranked) -> tuple[float, int]:
        return -item.score, item.index

    return sorted(ranked, key=order) if top_k is None else heapq.nsmallest(top_k, ranked, key=order)
