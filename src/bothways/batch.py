"""Sequences packed end to end: the form in which every engine takes its work.

No padding and no attention mask exist here; a sequence attends to itself. T tokens, B sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bothways.arrays import IntArray
from bothways.spec import Spec
from bothways.tokens import Sequence

__all__ = ["TokenBatch", "pack", "split"]


@dataclass(frozen=True)
class TokenBatch:
    """Sequences packed end to end.

    Attributes:
        ids: (T,) token ids.
        positions: (T,) rows of the position table.
        token_types: (T,) rows of the token type table.
        starts: (B + 1,) where each sequence begins; the last entry is T.
        keys: (B,) how many tokens of each sequence, its first ones, are seen (`Sequence.keys`); None where all are.
    """

    ids: IntArray
    positions: IntArray
    token_types: IntArray
    starts: IntArray
    keys: IntArray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> IntArray:
        """(B,) tokens in each sequence."""
        lengths: IntArray = np.diff(self.starts)
        return lengths


def pack(sequences: list[Sequence], spec: Spec) -> TokenBatch:
    """Pack sequences into one batch, with the position rows that `spec` gives each token."""
    starts = np.zeros(len(sequences) + 1, np.int32)  # (B + 1,)
    np.cumsum([len(s) for s in sequences], out=starts[1:])
    if not sequences:
        empty = np.zeros(0, np.int32)
        return TokenBatch(empty, empty, empty, starts)
    ids = np.concatenate([s.ids for s in sequences])  # (T,)
    token_types = np.concatenate([s.token_types for s in sequences])  # (T,)
    return TokenBatch(ids, _positions(ids, starts, spec), token_types, starts, _keys(sequences))


def _keys(sequences: list[Sequence]) -> IntArray | None:
    if all(sequence.keys is None for sequence in sequences):
        return None
    return np.array([len(s) if s.keys is None else s.keys for s in sequences], np.int32)  # (B,)


def _positions(ids: IntArray, starts: IntArray, spec: Spec) -> IntArray:
    """Count positions from each sequence's start; RoBERTa's padding token does not count and keeps its own row."""
    if spec.padding_id is None:
        counted: IntArray = np.arange(spec.position_offset, spec.position_offset + len(ids), dtype=np.int32)  # (T,)
        counted -= np.repeat(starts[:-1], np.diff(starts))
        return counted
    real = ids != spec.padding_id  # (T,)
    before = np.concatenate([[0], np.cumsum(real)]).astype(np.int32)  # (T + 1,) counted tokens up to here
    rank = before[:-1] - np.repeat(before[starts[:-1]], np.diff(starts))  # (T,) 0 for a sequence's first
    positions: IntArray = np.where(real, rank + spec.position_offset, spec.padding_id).astype(np.int32)
    return positions


def split(sequences: Iterable[Sequence], batch_tokens: int) -> Iterator[list[Sequence]]:
    """Cut sequences, in order, into lists of at most `batch_tokens` tokens (a longer sequence goes alone)."""
    ready: list[Sequence] = []
    tokens = 0
    for sequence in sequences:
        size = max(len(sequence), 1)  # a sequence without tokens takes room too
        if ready and tokens + size > batch_tokens:
            yield ready
            ready, tokens = [], 0
        ready.append(sequence)
        tokens += size
    if ready:
        yield ready
