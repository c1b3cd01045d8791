"""Texts to sequences as static embeddings take them: no special tokens around, and model2vec's ways with long texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bothways import tokenizer_files
from bothways.sequences import Sequence
from bothways.spec import Spec
from bothways.tokens import Cut, Text, Tokenizer

if TYPE_CHECKING:
    import tokenizers

__all__ = ["StaticTokenizer"]


class StaticTokenizer(Tokenizer):
    """Turns texts into sequences without special tokens, so an empty text has no token.

    Where only known tokens count (`Spec.static`), a text is first cut to so many characters as the limit has tokens,
    times the length of the vocabulary's median token; tokens past the limit and unknown ones are then left out, as in
    model2vec's StaticModel.encode.
    """

    def __init__(self, raw: tokenizers.Tokenizer, spec: Spec, max_tokens: int) -> None:
        """Wrap a tokenizer that nobody else changes."""
        super().__init__(raw, spec, max_tokens)
        known_only = spec.static == "known"
        self._unknown = _unknown_id(raw) if known_only else None
        self._token_length = int(np.median([len(token) for token in raw.get_vocab()])) if known_only else None

    @classmethod
    def from_folder(cls, folder: Path, spec: Spec) -> StaticTokenizer:
        """Load tokenizer.json; what else a folder may hold about a tokenizer, static embeddings don't read.

        Raises:
            CheckpointError: It is missing or damaged, or does not fit the table.
        """
        raw, cut = tokenizer_files.build_static(folder)
        tokenizer_files.check_tables(raw, spec, folder)
        own = None if spec.static == "known" else cut  # model2vec sets its own limit instead
        return cls(raw, spec, spec.max_tokens if own is None else min(own, spec.max_tokens))

    def tokenize(
        self,
        texts: Iterable[Text],
        *,
        max_length: int | None = None,
        truncation: Cut = True,
        first: int = 0,
        each: int = 1,
        spans: bool = True,
        keep_second: bool = False,
    ) -> list[Sequence]:
        """Turn texts into sequences, as `Tokenizer.tokenize` does."""
        limit = self._limit(max_length)
        left = truncation == "left"
        cut = [self._cut_characters(text, limit, left) for text in texts]
        heads = [head for head, _ in cut]
        side: Cut = "left" if left else True
        found = super().tokenize(
            heads, max_length=limit, truncation=side, first=first, each=each, spans=spans, keep_second=keep_second
        )
        sequences = []
        for n, ((_, rest), sequence) in enumerate(zip(cut, found, strict=True), first):
            if rest:
                sequence = replace(sequence, truncated=sequence.truncated + len(self.vocabulary.split(rest)))
            if not truncation:
                self._refuse_cut(sequence, n // each, limit)
            sequences.append(self._known(sequence))
        return sequences

    def windows(
        self, text: Text, *, max_length: int | None = None, stride: int | None = 0, number: int = 0
    ) -> list[Sequence]:
        """Cut one text, however long, into sequences, as `Tokenizer.windows` does."""
        found = super().windows(text, max_length=max_length, stride=stride, number=number)
        return [self._known(sequence) for sequence in found]

    def _cut_characters(self, text: Text, limit: int, left: bool) -> tuple[Text, str]:
        """What is tokenized of a text, and what is not."""
        if self._token_length is None or not isinstance(text, str):
            return text, ""
        most = limit * self._token_length
        if left and len(text) > most:
            return text[-most:], text[:-most]
        return text[:most], text[most:]

    def _known(self, sequence: Sequence) -> Sequence:
        if self._unknown is None:
            return sequence
        known = sequence.ids != self._unknown
        return sequence if known.all() else sequence.only(known)


def _unknown_id(raw: tokenizers.Tokenizer) -> int | None:
    """The id that the tokenizer's model itself gives to what it can't spell."""
    if hasattr(raw.model, "unk_token"):
        token = raw.model.unk_token
        return None if token is None else raw.token_to_id(token)
    found: int | None = json.loads(raw.to_str())["model"].get("unk_id")  # a Unigram model shows it nowhere else
    return found
