"""A call of a task, ready to be carried out: how texts become sequences, what is computed, and what is made of that.

Whoever moves texts through a plan decides how they are batched: `carry_out` here, in input order, for one caller; a
server, which fills batches with sequences of many callers. Results are the same bits either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from bothways import stream
from bothways.tasks.report import Progress, Report
from bothways.tokens import Sequence

__all__ = ["Computed", "Plan", "carry_out"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Next = TypeVar("_Next")
_Other = TypeVar("_Other")


@dataclass(eq=False, slots=True)  # not frozen: one is made for every text, and that would take three times as long
class Computed(Generic[_In]):
    """A text on its way through a plan, computed.

    Attributes:
        number: Which text of the call it is, for messages.
        text: The text as the plan takes it.
        sequences: The text's sequences: itself, its windows, or its pairs with something else.
        rows: For each sequence what `Plan.compute` gave.
    """

    number: int
    text: _In
    sequences: list[Sequence]
    rows: list[Any]


@dataclass(frozen=True, eq=False)
class Plan(Generic[_In, _Out]):
    """One call's options, checked, as three steps. Any thread may take any of them, and many at once.

    Attributes:
        tokenize: (texts, number of the first) -> each text's sequences, at least one.
        compute: Sequences of any number of texts, packed into one batch -> what is wanted of each, by its place among
            them. A sequence's result never depends on the others.
        finish: Computed texts -> their results. Each text's result never depends on the others.
        group: Plans of one `Encoder` with equal groups have the same `compute`, so their sequences may share a batch.
        max_tokens: The most tokens of a sequence, for messages.
        advice: What else to do about long texts than to refuse them, for messages.
        weight: How long a text is, in characters that are tokenized for it.
    """

    tokenize: Callable[[list[_In], int], list[list[Sequence]]]
    compute: Callable[[list[Sequence]], Any]
    finish: Callable[[list[Computed[_In]]], list[_Out]]
    group: Hashable
    max_tokens: int
    advice: str = ""
    weight: Callable[[_In], int] = stream.characters

    def then(self, step: Callable[[_Out], _Next]) -> Plan[_In, _Next]:
        """The same with something made of each text's result."""

        def finish(texts: list[Computed[_In]]) -> list[_Next]:
            return [step(result) for result in self.finish(texts)]

        return replace(cast("Plan[_In, _Next]", self), finish=finish)

    def taking(self, read: Callable[[_Other], _In]) -> Plan[_Other, _Out]:
        """The same for texts that have to be read first, as what `tokenize` takes; `finish` has them as they were."""

        def tokenize(texts: list[_Other], first: int) -> list[list[Sequence]]:
            return self.tokenize([read(text) for text in texts], first)

        def weight(text: _Other) -> int:
            return self.weight(read(text))

        return replace(cast("Plan[_Other, _Out]", self), tokenize=tokenize, weight=weight)


def carry_out(
    plan: Plan[_In, _Out],
    texts: Iterable[_In],
    *,
    batch_tokens: int = stream.BATCH_TOKENS,
    progress: Progress | None = None,
) -> Iterator[_Out]:
    """Yield every text's result, in input order.

    A text's failure is raised after the results of all texts before it.

    Args:
        plan: What becomes of a text.
        texts: Read as they are computed, a bounded way ahead.
        batch_tokens: The most tokens to compute at once.
        progress: Called after each batch with the texts done, tokens computed and texts truncated so far; without it
            what was cut is logged in the end.
    """
    report = Report(progress, plan.max_tokens, plan.advice)
    # Texts and their sequences: noted while tokenizing, so always before the first of these arrives below.
    ahead: deque[tuple[_In, list[Sequence]]] = deque()

    def tokenize(chunk: list[_In], first: int) -> list[Sequence]:
        groups = plan.tokenize(chunk, first)
        ahead.extend(zip(chunk, groups, strict=True))
        return [sequence for group in groups for sequence in group]

    number = truncated = 0
    rows: list[Any] = []
    batches = stream.run(texts, tokenize, plan.compute, batch_tokens=batch_tokens, weight=plan.weight)
    for batch, computed in batches:
        done: list[Computed[_In]] = []
        cut = 0
        for sequence, row in zip(batch, computed, strict=True):
            rows.append(row)
            truncated += sequence.truncated
            if len(rows) == len(ahead[0][1]):
                done.append(Computed(number, *ahead.popleft(), rows))
                cut += truncated > 0
                rows, number, truncated = [], number + 1, 0
        report.add(len(done), cut, batch)
        yield from _finished(plan, done)
    report.close()


def _finished(plan: Plan[_In, _Out], done: list[Computed[_In]]) -> Iterator[_Out]:
    """Finish texts; if one fails, those before it first."""
    try:
        results = plan.finish(done) if done else []
    except Exception:
        results = []
    else:
        done = []
    yield from results
    for text in done:
        yield from plan.finish([text])
