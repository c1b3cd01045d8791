"""What all tasks with a head share: texts to sequences, through the network and the head, back to texts in order.

Letters: B sequences of a batch, n one sequence's tokens, H hidden, C scores of a row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bothways import stream
from bothways.arrays import FloatArray, IntArray
from bothways.batch import pack
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Engine, Rows
from bothways.errors import CheckpointError
from bothways.heads import Head, head
from bothways.pooling import pool_batch
from bothways.spec import HeadSpec
from bothways.tasks.report import Progress, Report
from bothways.tokens import Sequence, Text, Tokenizer

__all__ = ["Fold", "Limits", "Pick", "Scored", "Scorer"]


_Text = TypeVar("_Text")

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
        truncation: Cut what is longer; False makes it an error.
        progress: Called after each batch with the texts done, tokens computed and texts truncated so far.
    """

    max_tokens: int
    truncation: bool = True
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """What a head made of one text.

    Attributes:
        number: Which text it is.
        sequences: The text's sequences: itself, its windows, or its pairs with something else.
        scores: For each sequence, (C,) or, of a head that scores all rows, (n, C) or what was picked or kept of them.
    """

    number: int
    sequences: list[Sequence]
    scores: list[npt.NDArray[Any]]


class Scorer:
    """Scores texts with one head of a checkpoint."""

    def __init__(
        self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, batch_tokens: int, kind: str
    ) -> None:
        """Join the parts; the head is loaded when the first batch arrives."""
        self.spec: HeadSpec = checkpoint.spec.heads[kind]
        self.tokenizer = tokenizer
        self._checkpoint = checkpoint
        self._engine = engine
        self._batch_tokens = batch_tokens

    @cached_property
    def _head(self) -> Head:
        return head(self._engine, self._checkpoint, self.spec)

    def score(self, texts: Iterable[Text], limits: Limits, *, pick: Fold | None = None) -> Iterator[Scored]:
        """Score texts and pairs, each as one sequence."""

        def tokenize(chunk: list[Text], first: int) -> list[Sequence]:
            return self.tokenizer.tokenize(
                chunk, max_length=limits.max_tokens, truncation=limits.truncation, first=first, spans=False
            )

        return self.run(texts, tokenize, lambda: 1, limits, pick=pick)

    def score_pieces(
        self,
        texts: Iterable[_Text],
        cut: Callable[[_Text, int], list[Sequence]],
        limits: Limits,
        *,
        pick: Pick | None = None,
        advice: str = "",
    ) -> Iterator[tuple[_Text, Scored]]:
        """Score texts that `cut` makes one or more sequences of, from a text and its number; yield each beside it."""
        # How many sequences each text has: filled while tokenizing, so always before they arrive at the other end.
        sizes: deque[int] = deque()
        ahead: deque[_Text] = deque()

        def read() -> Iterator[_Text]:
            for text in texts:
                ahead.append(text)
                yield text

        def tokenize(chunk: list[Any], first: int) -> list[Sequence]:
            groups = []
            for number, text in enumerate(chunk, first):
                groups.append(cut(text, number))
                time.sleep(0)  # the thread that feeds the engine waits for Python's lock
            sizes.extend(map(len, groups))
            return [sequence for group in groups for sequence in group]

        for scored in self.run(read(), tokenize, sizes.popleft, limits, pick=pick, advice=advice):
            yield ahead.popleft(), scored

    def run(
        self,
        texts: Iterable[Any],
        tokenize: stream.Tokenize,
        size: Callable[[], int],
        limits: Limits,
        *,
        pick: Pick | Fold | None = None,
        advice: str = "",
    ) -> Iterator[Scored]:
        """Score texts that are one or more sequences each.

        Args:
            texts: What `tokenize` understands.
            tokenize: Makes sequences of it.
            size: How many sequences the next text has; asked when its first one arrives.
            limits: How texts are taken.
            pick: What is wanted of a head that takes all rows; None takes all its scores.
            advice: What else to do about long texts than to refuse them, for the warning.

        Raises:
            CheckpointError: Scores are NaN or infinite.
        """
        report = Report(limits.progress, limits.max_tokens, advice)
        sequences: list[Sequence] = []
        scores: list[npt.NDArray[Any]] = []
        number = wanted = 0
        batches = stream.run(texts, tokenize, lambda batch: self._compute(batch, pick), batch_tokens=self._batch_tokens)
        for batch, rows in batches:
            done: list[Scored] = []
            for sequence, row in zip(batch, rows, strict=True):
                wanted = wanted or size()
                sequences.append(sequence)
                scores.append(row)
                if len(sequences) == wanted:
                    done.append(Scored(number, sequences, scores))
                    sequences, scores, number, wanted = [], [], number + 1, 0
            report.add(len(done), sum(any(s.truncated for s in text.sequences) for text in done), batch)
            for text in done:
                _check(text)
                yield text
        report.close()

    def _compute(self, sequences: list[Sequence], pick: Pick | Fold | None) -> list[npt.NDArray[Any]]:
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


def _check(text: Scored) -> None:
    if not all(np.isfinite(scores).all() for scores in text.scores):
        raise CheckpointError(
            f"text {text.number} gets scores that are NaN or infinite; are the checkpoint's weights sound? Fetch it "
            'again, or compute in dtype="float32"'
        )
