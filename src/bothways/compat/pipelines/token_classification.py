"""The pipeline "token-classification", also known as "ner"."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bothways.compat.pipelines.base import Pipeline
from bothways.tasks.inputs import shown
from bothways.tasks.spans import Group, Scheme, TextTokens, label_groups
from bothways.tasks.tag import TextOrWords, score_tokens

__all__ = ["TokenClassificationPipeline"]

_AGGREGATIONS = ("none", "simple", "first", "average", "max")


class TokenClassificationPipeline(Pipeline):
    """Texts to their labelled tokens, or groups of tokens: a list of dicts for each.

    `aggregation_strategy` is "none", "simple", "first", "average" or "max". Texts are cut to what the model reads,
    unless `stride` is given: then they are read in windows that share so many tokens. With `is_split_into_words` a
    text is a list of words, and offsets are in the words joined by `delimiter`.
    """

    task = "token-classification"

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Label the tokens of a text, a list of texts, or a stream."""
        if inputs is None or (isinstance(inputs, list | tuple) and not inputs):
            raise ValueError("At least one input is required.")
        split = {**self._options, **options}.get("is_split_into_words")
        if split and isinstance(inputs, list) and not all(isinstance(text, list) for text in inputs):
            inputs = [inputs]
        return super().__call__(inputs, **options)

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        aggregation_strategy: Any = None,
        ignore_labels: Collection[str] | None = None,
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str | None = None,
    ) -> Iterator[Any]:
        scorer = self.model._scorer("tag")
        aggregation = _read_aggregation(aggregation_strategy)
        _check_stride(stride, aggregation, self.tokenizer.max_tokens)
        ignored = ("O",) if ignore_labels is None else tuple(ignore_labels)
        scheme = Scheme(scorer.spec.labels)
        limits = self.model._limits(True, None)
        plan = score_tokens(scorer, limits, window=stride is not None, stride=stride)
        texts = (_read_text(text, bool(is_split_into_words)) for text in inputs)
        for tokens in self.model._carry_out(plan, texts, None):
            if tokens.words is not None and delimiter not in (None, " "):
                tokens = _joined_by(tokens, str(delimiter))
            yield [
                self._entity(tokens, group, aggregation) for group in label_groups(tokens, scheme, aggregation, ignored)
            ]

    def _entity(self, tokens: TextTokens, group: Group, aggregation: str) -> dict[str, Any]:
        # np.float64, as callers may ask it for .item(), which transformers' scores have, and yet it is a float.
        score = np.float64(group.score)
        first, last = group.words[0][0], group.words[-1][-1]
        place = {"start": int(tokens.offsets[first, 0]), "end": int(tokens.offsets[last, 1])}
        if aggregation == "none":
            word, index = _spelling(tokens, first), int(tokens.places[first])
            return {"entity": group.label, "score": score, "index": index, "word": word, **place}
        join = self.tokenizer.vocabulary.joined
        words = [[_spelling(tokens, n) for n in word] for word in group.words]
        # Words are spelled one by one and then together, as there, which shows with byte-level tokens.
        pieces = [word[0] for word in words] if aggregation == "simple" else [join(word) for word in words]
        return {"entity_group": group.label, "score": score, "word": join(pieces), **place}


def _spelling(tokens: TextTokens, n: int) -> str:
    """A token as the vocabulary spells it, and one that it can't spell as the text does."""
    if not tokens.unknown[n]:
        return tokens.tokens[n]
    start, end = tokens.offsets[n]
    return tokens.text[start:end]


def _joined_by(tokens: TextTokens, delimiter: str) -> TextTokens:
    """The same tokens in the text that the words make with something else than a space between them."""
    starts = tokens.words or [0]
    ends = [start - 1 for start in starts[1:]] + [len(tokens.text)]
    text = delimiter.join(tokens.text[start:end] for start, end in zip(starts, ends, strict=True))
    number = np.searchsorted(starts, tokens.offsets[:, 0], side="right") - 1  # (n,) which word each token is of
    return replace(tokens, text=text, offsets=tokens.offsets + (number * (len(delimiter) - 1))[:, None])


def _read_aggregation(value: Any) -> str:
    name = getattr(value, "value", "none" if value is None else value)
    if not isinstance(name, str) or name.lower() not in _AGGREGATIONS:
        raise ValueError(f"aggregation_strategy is {shown(value)}; use {', '.join(_AGGREGATIONS)}")
    return name.lower()


def _check_stride(stride: int | None, aggregation: str, limit: int) -> None:
    if stride is None:
        return
    if stride >= limit:
        raise ValueError(f"`stride` must be less than the {limit} tokens that the model reads, special ones included")
    if aggregation == "none":
        raise ValueError("`stride` reads all of a text, which needs an aggregation_strategy other than 'none'")


def _read_text(given: Any, split: bool) -> TextOrWords:
    if split:
        if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
            raise ValueError(f"{shown(given)} is no list of words, which is_split_into_words=True asks for")
        return tuple(given)
    if not isinstance(given, str):
        raise ValueError(f"{shown(given)} is no text; send a string, or words with is_split_into_words=True")
    return given
