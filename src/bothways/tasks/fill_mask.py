"""The task `fill_mask`: tokens that fit where a text has a mask, as transformers' fill-mask pipeline finds them.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError, TaskError
from bothways.heads import softmax
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.scores import Limits, Pick, Scorer, one_by_one
from bothways.tokens import Sequence
from bothways.vocabulary import Vocabulary

__all__ = ["Fill", "best_tokens", "fill_mask", "mask_id", "target_ids"]


@dataclass(frozen=True)
class Fill:
    """A token that fits where a text has a mask.

    Attributes:
        token: The text that the token spells.
        score: Its probability among all of the vocabulary.
        id: Its id.
        mask: Which of the text's masks it is for, from 0.
        text: What the text's tokens spell with this one in place; other masks stay, and special tokens with them.
    """

    token: str
    score: float
    id: int
    mask: int
    text: str


def fill_mask(scorer: Scorer, limits: Limits, top_k: int | None, targets: list[int] | None) -> Plan[str, list[Fill]]:
    """Plan to find for every text, mask after mask, the `top_k` tokens that fit best, of all or of `targets` (ids)."""
    tokenizer = scorer.tokenizer
    spelling, wanted = mask_id(tokenizer.vocabulary)

    def masks(sequence: Sequence) -> npt.NDArray[np.intp]:
        return np.flatnonzero(sequence.ids == wanted)

    def tokenize(texts: list[str], first: int) -> list[list[Sequence]]:
        return one_by_one(cut, texts, first)

    def cut(text: str, number: int) -> list[Sequence]:
        found = tokenizer.tokenize(
            [text], max_length=limits.max_tokens, truncation=limits.truncation, first=number, spans=False
        )
        if not len(masks(found[0])):
            past = f" among the {limits.max_tokens} tokens that are read of it" if found[0].truncated else ""
            raise InputError(f"text {number} has no {spelling}{past}; write {spelling} where a token is missing")
        return found

    def finish(text: Computed[str]) -> list[Fill]:
        return _fills(text, masks(text.sequences[0]), tokenizer.vocabulary)

    pick = Pick(masks, lambda logits: np.stack([best_tokens(row, top_k, targets) for row in logits]))
    group = (top_k, None if targets is None else tuple(targets))
    return scorer.plan(tokenize, finish, limits.max_tokens, pick=pick, group=group)


def _fills(text: Computed[str], places: npt.NDArray[np.intp], vocabulary: Vocabulary) -> list[Fill]:
    ids = text.sequences[0].ids.tolist()
    fills = []
    for mask, (place, best) in enumerate(zip(places.tolist(), text.rows[0], strict=True)):
        for number, score in best.tolist():
            token = int(number)
            spelled = vocabulary.text([*ids[:place], token, *ids[place + 1 :]], special=len(places) > 1)
            fills.append(Fill(vocabulary.text([token], special=True), score, token, mask, spelled))
    return fills


def best_tokens(logits: FloatArray, top_k: int | None, targets: list[int] | None) -> npt.NDArray[np.float64]:
    """Find the ids of the best tokens among logits (V,) and their probabilities: (k, 2), NaN if logits are not finite.

    Equal ones are in the order of their ids. `targets` restrict what is chosen from, not what the probabilities are
    shared among.
    """
    ids = np.arange(len(logits)) if targets is None else np.array(sorted(set(targets)), np.intp)
    count = len(ids) if top_k is None else min(top_k, len(ids))
    if not np.isfinite(logits).all():
        return np.full((count, 2), np.nan)
    # All that are no worse than the last of the best: among equal ones the order decides, not the partition.
    least = np.partition(logits[ids], len(ids) - count)[len(ids) - count]
    ids = ids[logits[ids] >= least]
    best = ids[np.argsort(-logits[ids], kind="stable")][:count]
    return np.stack([best, softmax(logits)[best]], axis=1)


def mask_id(vocabulary: Vocabulary) -> tuple[str, int]:
    """Return the mask's spelling and id.

    Raises:
        TaskError: The tokenizer has none.
    """
    if vocabulary.mask is None:
        raise TaskError(
            "this checkpoint can't fill_mask: its tokenizer names no mask token; add the one that it was trained with "
            'to tokenizer_config.json, e.g. "mask_token": "[MASK]"'
        )
    return vocabulary.mask


def target_ids(targets: Iterable[str], vocabulary: Vocabulary) -> list[int]:
    """Find the ids of tokens by their spelling in the vocabulary, or else in a text.

    A target of several tokens stands for its first one, as in transformers; that is logged.

    Raises:
        InputError: No target has a token.
    """
    found: list[int] = []
    for target in targets:
        exact = vocabulary.id(target)
        ids = [exact] if exact is not None else vocabulary.split(target)
        found += ids[:1]
        if len(ids) != 1:
            _warn(target, vocabulary.token(ids[0]) if ids else None)
    if not found:
        raise InputError("targets has no token of the vocabulary; pass one at least")
    return list(dict.fromkeys(found))


def _warn(target: str, token: str | None) -> None:
    import logging

    what = "no token" if token is None else "several tokens"
    done = "it is left out" if token is None else f"its first one, {token!r}, stands for it"
    logging.getLogger("bothways").warning("the target %r is %s in this vocabulary: %s", target, what, done)
