"""Hard negatives: for each anchor, what is most like it and none of its positives.

Letters: A anchors, each with one positive; N vectors of a corpus, D values of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.engines.compare import Comparer, Indices, Vectors
from bothways.errors import InputError
from bothways.mining.options import Score, comparer, count, number
from bothways.tasks.inputs import natural, one_of, shown, whole_number
from bothways.tasks.rerank import Ranked

__all__ = ["mine_hard_negatives"]

#: Scores candidates anew: an anchor's index and candidates' indices in, one score for each out.
Rescore = Callable[[int, list[int]], npt.ArrayLike]

_ROWS = 1 << 12  # that are looked at together for equal ones
_SPARE = 10  # candidates for each negative that is wanted, where limits may refuse some


def mine_hard_negatives(  # noqa: PLR0913 - the options of sentence-transformers' function
    anchors: Any,
    positives: Any,
    corpus: Any = None,
    *,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling: Literal["top", "random"] = "top",
    seed: int | None = None,
    rescore: Rescore | None = None,
    score: Score = "cosine",
    threads: int | None = None,
    chunk_size: int | None = None,
) -> list[list[Ranked]]:
    """Choose for every anchor what is like it in a corpus, but is none of its positives: the most alike first.

    As sentence-transformers' `util.mine_hard_negatives`, over vectors. Equal rows are one text: an anchor that comes
    several times has all their positives, and a corpus' copy of a positive is that positive. An anchor gets fewer than
    `num_negatives` where no more are within the limits.

    Args:
        anchors: (A, D).
        positives: (A, D), what belongs to each anchor.
        corpus: (N, D), where negatives come from beside all positives; None for these alone. Indices count the rows of
            the corpus, then those of `positives`; of equal rows the first stands for all. An anchor that is in it may
            be chosen itself, unless `max_score` keeps it out.
        range_min: Leave out so many of the best candidates.
        range_max: Look at so many of the best; None for as many as should suffice.
        max_score: Refuse what scores more.
        min_score: Refuse what scores less.
        absolute_margin: Refuse what scores more than the anchor's worst positive less this.
        relative_margin: Refuse what scores more than the anchor's worst positive less this share of it.
        num_negatives: How many each anchor gets.
        sampling: Of what is left take the best ("top"), or any ("random").
        seed: Makes the random choice repeatable.
        rescore: A better judge, such as a cross-encoder. It is called with an anchor's index and a list of candidates'
            indices and returns their scores, which then count instead, for positives too.
        score: "cosine", or "dot" for the vectors as they are.
        threads: How many compute; None for as many as a model uses.
        chunk_size: The most vectors that are looked at together; None lets a piece take 16 MiB.

    Raises:
        InputError: A value is NaN or infinite, sizes differ, or the options contradict each other.
    """
    mine = _Miner(anchors, positives, corpus, comparer(score, threads, chunk_size), rescore)
    limits = _Limits(
        *(
            None if value is None else number(value, name)
            for name, value in (
                ("max_score", max_score),
                ("min_score", min_score),
                ("absolute_margin", absolute_margin),
                ("relative_margin", relative_margin),
            )
        )
    )
    wanted, skipped = count(num_negatives, "num_negatives"), natural(range_min, "range_min") or 0
    looked_at = whole_number(range_max, "range_max")
    if looked_at is None:
        spare = limits.to_positives or max_score is not None or (rescore is not None and min_score is not None)
        looked_at = skipped + wanted * (_SPARE if spare else 1) + mine.most_positives
    elif wanted > looked_at - skipped:
        raise InputError(
            f"range_max {looked_at} less range_min {skipped} leaves no {wanted} candidates for num_negatives {wanted}; "
            "raise range_max, or lower one of the others"
        )
    random = one_of(sampling, "sampling", ("top", "random")) == "random"
    return mine(_Choice(wanted, skipped, looked_at, np.random.default_rng(seed) if random else None), limits)


@dataclass(frozen=True)
class _Limits:
    """Which scores are refused; margins are to the worst of an anchor's positives."""

    max_score: float | None
    min_score: float | None
    absolute_margin: float | None
    relative_margin: float | None

    @property
    def to_positives(self) -> bool:
        """Whether positives' scores matter."""
        return self.absolute_margin is not None or self.relative_margin is not None

    def allow(self, scores: FloatArray, worst: np.float32) -> npt.NDArray[np.bool_]:
        """Which scores are within the limits; minus infinity never is."""
        allowed = scores > -np.inf
        if self.absolute_margin is not None:
            allowed &= scores + self.absolute_margin <= worst
        if self.relative_margin is not None:  # a share of its size: below it where it is negative too
            allowed &= scores <= worst - abs(worst) * self.relative_margin
        if self.max_score is not None:
            allowed &= scores <= self.max_score
        if self.min_score is not None:
            allowed &= scores >= self.min_score
        return allowed


