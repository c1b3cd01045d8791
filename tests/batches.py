"""Batches of random ids for tests of engines."""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.batch import TokenBatch, pack
from bothways.spec import Spec
from bothways.tokens import Sequence

LENGTHS = (1, 2, 3, 7, 8, 12, 13, 15, 16)


def make_batch(spec: Spec, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> TokenBatch:
    """Random ids of the given lengths; the padding id never occurs, as in real texts."""
    random = np.random.default_rng(seed)
    sequences = []
    for length in lengths:
        ids = random.integers(2, spec.vocab_size, length).astype(np.int32)
        types = random.integers(0, max(spec.num_token_types, 1), length).astype(np.int32)
        sequences.append(Sequence(ids, types))
    return pack(sequences, spec)


def rows_of(batch: TokenBatch, rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [rows[begin:end] for begin, end in zip(batch.starts, batch.starts[1:], strict=False)]


def select(batch: TokenBatch, numbers: list[int]) -> TokenBatch:
    """The batch of some of a batch's sequences, in the given order."""
    parts = [slice(batch.starts[n], batch.starts[n + 1]) for n in numbers]
    starts = np.concatenate([[0], np.cumsum([part.stop - part.start for part in parts])]).astype(np.int32)
    columns = (batch.ids, batch.positions, batch.token_types)
    return TokenBatch(*(np.concatenate([column[part] for part in parts]) for column in columns), starts)
