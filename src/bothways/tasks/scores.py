"""What all tasks with a head share: texts to sequences, through the network and the head, back to texts in order.

Letters: B sequences of a batch, n one sequence's tokens, H hidden, C scores of a row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray, IntArray
from bothways.batch import pack
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Engine, Rows
from bothways.errors import CheckpointError
from bothways.heads import Head, head
from bothways.pooling import pool_batch
from bothways.spec import HeadSpec
from bothways.stream import characters
from bothways.tasks.plan import Computed, Plan
from bothways.tokens import Cut, Sequence, Text, Tokenizer

__all__ = ["Fold", "Limits", "Pick", "Scorer", "one_by_one"]

_Text = TypeVar("_Text")
_Out = TypeVar("_Out")

# Rows whose scores are there at once before little is kept of them: one row's of a vocabulary take up to a megabyte.
_ROWS = 64


@dataclass(frozen=True)
class Pick:
    """What is wanted of a head that takes all rows, where that is not all its scores.

    Attributes:
        rows: The rows of a sequence whose scores are wanted.
        best: Scores (r, C) of some rows -> what is kept of them, (r, ...); NaN where a row's scores are no numbers.
    """

    rows: Callable[[Sequence], npt.NDArray[np.intp]]
    best: Callable[[FloatArray], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Fold:
    """What is wanted of all rows of a sequence together, by a head that takes all rows.

    Attributes:
        add: (what the rows before came to, a row's scores (C,)) -> what they come to with it; may write to the first.
        end: What all rows came to -> what is kept of it.
        begin: The first row's scores -> what it comes to.
    """

    add: Callable[[FloatArray, FloatArray], FloatArray]
    end: Callable[[FloatArray], npt.NDArray[np.float64]]
    begin: Callable[[FloatArray], FloatArray] = np.copy


@dataclass(frozen=True)
class Limits:
    """How a task takes texts.

    Attributes:
        max_tokens: Tokens of a sequence, special tokens included.
        truncation: Cut what is longer, with "left" its beginning; False makes it an error.
    """

    max_tokens: int
    truncation: Cut = True


class Scorer:
    """Scores texts with one head of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, kind: str) -> None:
        """Join the parts; the head is loaded when the first batch arrives."""
        self.spec: HeadSpec = checkpoint.spec.heads[kind]
        self.tokenizer = tokenizer
        self._checkpoint = checkpoint
        self._engine = engine
        self._kind = kind

    @cached_property
    def _head(self) -> Head:
        return head(self._engine, self._checkpoint, self.spec)

    def plan(
        self,
        tokenize: Callable[[list[_Text], int], list[list[Sequence]]],
        finish: Callable[[Computed[_Text]], _Out],
        max_tokens: int,
        *,
        pick: Pick | Fold | None = None,
        group: Hashable = (),
        advice: str = "",
        weight: Callable[[_Text], int] = characters,
    ) -> Plan[_Text, _Out]:
        """Plan a task that is done with the head.

        Args:
            tokenize: As in `Plan`, and so are the arguments that have no line here.
            finish: A text and its sequences' scores -> its result. For each sequence, (C,) or, of a head that scores
                all rows, (n, C) or what was picked or kept of them.
            max_tokens: The most tokens of a sequence.
            pick: What is wanted of a head that takes all rows; None takes all its scores.
            group: What tells this `pick` from others.
            advice: For messages.
            weight: How long a text is.
        """

        def finish_all(texts: list[Computed[_Text]]) -> list[_Out]:
            return [finish(_checked(text)) for text in texts]

        return Plan(
            tokenize=tokenize,
            compute=lambda sequences: self.compute(sequences, pick),
            finish=finish_all,
            group=(self._kind, group),
            max_tokens=max_tokens,
            advice=advice,
            weight=weight,
        )

    def texts(self, limits: Limits, *, pick: Fold | None = None, group: Hashable = ()) -> Plan[Text, npt.NDArray[Any]]:
        """Plan to score texts and pairs, each as one sequence: what `pick` keeps of it, or (C,)."""

        def tokenize(chunk: list[Text], first: int) -> list[list[Sequence]]:
            found = self.tokenizer.tokenize(
                chunk, max_length=limits.max_tokens, truncation=limits.truncation, first=first, spans=False
            )
            return [[sequence] for sequence in found]

        return self.plan(tokenize, lambda text: text.rows[0], limits.max_tokens, pick=pick, group=group)

    def compute(self, sequences: list[Sequence], pick: Pick | Fold | None = None) -> list[npt.NDArray[Any]]:
        """Score sequences, packed into one batch."""
        batch = pack(sequences, self._checkpoint.spec)
        if self.spec.rows != "all":
            one: Rows = "mean" if self.spec.rows == "mean" else "first"
            return list(self._head(self._engine.encode(batch, rows=one).rows))  # B of (C,)
        rows = self._engine.encode(batch).rows  # (T, H)
        if self.spec.late_mean:
            return list(pool_batch(self._head(rows), batch.starts, ("mean",)))  # B of (C,)
        if pick is None:
            return np.split(self._head(rows), batch.starts[1:-1])  # B of (n, C)
        if isinstance(pick, Fold):
            return self._fold(rows, batch.starts[1:], pick)
        wanted = [start + pick.rows(sequence) for start, sequence in zip(batch.starts, sequences, strict=False)]
        rows = rows[np.concatenate(wanted)]
        # Rows of several texts at once: each pass through a vocabulary's weights costs more than computing with them.
        kept = [pick.best(scores) for scores in self._blocks(rows)]
        return np.split(np.concatenate(kept), np.cumsum([len(own) for own in wanted])[:-1])

    def _fold(self, rows: FloatArray, ends: IntArray, fold: Fold) -> list[npt.NDArray[Any]]:
        """Take rows (T, H) block by block to their scores, and these row by row to what their sequence comes to."""
        kept: list[npt.NDArray[Any]] = []
        total: FloatArray | None = None
        for number, scores in enumerate(chain.from_iterable(self._blocks(rows)), 1):
            total = fold.begin(scores) if total is None else fold.add(total, scores)
            if number == ends[len(kept)]:
                kept.append(fold.end(total))
                total = None
        return kept

    def _blocks(self, rows: FloatArray) -> Iterator[FloatArray]:
        """Take rows (T, H) to their scores, some (r, C) at a time, each by a thread of its own a few ahead."""
        blocks = [rows[n : n + _ROWS] for n in range(0, len(rows), _ROWS)]
        if len(blocks) < 2 or self._engine.threads < 2:
            yield from map(self._head, blocks)
            return
        from concurrent.futures import Future, ThreadPoolExecutor

        # The executor belongs to this batch: nothing is shared between callers or inherited by a fork.
        with ThreadPoolExecutor(self._engine.threads, thread_name_prefix="bothways-head") as executor:
            ahead: deque[Future[FloatArray]] = deque()
            for block in blocks:
                if len(ahead) == self._engine.threads:
                    yield ahead.popleft().result()
                ahead.append(executor.submit(self._head, block))
            for scores in ahead:
                yield scores.result()


def one_by_one(cut: Callable[[_Text, int], list[Sequence]], texts: list[_Text], first: int) -> list[list[Sequence]]:
    """Make sequences of texts whose places are kept, which takes long enough that others wait for Python's lock."""
    groups = []
    for number, text in enumerate(texts, first):
        groups.append(cut(text, number))
        time.sleep(0)
    return groups


def _checked(text: Computed[_Text]) -> Computed[_Text]:
    if not all(np.isfinite(scores).all() for scores in text.rows):
        raise CheckpointError(
            f"text {text.number} gets scores that are NaN or infinite; are the checkpoint's weights sound? Fetch it "
            'again, or compute in dtype="float32"'
        )
    return text
