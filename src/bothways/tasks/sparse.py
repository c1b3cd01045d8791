"""Sparse embeddings: texts to weighted terms of the vocabulary, by a masked language model (SPLADE).

V vocabulary, k terms of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray, IntArray
from bothways.embed_spec import SpladeSpec
from bothways.errors import InputError
from bothways.tasks.inputs import shown
from bothways.tasks.plan import Plan
from bothways.tasks.scores import Fold, Limits, Scorer
from bothways.tokens import Text

__all__ = ["SparseEmbedding", "has_sparse", "sparse_embeddings", "sparse_list", "sparse_similarities"]


@dataclass(frozen=True, eq=False)
class SparseEmbedding:
    """A text's terms and their weights, the heaviest first; of equal ones, the lower id.

    Attributes:
        ids: (k,) the terms' ids in the vocabulary.
        weights: (k,) above zero.
        terms: Every term as the vocabulary spells it, so that no two are alike.
    """

    ids: IntArray
    weights: FloatArray
    terms: tuple[str, ...]

    def __len__(self) -> int:
        """The number of terms."""
        return len(self.ids)

    def __repr__(self) -> str:
        """The heaviest terms."""
        shown = [f"{term!r}: {weight:.4g}" for term, weight in zip(self.terms[:5], self.weights.tolist(), strict=False)]
        return f"SparseEmbedding({', '.join(shown)}{', ...' if len(self) > 5 else ''})"

    def dot(self, other: SparseEmbedding) -> float:
        """The dot product: the sum, over the terms that both have, of the product of their weights."""
        _, own, others = np.intersect1d(self.ids, other.ids, assume_unique=True, return_indices=True)
        return float(np.add.reduce(self.weights[own].astype(np.float64) * other.weights[others]))


def sparse_embeddings(scorer: Scorer, limits: Limits, splade: SpladeSpec) -> Plan[Text, SparseEmbedding]:
    """Plan to find every text's terms: those that weigh more than nothing, by the checkpoint's masked language model.

    As in sentence-transformers' SpladePooling, special tokens count as any others.
    """
    vocabulary = scorer.tokenizer.vocabulary

    def embedding(terms: npt.NDArray[Any]) -> SparseEmbedding:  # of (k, 2)
        ids = terms[:, 0].astype(np.int32)
        return SparseEmbedding(ids, terms[:, 1].astype(np.float32), tuple(map(vocabulary.token, ids.tolist())))

    fold = _FOLDS[splade.pooling](splade.activation)
    return scorer.texts(limits, pick=fold, group=splade).then(embedding)


def _fold_max(activation: str) -> Fold:
    """Activations only grow with the score, so the largest score is looked for and activated alone."""
    return Fold(
        lambda total, row: np.maximum(total, row, out=total), lambda total: _terms(_activated(total, activation))
    )


def _fold_sum(activation: str) -> Fold:
    def add(total: FloatArray, row: FloatArray) -> FloatArray:
        return np.add(total, _activated(row, activation), out=total)

    return Fold(add, _terms, lambda row: _activated(row, activation))


_FOLDS = {"max": _fold_max, "sum": _fold_sum}


def _activated(scores: FloatArray, activation: str) -> FloatArray:
    """Scores (V,) -> weights (V,); NaN stays NaN."""
    weights: FloatArray = np.log1p(np.maximum(scores, np.float32(0)))
    return np.log1p(weights) if activation == "log1p_relu" else weights


def _terms(weights: FloatArray) -> npt.NDArray[np.float64]:
    """The ids of weights (V,) above zero and these themselves: (k, 2), NaN where a weight is not finite."""
    if not np.isfinite(weights).all():
        return np.full((1, 2), np.nan)
    ids = np.flatnonzero(weights)
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    return np.stack([ids, weights[ids]], axis=1).astype(np.float64)


def has_sparse(values: Any) -> bool:
    """Whether something is a sparse embedding, or a list with one in it."""
    many = values if isinstance(values, list | tuple) else [values]
    return any(isinstance(value, SparseEmbedding) for value in many)


def sparse_list(values: Any, name: str, embed: Callable[[Any], list[SparseEmbedding]]) -> list[SparseEmbedding]:
    """Read texts, which are embedded, or sparse embeddings, one or many, as a list."""
    if isinstance(values, Iterator):
        values = list(values)
    if isinstance(values, SparseEmbedding):
        return [values]
    if isinstance(values, str):
        return embed([values])
    if not isinstance(values, list | tuple):
        raise InputError(f"{name} is {shown(values)}; pass texts or sparse embeddings")
    if all(isinstance(value, SparseEmbedding) for value in values):
        return list(values)
    if all(isinstance(value, str) for value in values):
        return embed(list(values))
    raise InputError(f"{name} mixes sparse embeddings with something else; pass all texts or all sparse embeddings")


def sparse_similarities(a: list[SparseEmbedding], b: list[SparseEmbedding], measure: str) -> FloatArray:
    """Compare each of a with each of b: (len a, len b), larger is more alike.

    Raises:
        InputError: The measure is neither "dot" nor "cosine".
    """
    if measure not in ("dot", "cosine"):
        raise InputError(
            f"sparse embeddings are compared by dot or cosine, not by {measure!r}; use SparseEmbedding.dot"
        )
    scores = np.zeros((len(a), len(b)))
    filled = [n for n, y in enumerate(b) if len(y)]
    if a and filled:
        ids = np.concatenate([b[n].ids for n in filled])
        weights = np.concatenate([b[n].weights for n in filled]).astype(np.float64)
        starts = np.cumsum([0, *(len(b[n]) for n in filled[:-1])])
        wide = np.zeros(1 + max(ids.max(), *(x.ids.max() for x in a if len(x)), 0))
        for n, x in enumerate(a):
            wide[x.ids] = x.weights
            scores[n, filled] = np.add.reduceat(wide[ids] * weights, starts)
            wide[x.ids] = 0
    if measure == "cosine":
        first, second = (np.array([max(x.dot(x), 1e-24) for x in side]) for side in (a, b))
        scores /= np.sqrt(first)[:, None] * np.sqrt(second)
    return scores.astype(np.float32)
