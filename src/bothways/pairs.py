"""Pairs of texts: how many tokens of each half are kept, and sequences made of halves that were tokenized apart.

So a query is tokenized once for all of its documents, and a label's sentence once for many texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bothways.arrays import IntArray
from bothways.errors import InputError
from bothways.sequences import Sequence, parts_of

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Half", "PairTemplate", "capacity", "kept_sizes"]

#: One half's ids, or the first of them, and how many tokens it has in all.
Half = tuple[IntArray, int]


@dataclass(frozen=True, eq=False)
class PairTemplate:
    """What a tokenizer puts before, between and behind the halves of a pair: special tokens and everybody's types."""

    special: tuple[IntArray, IntArray, IntArray]
    special_types: tuple[IntArray, IntArray, IntArray]
    types: tuple[int, int]

    @classmethod
    def for_tokenizer(cls, raw: tokenizers.Tokenizer) -> PairTemplate | None:
        """Read it off a short pair, or return None where a pair is not its halves with something around them."""
        pair = raw.encode("a", "b")
        ids, types, parts = np.array(pair.ids, np.int32), np.array(pair.type_ids, np.int32), parts_of(pair)
        halves = [np.flatnonzero(parts == part) for part in (0, 1)]
        for half, text in zip(halves, ("a", "b"), strict=True):
            alone = raw.encode(text, add_special_tokens=False).ids
            if not len(half) or ids[half[0] : half[-1] + 1].tolist() != alone or np.ptp(types[half]):
                return None
        (first, last), (start, end) = ((half[0], half[-1] + 1) for half in halves)
        if start < last:
            return None
        around = slice(0, first), slice(last, start), slice(end, len(ids))
        before, between, after = (ids[piece] for piece in around)
        kinds = tuple(types[piece] for piece in around)
        return cls((before, between, after), (kinds[0], kinds[1], kinds[2]), (int(types[first]), int(types[start])))

    @property
    def num_special(self) -> int:
        """How many special tokens a pair has."""
        return sum(map(len, self.special))

    def join(self, first: Half, second: Half, limit: int, *, typed: bool, keep_second: bool, left: bool) -> Sequence:
        """Make a sequence of two halves, of which at least `limit` ids are there if they have so many.

        Args:
            first: The first half.
            second: The second half.
            limit: The most tokens of the sequence, special tokens included.
            typed: Whether the network tells token types apart.
            keep_second: Cut nothing but the first half.
            left: Cut the beginning; all ids of both halves are there.
        """
        sizes = kept_sizes(first[1], second[1], self.num_special, limit, keep_second=keep_second)
        begins = (first[1] - sizes[0], second[1] - sizes[1]) if left else (0, 0)
        a, b = (half[0][at : at + size] for half, at, size in zip((first, second), begins, sizes, strict=True))
        before, between, after = self.special
        ids = np.concatenate([before, a, between, b, after])
        types = np.zeros(len(ids), np.int32)
        if typed:
            before, between, after = self.special_types
            halves = (np.full(len(half), kind, np.int32) for half, kind in zip((a, b), self.types, strict=True))
            np.concatenate([before, next(halves), between, next(halves), after], out=types)
        return Sequence(ids, types, first[1] + second[1] - sum(sizes))


def capacity(limit: int, taken: int, *, half: bool = False) -> int:
    """How many tokens of a text fit into `limit` beside those `taken`: special ones, and a pair's other half.

    Raises:
        InputError: None does.
    """
    if limit <= taken:
        if half:
            raise InputError(
                f"max_length={limit} leaves no room for a text beside the {taken} tokens that a pair's other half (a "
                f"question, a label's sentence) has with the special ones; shorten it, or give {taken + 1} or more if "
                "the model takes as many"
            )
        raise InputError(
            f"max_length={limit} leaves no room for a text beside {taken} special tokens; give at least {taken + 1}"
        )
    return limit - taken


def kept_sizes(first: int, second: int, special: int, limit: int, *, keep_second: bool = False) -> tuple[int, int]:
    """How many of each half's tokens are kept, so that with the special ones they are at most `limit`.

    Raises:
        InputError: There is no room for any.
    """
    if first + second + special <= limit:
        return first, second
    if keep_second:
        return capacity(limit, special + second, half=True), second
    return _longest_first(first, second, capacity(limit, special))


def _longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """How many tokens of each half of a pair to keep: the shorter one whole if it fits in half the room.

    This is the longest_first rule of `tokenizers` (truncate_encodings), which cuts at once rather than token by
    token; an odd token goes to the longer half.
    """
    if a + b <= room:
        return a, b
    short, long = min(a, b), max(a, b)
    long = min(long, max(short, room - short))
    if short + long > room:
        short = room // 2
        long = room - short
    return (short, long) if a <= b else (long, short)
