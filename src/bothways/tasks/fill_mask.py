"""The task `fill_mask`: tokens that fit where a text has a mask, as transformers' fill-mask pipeline finds them.

V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError, TaskError
from bothways.heads import softmax
from bothways.tasks.inputs import shown
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.scores import Limits, Pick, Scorer, one_by_one
from bothways.tokens import Sequence, Tokenizer
from bothways.vocabulary import Vocabulary

__all__ = ["Fill", "best_tokens", "fill_mask", "mask_id", "target_ids", "warn_of"]

#: Decoders that make of each token, whatever its neighbours, one string if it is the first of a text and one if it
#: isn't; as long as the bytes of characters are whole.
_APART = ((), ("WordPiece",), ("Metaspace",), ("ByteLevel",), ("Replace", "ByteFallback", "Fuse"))

#: What stands where bytes make no character: more bytes could have changed that.
_BROKEN = "\ufffd"


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
    apart = _decoders(tokenizer) in _APART
    allowed = None if targets is None else np.unique(np.array(targets, np.intp))

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
        return _fills(text, masks(text.sequences[0]), tokenizer.vocabulary, apart)

    pick = Pick(masks, lambda logits: np.stack([best_tokens(row, top_k, allowed) for row in logits]))
    group = (top_k, None if targets is None else tuple(targets))
    return scorer.plan(tokenize, finish, limits.max_tokens, pick=pick, group=group)


def _fills(text: Computed[str], places: npt.NDArray[np.intp], vocabulary: Vocabulary, apart: bool) -> list[Fill]:
    ids = text.sequences[0].ids.tolist()
    spelling = _Spelling(vocabulary, special=len(places) > 1, apart=apart)
    fills = []
    for mask, (place, best) in enumerate(zip(places.tolist(), text.rows[0], strict=True)):
        tokens = [int(number) for number in best[:, 0].tolist()]
        texts = spelling.texts(ids[:place], tokens, ids[place + 1 :])
        for token, score, spelled in zip(tokens, best[:, 1].tolist(), texts, strict=True):
            fills.append(Fill(spelling.alone(token), score, token, mask, spelled))
    return fills


def _decoders(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The kinds of the decoders that make a text of tokens, one after the other."""
    if tokenizer.decoder is None:
        return ()
    state = json.loads(tokenizer.decoder.__getstate__())
    return tuple(part["type"] for part in state.get("decoders", [state]))


class _Spelling:
    """Spells a sequence again and again with another token in one place, as `Vocabulary.text` does.

    To decode all of it for every token would take as long as tokens times the sequence. Where the decoder allows it,
    what stands around a place is decoded once, beside an anchor: any token that is sure to have a text of its own.
    """

    def __init__(self, vocabulary: Vocabulary, *, special: bool, apart: bool) -> None:
        """`special` tokens are spelled or not; `apart` says whether the decoder takes tokens apart."""
        self._vocabulary = vocabulary
        self._special = special
        self._apart = apart
        self._anchor: int | None = None
        self._alone: dict[int, str] = {}
        self._whole: dict[int, bool] = {}
        self._later: dict[int, str] = {}

    def texts(self, before: list[int], tokens: list[int], after: list[int]) -> list[str]:
        """Spell each of `tokens` between the same two lists of tokens."""
        around = self._around(before, tokens, after) if self._apart else None
        if around is None:
            return [self._text([*before, token, *after]) for token in tokens]
        start, anchor, end = around
        return [
            start + (self.alone(token) if anchor is None else self._behind(anchor, token)) + end
            if self._is_whole(token)
            else self._text([*before, token, *after])
            for token in tokens
        ]

    def alone(self, token: int) -> str:
        """What a token spells by itself, special or not."""
        if token not in self._alone:
            self._alone[token] = self._vocabulary.text([token], special=True)
        return self._alone[token]

    def _around(self, before: list[int], tokens: list[int], after: list[int]) -> tuple[str, int | None, str] | None:
        """What stands before and after a token; between them the anchor, unless the token is the first one spelled."""
        if self._anchor is None:
            self._anchor = next(filter(self._is_whole, tokens), None)
        anchor = self._anchor
        if anchor is None:
            return None
        start = self._text(before)
        opens = not (before if self._special else self._ordinary(before))
        joined = start + (self.alone(anchor) if opens else self._behind(anchor, anchor))
        if start.endswith(_BROKEN) or self._text([*before, anchor]) != joined:
            return None
        return start, None if opens else anchor, self._text([anchor, *after])[len(self.alone(anchor)) :]

    def _ordinary(self, ids: list[int]) -> list[int]:
        return [id for id in ids if self._vocabulary.token(id) not in self._vocabulary.special]

    def _is_whole(self, token: int) -> bool:
        """Whether a token is spelled, and no part of a character, which its neighbours could complete."""
        if token not in self._whole:
            text = self._text([token])
            known = text == self.alone(token) and not text.endswith(_BROKEN)
            self._whole[token] = bool(text) and known and not self._vocabulary.token(token).startswith("<0x")
        return self._whole[token]

    def _behind(self, anchor: int, token: int) -> str:
        """What a token adds to the text of the anchor, always the same one."""
        if token not in self._later:
            self._later[token] = self._text([anchor, token])[len(self.alone(anchor)) :]
        return self._later[token]

    def _text(self, ids: list[int]) -> str:
        return self._vocabulary.text(ids, special=self._special)


def best_tokens(logits: FloatArray, top_k: int | None, targets: npt.NDArray[np.intp] | None) -> npt.NDArray[np.float64]:
    """Find the ids of the best tokens among logits (V,) and their probabilities: (k, 2), NaN if logits are not finite.

    Equal ones are in the order of their ids. `targets`, ids in order, restrict what is chosen from, not what the
    probabilities are shared among.
    """
    ids = np.arange(len(logits)) if targets is None else targets
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


def target_ids(targets: Iterable[str], vocabulary: Vocabulary) -> tuple[list[int], list[str]]:
    """Find the ids of tokens by their spelling in the vocabulary, or else in a text.

    A target of several tokens stands for its first one, as in transformers. Beside the ids comes what there is to say
    of such targets, in their words: to be shown to nobody but who gave them.

    Raises:
        InputError: No target has a token.
    """
    found: list[int] = []
    remarks: list[str] = []
    for target in targets:
        exact = vocabulary.id(target)
        ids = [exact] if exact is not None else vocabulary.split(target)
        found += ids[:1]
        if len(ids) != 1:
            what = "several tokens" if ids else "no token"
            done = f"its first one, {vocabulary.token(ids[0])!r}, stands for it" if ids else "it is left out"
            remarks.append(f"the target {shown(target)} is {what} in this vocabulary: {done}")
    if not found:
        raise InputError("targets has no token of the vocabulary; pass one at least")
    return list(dict.fromkeys(found)), remarks


def warn_of(remarks: list[str]) -> None:
    """Log what there is to say of targets."""
    if not remarks:
        return
    import logging

    for remark in remarks:
        logging.getLogger("bothways").warning("%s", remark)
