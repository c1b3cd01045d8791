"""A scheduler with plans made by hand and a clock that only computing moves, for tests of whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from bothways.server import jobs as jobs_module
from bothways.server import scheduler as scheduler_module
from bothways.server.jobs import Batch, Job, Lane
from bothways.server.scheduler import Scheduler
from bothways.tasks.plan import Computed, Plan

#: Tokens a second of the made-up clock. A turn is 10 tokens then; a batch has 20 of large jobs beside small ones, 500
#: of large ones alone, and 250 of small ones.
RATE = 5000.0
PATIENCE = 20


@dataclass(frozen=True)
class Seq:
    """A sequence that is only a number and a length."""

    value: Any
    tokens: int = 10
    truncated: bool = False

    def __len__(self) -> int:
        return self.tokens


class Run:
    """A scheduler, and what it did.

    Attributes:
        batches: For each batch, its jobs and how many sequences of each.
        seen: The values of each batch that was computed.
        finishes: How many texts were finished at once.
    """

    def __init__(self, batch_tokens: int = 1000) -> None:
        self.batches: list[dict[Job, int]] = []
        self.seen: list[list[Any]] = []
        self.finishes: list[int] = []
        self.clock = 0.0
        self.gate = threading.Event()
        self.ended: dict[Job, threading.Event] = {}
        self.scheduler = Scheduler(batch_tokens, self.observe)

    def observe(self, batch: Batch) -> None:
        self.batches.append({job: part.stop - part.start for job, part in batch.parts.items()})

    def compute(self, sequences: list[Any]) -> list[Any]:
        self.seen.append([sequence.value for sequence in sequences])
        self.clock += sum(map(len, sequences)) / RATE
        return [sequence.value for sequence in sequences]

    def finish(self, texts: list[Computed[Any]]) -> list[Any]:
        self.finishes.append(len(texts))
        return [(text.text, text.rows) for text in texts]

    def plan(self, **steps: Any) -> Plan[Any, Any]:
        made = {"compute": self.compute, "finish": self.finish, "group": "group", "max_tokens": 512, **steps}
        return Plan(tokenize=lambda texts, first: [[Seq(text)] for text in texts], **made)

    def submit(
        self, plan: Plan[Any, Any], groups: list[list[Seq]], *, render: Any = None, kind: type[Job] = Job
    ) -> Job:
        """Queue a job whose texts are numbered."""
        ended = threading.Event()
        texts = list(range(len(groups)))
        render = render or (lambda result: result)
        job = kind(Lane("model", plan.group), plan, texts, groups, render, lambda job: ended.set())  # type: ignore[arg-type]
        self.ended[job] = ended
        self.scheduler.submit(job)
        return job

    def shut(self) -> Job:
        """Keep the engine thread busy until the gate is opened, so that jobs are queued together."""
        entered = threading.Event()

        def compute(sequences: list[Any]) -> list[Any]:
            entered.set()
            assert self.gate.wait(PATIENCE)
            return [None] * len(sequences)

        job = self.submit(self.plan(compute=compute, group="shut"), [[Seq("shut", 1)]])
        assert entered.wait(PATIENCE)
        return job

    def wait(self, *jobs: Job) -> None:
        self.gate.set()
        for job in jobs:
            assert self.ended[job].wait(PATIENCE), "a job did not end"

    def wait_until(self, true: Callable[[], bool]) -> None:
        for _ in range(PATIENCE * 200):
            if true():
                return
            threading.Event().wait(0.005)
        raise AssertionError("it did not come about")

    def batches_until(self, job: Job) -> int:
        """In how many batches after the shut one a job was done."""
        with_it = [n for n, batch in enumerate(self.batches) if job in batch]
        return with_it[-1] + 1 - sum(1 for batch in self.batches if any(j.lane.group == "shut" for j in batch))


@contextmanager
def making_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Makes runs, whose schedulers are stopped in the end."""
    runs: list[Run] = []
    clock = SimpleNamespace(perf_counter=lambda: runs[0].clock if runs else 0.0)
    monkeypatch.setattr(scheduler_module, "time", clock)
    monkeypatch.setattr(jobs_module, "time", clock)

    def make(**options: Any) -> Run:
        runs.append(Run(**options))
        return runs[-1]

    yield make
    for run in runs:
        run.gate.set()
        run.scheduler.stop()


def one_each(count: int, name: str = "", tokens: int = 10) -> list[list[Seq]]:
    return [[Seq(f"{name}{n}", tokens)] for n in range(count)]


def right(job: Job, groups: list[list[Seq]]) -> None:
    assert job.error is None
    assert job.results == [(n, [sequence.value for sequence in group]) for n, group in enumerate(groups)]