@dataclass(frozen=True)
class _Choice:
    """Which of the allowed candidates are taken."""

    wanted: int
    range_min: int
    range_max: int
    generator: np.random.Generator | None

    def take(self, places: Indices) -> Indices:
        """Some of the places, which are in order of their scores, in the same order."""
        places = places[self.range_min : self.range_max]
        if self.generator is None or len(places) <= self.wanted:
            return places[: self.wanted]
        return places[np.sort(self.generator.choice(len(places), self.wanted, replace=False))]


class _Miner:
    """Anchors, positives and corpus, equal rows told."""

    def __init__(self, anchors: Any, positives: Any, corpus: Any, compare: Comparer, rescore: Rescore | None) -> None:
        self._anchors, self._positives = Vectors(anchors, "anchors"), Vectors(positives, "positives")
        if len(self._anchors) != len(self._positives):
            raise InputError(
                f"there are {len(self._anchors)} anchors and {len(self._positives)} positives; pass one for each"
            )
        self._corpora = [self._positives] if corpus is None else [Vectors(corpus, "corpus"), self._positives]
        self._compare, self._rescore = compare, rescore
        self._same = _first_equals([self._anchors])[0]  # (A,) which anchor each is
        self._numbers = _first_equals(self._corpora)
        self.most_positives = int(np.bincount(self._same).max(initial=0))

    def __call__(self, choice: _Choice, limits: _Limits) -> list[list[Ranked]]:
        """Choose for every anchor, once for equal ones."""
        own = _group(self._same, self._numbers[-1])
        scores, indices = self._candidates(np.fromiter(own, np.int64, len(own)), choice.range_max + self.most_positives)
        worst = self._worst_positives() if limits.to_positives and self._rescore is None else None
        chosen: dict[int, list[Ranked]] = {}
        for (anchor, positives), row, candidates in zip(own.items(), scores, indices, strict=True):
            row = self._judge(anchor, candidates, row)
            row[np.isin(candidates, positives)] = -np.inf
            order = np.argsort(-row, kind="stable")
            limit = np.float32(np.inf)
            if limits.to_positives:
                limit = worst[anchor] if worst is not None else self._judge(anchor, np.array(positives), row).min()
            taken = choice.take(order[limits.allow(row[order], limit)])
            chosen[anchor] = [Ranked(int(candidates[place]), float(row[place])) for place in taken]
        return [list(chosen[anchor]) for anchor in self._same.tolist()]

    def _candidates(self, anchors: Indices, top_k: int) -> tuple[FloatArray, Indices]:
        """The best of all corpora for some anchors, each row that equals an earlier one left out."""
        scores, indices, total = [], [], 0
        for vectors, numbers in zip(self._corpora, self._numbers, strict=True):
            firsts = np.flatnonzero(numbers == np.arange(total, total + len(vectors)))
            different = vectors if len(firsts) == len(vectors) else vectors.select(firsts)
            found = self._compare.nearest(self._anchors.select(anchors), different, top_k)
            scores.append(found[0])
            indices.append(firsts[found[1]] + total)
            total += len(vectors)
        all_scores, all_indices = np.concatenate(scores, axis=1), np.concatenate(indices, axis=1)
        best = np.lexsort((all_indices, -all_scores))[:, :top_k]
        return np.take_along_axis(all_scores, best, axis=1), np.take_along_axis(all_indices, best, axis=1)

    def _worst_positives(self) -> FloatArray:
        """(A,) the lowest score of the positives of each anchor that is the first of its equals."""
        worst = np.full(len(self._anchors), np.inf, np.float32)
        np.minimum.at(worst, self._same, self._compare.pairwise(self._anchors, self._positives))
        return worst

    def _judge(self, anchor: int, candidates: Indices, scores: FloatArray) -> FloatArray:
        """The candidates' scores, or what `rescore` says instead."""
        if self._rescore is None:
            return scores
        said = np.asarray(self._rescore(anchor, candidates.tolist()), np.float32)
        if said.shape != candidates.shape or not np.isfinite(said).all():
            raise InputError(
                f"rescore gave {shown(said)} for {len(candidates)} candidates of anchor {anchor}; it must return one "
                "finite score for each"
            )
        result: FloatArray = said.copy()
        return result


def _first_equals(sets: Sequence[Vectors]) -> list[Indices]:
    """For every row the number of the first row with its values; the sets are numbered one after the other."""
    seen: dict[bytes, int] = {}
    result, total = [], 0
    for vectors in sets:
        numbers = np.empty(len(vectors), np.int64)
        for begin in range(0, len(vectors), _ROWS):
            rows = vectors.rows(slice(begin, begin + _ROWS)) + np.float32(0)  # -0 becomes 0, which it equals
            for place, row in enumerate(rows, begin):
                numbers[place] = seen.setdefault(blake2b(row, digest_size=16).digest(), total + place)
        result.append(numbers)
        total += len(vectors)
    return result


def _group(keys: Indices, values: Indices) -> dict[int, list[int]]:
    """The different values of each key; keys and values in the order in which they come first."""
    groups: dict[int, dict[int, None]] = {}
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        groups.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in groups.items()}
