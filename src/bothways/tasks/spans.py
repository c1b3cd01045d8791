"""From tokens' scores to labelled spans: words, groups of words, and what labels such as B-PER say of them.

n tokens of a text, special ones left out; C labels; W words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["AGGREGATIONS", "Group", "Scheme", "Span", "TextTokens", "label_groups", "label_spans", "trimmed"]

#: How tokens become spans; see `Encoder.tag`.
AGGREGATIONS = ("none", "simple", "first", "average", "max", "word")

_Indices = npt.NDArray[np.intp]
_Scores = npt.NDArray[np.float32]

_PREFIXED = re.compile(r"[A-Z]-.")

# Scripts that put no spaces between words, where letters side by side say nothing about where a word ends.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_JOINER = "\u200d"
# The skin tones, and the letters whose pairs are flags: symbols that belong to the one before.
_SECOND_HALVES = re.compile("[\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff]")


@dataclass(frozen=True)
class Span:
    """A labelled piece of a text, `text[start:end]` in code points; its score is a probability."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, eq=False)
class TextTokens:
    """The tokens of one text.

    Attributes:
        text: The text that the offsets are of.
        offsets: (n, 2) where each token starts and ends.
        scores: (n, C) probabilities.
        tokens: (n) as the vocabulary spells them.
        unknown: (n,) whether the token stands for what the vocabulary can't spell.
        marked: Whether the vocabulary marks tokens that continue a word.
        words: The words' starts in the text where the caller gave words, else None.
        places: (n,) where each token stands among all of the text's, special ones included; empty where nobody asks.
    """

    text: str
    offsets: npt.NDArray[np.int64]
    scores: _Scores
    tokens: list[str]
    unknown: npt.NDArray[np.bool_]
    marked: bool
    words: list[int] | None = None
    places: _Indices = field(default_factory=lambda: np.zeros(0, np.intp))


class Scheme:
    """What a checkpoint's labels say of the tokens that have them.

    B-X begins a span of X, and any other label continues a span of the same label: so transformers reads them. Where
    all labels but O are of IOBES (also E-X, which ends a span, and S-X, one alone) or BILOU (the same as L-X and U-X),
    they are read as that.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        """Read the labels."""
        self.labels = labels
        closing = _closing_letters(labels)
        known = {"B", "I"} | closing
        letters = [label[0] if _PREFIXED.match(label) and label[0] in known else "" for label in labels]
        #: (C) what a label is about: X of B-X.
        self.tags = tuple(label[2:] if letter else label for label, letter in zip(labels, letters, strict=True))
        numbers = {tag: n for n, tag in enumerate(dict.fromkeys(self.tags))}
        self._tag = np.array([numbers[tag] for tag in self.tags], np.intp)  # (C,)
        self._begins = np.array([letter in {"B", *(closing & {"S", "U"})} for letter in letters], bool)  # (C,)
        self._closes = np.array([letter in closing for letter in letters], bool)  # (C,)

    def groups(self, best: _Indices) -> _Indices:
        """Where groups start among the labels (n,) of neighbours."""
        tags = self._tag[best]
        new = (tags[1:] != tags[:-1]) | self._begins[best[1:]] | self._closes[best[:-1]]
        return np.r_[0, 1 + np.flatnonzero(new)] if len(best) else np.zeros(0, np.intp)


def _closing_letters(labels: tuple[str, ...]) -> set[str]:
    """Find the letters of labels that end a span: those of IOBES or of BILOU where all labels are of it, else none."""
    ours = [label for label in labels if label != "O"]
    letters = {label[0] for label in ours}
    for closing in ({"E", "S"}, {"L", "U"}):
        if all(map(_PREFIXED.match, ours)) and letters & closing and letters <= {"B", "I"} | closing:
            return closing
    return set()


@dataclass(frozen=True)
class Group:
    """Neighbouring tokens that have one label.

    Attributes:
        label: What the label is about, as the scheme reads it.
        score: The mean of its words' scores.
        words: The tokens of each of its words, of which each has one token where tokens are not joined to words.
    """

    label: str
    score: float
    words: tuple[range, ...]


def label_spans(tokens: TextTokens, scheme: Scheme, aggregation: str, ignore: Collection[str]) -> Iterator[Span]:
    """Yield a text's spans in order, those labelled with one of `ignore` left out."""
    for group in label_groups(tokens, scheme, aggregation, ignore):
        start, end = int(tokens.offsets[group.words[0][0], 0]), int(tokens.offsets[group.words[-1][-1], 1])
        if aggregation == "word":
            start, end = trimmed(tokens.text, start, end)
            if start == end:
                continue
        yield Span(group.label, group.score, start, end, tokens.text[start:end])


