"""A fast path for WordPiece tokenizers: texts to ids in the native core, for texts that it is certain about.

What becomes of a character is asked of the tokenizer's own normaliser and pre-tokenizer, once for each character that
turns up, so there is no second opinion on Unicode here. Texts with a character whose fate depends on its neighbours, or
with an added token in them, are left to `tokenizers`.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import bothways._native as _native
from bothways.arrays import IntArray

if TYPE_CHECKING:
    import tokenizers

__all__ = ["FastWordPiece"]

_Units: TypeAlias = list[tuple[str, str]]

# In characters; the core keeps room for a word of any length that a tokenizer may have pieces for. BERT's limit is 100.
_LONGEST_WORD = 10_000


class FastWordPiece:
    """Single texts to ids, identical to `tokenizers`; safe to use from many threads at once.

    `for_tokenizer` makes one where the tokenizer is of the kind.
    """

    def __init__(self, raw: tokenizers.Tokenizer, before: list[int], after: list[int]) -> None:
        """Read the vocabulary; `before` and `after` are the special tokens around a text."""
        self.num_special = len(before) + len(after)
        self._text = slice(len(before), -len(after) or None)  # of a text's ids
        self._normalizer, self._pre_tokenizer = raw.normalizer, raw.pre_tokenizer
        self._pieces = _native.WordPiece(
            raw.get_vocab(with_added_tokens=False),
            prefix=raw.model.continuing_subword_prefix,
            unknown=raw.model.token_to_id(raw.model.unk_token),
            longest_word=raw.model.max_input_chars_per_word,
            added=[token.content for token in raw.get_added_tokens_decoder().values()],
            before=before,
            after=after,
        )

    @classmethod
    def for_tokenizer(cls, raw: tokenizers.Tokenizer) -> FastWordPiece | None:
        """Make one, or None where the tokenizer does anything but what this class knows of."""
        from tokenizers import models, normalizers, pre_tokenizers

        steps: Any = raw.normalizer
        if not isinstance(steps, normalizers.Sequence):
            steps = [steps]
        if not (
            isinstance(raw.model, models.WordPiece)
            and all(isinstance(step, normalizers.BertNormalizer | normalizers.Lowercase) for step in steps)
            and isinstance(raw.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
            and raw.model.token_to_id(raw.model.unk_token) is not None
            and 1 <= raw.model.max_input_chars_per_word <= _LONGEST_WORD
            and raw.truncation is None
            and raw.padding is None
            and not any(token.normalized for token in raw.get_added_tokens_decoder().values())
        ):
            return None
        around = _special_tokens(raw)
        return None if around is None else cls(raw, *around)

    def encode(self, texts: list[str], limit: int) -> list[tuple[IntArray, int] | None]:
        """Tokenize texts, each cut to `limit` tokens, special ones included; `limit` leaves room for at least one more.

        Returns:
            For each text its ids, (n,), and how many tokens were cut off; None for a text left to `tokenizers`.
        """
        found = self._encode(texts, limit)
        return [each and (each[0], each[1] - len(each[0])) for each in found]

    def encode_halves(self, texts: list[str], limit: int) -> list[tuple[IntArray, int] | None]:
        """Tokenize texts without special tokens.

        Returns:
            For each text its ids, the first `limit` of them, and how many it has in all; None for a text left to
            `tokenizers`.
        """
        found = self._encode(texts, limit + self.num_special)
        return [each and (each[0][self._text], each[1] - self.num_special) for each in found]

    def _encode(self, texts: list[str], limit: int) -> list[tuple[IntArray, int] | None]:
        """For each text its ids and how many tokens it has, special ones included."""
        held = tuple(texts)
        ids, ends, counts, unfamiliar = self._pieces.encode(held, limit)
        if unfamiliar:
            for character in unfamiliar:
                self._pieces.teach(character, self._units(chr(character)))
            ids, ends, counts, _ = self._pieces.encode(held, limit)
        found: list[tuple[IntArray, int] | None] = []
        begin = 0
        for end, count in zip(ends, counts, strict=True):
            found.append(None if count < 0 else (ids[begin:end], count))
            begin = end
        return found

    def _units(self, character: str) -> _Units | None:
        """What becomes of a character, as `WordPiece.teach` takes it, or None where that depends on its neighbours."""
        if "\ud800" <= character <= "\udfff":
            return None  # not a character: no tokenizer takes it
        units: _Units = []
        for each in self._normalizer.normalize_str(character):
            # The normaliser may decompose a text, which puts marks that follow each other in order. Most marks are then
            # stripped; those that stay, and characters newer than Python's tables, could be among the moved.
            if unicodedata.combining(each) or unicodedata.category(each) == "Cn":
                return None
            words = [word for word, _ in self._pre_tokenizer.pre_tokenize_str(f"a{each}a")]
            places = {("a", "a"): "space", ("a", each, "a"): "alone", (f"a{each}a",): "word"}
            place = places.get(tuple(words))
            if place is None:
                return None
            units.append((each, place))
        return units


def _special_tokens(raw: tokenizers.Tokenizer) -> tuple[list[int], list[int]] | None:
    """The ids that are put before and behind every single text, or None where that is not what happens."""
    encoding = raw.encode("a")
    inside = np.array([part is not None for part in encoding.sequence_ids])
    places = np.flatnonzero(inside)
    once = len(places) == len(raw.encode("a", add_special_tokens=False)) > 0
    if not once or not inside[places[0] : places[-1] + 1].all() or any(encoding.type_ids):
        return None
    return encoding.ids[: places[0]], encoding.ids[places[-1] + 1 :]
