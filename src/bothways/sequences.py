"""The tokens of one text, what an engine's batches are packed of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from bothways.arrays import IntArray
from bothways.errors import InputError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Sequence", "Unpacked", "parts_of", "select"]

_T = TypeVar("_T")
_Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """The tokens of one text or pair, special tokens included; n of them.

    Attributes:
        ids: (n,) rows of the word table.
        token_types: (n,) rows of the token type table.
        truncated: How many of the text's tokens were cut off.
        keys: How many tokens, the first ones, are seen by all; the others see these and are seen by none, not even by
            themselves. None where all tokens see each other.
    """

    ids: IntArray
    token_types: IntArray
    truncated: int = 0
    _source: tokenizers.Encoding | Unpacked | None = field(default=None, repr=False)
    _kept: _Indices | None = field(default=None, repr=False)
    keys: int | None = None

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.ids)

    @property
    def tokens(self) -> list[str]:
        """Every token as the vocabulary spells it."""
        return self._own(self._origin.tokens)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """(n, 2) where each token starts and ends in its text, in code points; special tokens have (0, 0)."""
        return np.array(self._own(self._origin.offsets), np.int64).reshape(-1, 2)

    @property
    def parts(self) -> npt.NDArray[np.int8]:
        """(n,) which text of a pair each token comes from, 0 or 1; -1 for the special tokens put around them."""
        return _numbers(self._own(self._origin.sequence_ids), np.int8)

    @property
    def words(self) -> npt.NDArray[np.int64]:
        """(n,) which of its text's words, as the tokenizer splits them, each token is of; -1 for special tokens."""
        return _numbers(self._own(self._origin.word_ids), np.int64)

    @property
    def places(self) -> _Indices:
        """(n,) where each token stands among all of its text, which a window shows a piece of."""
        return np.arange(len(self)) if self._kept is None else self._kept

    def only(self, chosen: npt.NDArray[np.bool_]) -> Sequence:
        """The same without the tokens that are not chosen, (n,)."""
        kept = None if self._source is None else self.places[chosen]
        return replace(self, ids=self.ids[chosen], token_types=self.token_types[chosen], _kept=kept)

    def _own(self, values: list[_T]) -> list[_T]:
        """Of what the whole text has for every token, what is of these."""
        return values if self._kept is None else [values[i] for i in self._kept]

    @property
    def _origin(self) -> tokenizers.Encoding | Unpacked:
        if self._source is None:
            raise InputError("this sequence knows its ids alone and no text; use Tokenizer.tokenize with spans=True")
        return self._source


class Unpacked:
    """An encoding whose lists are made once, for the many windows over one long text."""

    def __init__(self, encoding: tokenizers.Encoding) -> None:
        """Unpack nothing until it is asked for."""
        self._encoding = encoding

    @cached_property
    def tokens(self) -> list[str]:
        """Every token as the vocabulary spells it."""
        return self._encoding.tokens

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """Where each token starts and ends."""
        return self._encoding.offsets

    @cached_property
    def sequence_ids(self) -> list[int | None]:
        """Which text of a pair each token is of; None for special ones."""
        return self._encoding.sequence_ids

    @cached_property
    def word_ids(self) -> list[int | None]:
        """Which word each token is of; None for special ones."""
        return self._encoding.word_ids


def select(whole: Sequence, source: tokenizers.Encoding | Unpacked | None, kept: _Indices, truncated: int) -> Sequence:
    """The sequence of the tokens at `kept`, put in order."""
    kept = np.sort(kept)
    return Sequence(whole.ids[kept], whole.token_types[kept], truncated, source, kept)


def parts_of(encoding: tokenizers.Encoding) -> npt.NDArray[np.int8]:
    """(n,) which text of a pair each token comes from, 0 or 1; -1 for the special tokens put around them."""
    return _numbers(encoding.sequence_ids, np.int8)


def _numbers(values: list[int | None], dtype: type) -> npt.NDArray[Any]:
    return np.array([-1 if value is None else value for value in values], dtype)