def label_groups(tokens: TextTokens, scheme: Scheme, aggregation: str, ignore: Collection[str]) -> Iterator[Group]:
    """Yield the groups of tokens that spans are made of, in order."""
    if not len(tokens.scores):
        return
    units = _token_units(tokens) if aggregation in ("none", "simple") else _word_units(tokens, aggregation)
    if aggregation == "none":
        starts = np.arange(len(units.best))
        names = scheme.labels
    else:
        starts = scheme.groups(units.best)
        names = scheme.tags
    afters = np.r_[starts[1:], len(units.best)]
    scores = np.add.reduceat(units.scores, starts) / (afters - starts)
    borders = [*units.starts.tolist(), len(tokens.scores)]
    for first, after, score in zip(starts.tolist(), afters.tolist(), scores.tolist(), strict=True):
        label = names[units.best[first]]
        if label not in ignore:
            yield Group(label, score, tuple(range(*borders[n : n + 2]) for n in range(first, after)))


@dataclass(frozen=True, eq=False)
class _Units:
    """What is labelled, tokens or words: (W,) the token that each starts with, its label's number and score."""

    starts: _Indices
    best: _Indices
    scores: _Scores


def _token_units(tokens: TextTokens) -> _Units:
    return _Units(np.arange(len(tokens.scores)), tokens.scores.argmax(axis=1), tokens.scores.max(axis=1))


def _word_units(tokens: TextTokens, aggregation: str) -> _Units:
    """Bring the tokens of each word to one label."""
    starts = np.flatnonzero(~_continues(tokens, aggregation))
    ends = np.r_[starts[1:], len(tokens.scores)]
    if aggregation == "average":
        scores = np.add.reduceat(tokens.scores, starts, axis=0) / (ends - starts)[:, None].astype(np.float32)  # (W, C)
    elif aggregation == "max":
        largest = tokens.scores.max(axis=1)
        scores = tokens.scores[[a + largest[a:b].argmax() for a, b in zip(starts, ends, strict=True)]]
    else:  # a word's first token has its label in training, the others none
        scores = tokens.scores[starts]
    return _Units(starts, scores.argmax(axis=1), scores.max(axis=1))


def _continues(tokens: TextTokens, aggregation: str) -> npt.NDArray[np.bool_]:
    """(n,) whether each token goes on with the word of the one before."""
    if aggregation != "word":
        found = [_is_subword(tokens, n) for n in range(len(tokens.tokens))]
    elif tokens.words is not None:
        number = np.searchsorted(tokens.words, tokens.offsets[:, 0], side="right")
        found = [False, *(number[1:] == number[:-1]).tolist()]
    else:
        found = [n > 0 and _is_same_word(tokens, n) for n in range(len(tokens.tokens))]
    return np.array([False, *found[1:]], bool)


def _is_subword(tokens: TextTokens, n: int) -> bool:
    """Decide as transformers' TokenClassificationPipeline does.

    A vocabulary that marks continuation is known by spellings longer than what they stand for; with any other, tokens
    without a space between them are one word, punctuation included.
    """
    start, end = map(int, tokens.offsets[n])
    if tokens.unknown[n]:
        return False
    if tokens.marked:
        return len(tokens.tokens[n]) != end - start
    return start > 0 and " " not in tokens.text[start - 1 : start + 1]


def _is_same_word(tokens: TextTokens, n: int) -> bool:
    """Decide by the characters at the border of two tokens."""
    before, end, start, after = map(int, tokens.offsets[n - 1 : n + 1].flat)
    if start < end:  # one character in several tokens
        return True
    if start > end or start == after:
        return False
    return before == end or _joins(tokens.text[start - 1], tokens.text[start])


@lru_cache(65536)
def _joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word."""
    if left.isspace() or right.isspace():
        return False
    if left == _JOINER or unicodedata.category(right) in ("Mn", "Mc", "Me", "Cf"):
        return True
    if _SECOND_HALVES.match(right):
        return not left.isalnum()
    return _is_spaced_letter(left) and _is_spaced_letter(right)


def _is_spaced_letter(character: str) -> bool:
    inside = character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
    return inside and not _UNSPACED.match(character)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out the space at the ends, which some tokenizers count to a token."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
