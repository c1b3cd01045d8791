"""A request's texts on their way through a plan: what is still to compute, and what has been."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bothways.tasks.plan import Computed, Plan
from bothways.tokens import Sequence

__all__ = ["Batch", "Job", "Lane", "Render"]

#: A text's result -> what the response holds of it. Called outside the event loop.
Render = Callable[[Any], Any]


class Lane(NamedTuple):
    """What jobs that may share a batch have in common: the model, and plans with the same `compute`."""

    model: str
    group: Hashable


class Job:
    """The sequences of one request. The scheduler takes them bit by bit and hands results back text by text.

    Attributes:
        lane: Jobs of one lane may share a batch.
        plan: What is done.
        sequences: All texts' sequences, end to end.
        tokens: How many tokens they have.
        taken: How many of them have been handed out.
        results: For each text what was rendered of its result, once `done`.
        error: Why there is none.
        dropped: Nobody waits for it any more.
        attempts: How often a batch of it was lost to the death of an engine thread.
    """

    def __init__(
        self,
        lane: Lane,
        plan: Plan[Any, Any],
        texts: list[Any],
        groups: list[list[Sequence]],
        render: Render,
        finished: Callable[[Job], None],
    ) -> None:
        """`groups` are the texts' sequences; `finished` is called once, from an engine thread."""
        self.lane = lane
        self.plan = plan
        self.sequences = [sequence for group in groups for sequence in group]
        self.lengths = [max(len(sequence), 1) for sequence in self.sequences]
        self.tokens = self.left = sum(self.lengths)
        self.taken = 0
        self.results: list[Any] = [None] * len(texts)
        self.error: BaseException | None = None
        self.dropped = False
        self.attempts = 0
        self.created = time.perf_counter()
        self.begun = 0.0  # when its first batch began
        self.computing = 0.0  # seconds of the batches that it had a share in
        self.render = render
        self._texts = texts
        self._ends = list(itertools.accumulate(map(len, groups)))
        self._rows: list[Any] = []  # of the sequences of texts that are not whole yet
        self._whole = 0  # texts
        self._gone = 0  # their sequences
        self._to_come = len(texts)
        self._finished = finished

    def take(self, tokens: float) -> slice:
        """Hand out the next sequences, at least one, of about so many tokens."""
        begin = self.taken
        room = tokens
        while self.taken < len(self.sequences) and (self.taken == begin or room >= self.lengths[self.taken]):
            room -= self.lengths[self.taken]
            self.left -= self.lengths[self.taken]
            self.taken += 1
        return slice(begin, self.taken)

    def give_back(self, part: slice) -> None:
        """Take back what was handed out last: it was not computed."""
        self.left += sum(self.lengths[part])
        self.taken = part.start

    def whole_texts(self, rows: list[Any]) -> list[Computed[Any]]:
        """Add what was computed of the next sequences; return the texts that are whole now."""
        self._rows += rows
        whole: list[Computed[Any]] = []
        while self._whole < len(self._ends) and self._ends[self._whole] <= self._gone + len(self._rows):
            begin, end = self._gone, self._ends[self._whole]
            own, self._rows = self._rows[: end - begin], self._rows[end - begin :]
            whole.append(Computed(self._whole, self._texts[self._whole], self.sequences[begin:end], own))
            self._gone = end
            self._whole += 1
        return whole

    def fill_in(self, computed: list[Computed[Any]], rendered: list[Any]) -> bool:
        """Keep texts' rendered results; whether these were the last."""
        for text, result in zip(computed, rendered, strict=True):
            self.results[text.number] = result
        self._to_come -= len(computed)
        return self._to_come == 0

    def end(self, error: BaseException | None = None) -> None:
        """Tell whoever waits, once: all results are there, or why not."""
        if self.dropped:
            return
        self.dropped = True
        self.error = error
        self._finished(self)


@dataclass
class Batch:
    """Sequences that are computed together.

    Attributes:
        lane: What all its jobs have in common.
        parts: The jobs, and which of each one's sequences.
        tokens: How many they have together.
        seconds: How long they were computed.
        waited: How long the job that waited longest had to wait for its first batch.
    """

    lane: Lane
    parts: dict[Job, slice] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __len__(self) -> int:
        return sum(part.stop - part.start for part in self.parts.values())
