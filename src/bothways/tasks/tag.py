"""The task `tag`: the labelled spans of texts of any length. What spans are made of tokens is in spans.py.

n tokens of a text or window, C labels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from bothways.heads import softmax
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.scores import Limits, Scorer, one_by_one
from bothways.tasks.spans import Scheme, Span, TextTokens, label_spans
from bothways.tokens import Sequence
from bothways.vocabulary import Vocabulary

__all__ = ["TagOptions", "TextOrWords", "score_tokens", "tag"]

#: A text, or its words.
TextOrWords: TypeAlias = str | tuple[str, ...]

_ADVICE = 'truncation="window" to read all of them, or '


@dataclass(frozen=True)
class TagOptions:
    """One call's options, checked.

    Attributes:
        aggregation: One of `AGGREGATIONS`.
        window: Read long texts in windows rather than cut them.
        stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
        ignore: Labels that are left out.
    """

    aggregation: str
    window: bool
    stride: int | None
    ignore: Collection[str]


def tag(scorer: Scorer, limits: Limits, options: TagOptions) -> Plan[TextOrWords, list[Span]]:
    """Plan to find every text's spans; words are read as a text with single spaces between them."""
    scheme = Scheme(scorer.spec.labels)
    tokens = score_tokens(scorer, limits, window=options.window, stride=options.stride)
    return tokens.then(lambda text: list(label_spans(text, scheme, options.aggregation, options.ignore)))


def score_tokens(scorer: Scorer, limits: Limits, *, window: bool, stride: int | None) -> Plan[TextOrWords, TextTokens]:
    """Plan to find every text's tokens with their labels' probabilities; `window` and `stride` as in `TagOptions`."""
    tokenizer = scorer.tokenizer

    def tokenize(texts: list[TextOrWords], first: int) -> list[list[Sequence]]:
        return one_by_one(cut, texts, first)

    def cut(text: TextOrWords, number: int) -> list[Sequence]:
        if window:
            return tokenizer.windows(_joined(text), max_length=limits.max_tokens, stride=stride, number=number)
        return tokenizer.tokenize(
            [_joined(text)], max_length=limits.max_tokens, truncation=limits.truncation, first=number
        )

    def finish(text: Computed[TextOrWords]) -> TextTokens:
        given = text.text
        words = None if isinstance(given, str) else [0, *accumulate(len(word) + 1 for word in given[:-1])]
        return join_windows(_joined(given), text, tokenizer.vocabulary, words)

    return scorer.plan(tokenize, finish, limits.max_tokens, advice=_ADVICE)


def join_windows(
    text: str, scored: Computed[Any], vocabulary: Vocabulary, words: list[int] | None = None
) -> TextTokens:
    """Bring windows' scores together, each token's from the window that shows most of what is around it.

    A window's own edges count as edges only where the text goes on. Of two windows as good, the first is taken; so
    spans are those of one pass over the text, and none is there twice or torn apart.
    """
    end = 1 + max(int(window.places[-1]) for window in scored.sequences)
    inside = [window.parts >= 0 for window in scored.sequences]
    places = [window.places[own] for window, own in zip(scored.sequences, inside, strict=True)]
    first = min((int(own[0]) for own in places if len(own)), default=0)
    last = max((int(own[-1]) for own in places if len(own)), default=-1)
    context = np.full(end, -1.0)  # by place: how far the nearer edge is of the window taken so far
    offsets = np.zeros((end, 2), np.int64)
    scores = np.zeros((end, scored.rows[0].shape[-1]), np.float32)
    tokens, ids = [""] * end, np.zeros(end, np.int64)
    for window, own, at, logits in zip(scored.sequences, inside, places, scored.rows, strict=True):
        if not len(at):
            continue
        before = np.inf if at[0] == first else at - at[0]
        after = np.inf if at[-1] == last else at[-1] - at
        room = np.broadcast_to(np.minimum(before, after), at.shape)
        better = room > context[at]
        taken = at[better]
        context[taken] = room[better]
        # float32, as in transformers: where the best scores of a word's tokens both round to 1, the first counts.
        scores[taken] = softmax(logits[own][better])
        offsets[taken] = window.offsets[own][better]
        ids[taken] = window.ids[own][better]
        for place, token in zip(window.places.tolist(), window.tokens, strict=True):
            tokens[place] = token
    kept = np.flatnonzero(context >= 0)
    return TextTokens(
        text,
        offsets[kept],
        scores[kept],
        [tokens[n] for n in kept],
        ids[kept] == (-1 if vocabulary.unknown_id is None else vocabulary.unknown_id),
        vocabulary.marks_continuation,
        words,
        kept,
    )


def _joined(text: TextOrWords) -> str:
    return text if isinstance(text, str) else " ".join(text)
