"""From a request's texts to its results: tokenized, let in, scheduled, awaited. The event loop's side of the engine."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bothways.server.calls import Call
from bothways.server.jobs import Job, Lane, Render
from bothways.server.limits import Limits
from bothways.server.logs import log
from bothways.server.metrics import Metrics
from bothways.server.models import Model, Models
from bothways.server.results import Results, counted, unique
from bothways.server.scheduler import Scheduler
from bothways.server.settings import Settings
from bothways.server.tracing import NoTracer, Tracer
from bothways.stream import BATCH_TOKENS
from bothways.tasks.plan import Plan
from bothways.tokens import Sequence

__all__ = ["Service", "version"]

# Texts that are so short together are tokenized where they are: to go to another thread takes longer.
_AT_ONCE_CHARACTERS = 600
_AT_ONCE_TEXTS = 8

# What the tokenizing thread takes at once; after it, another request has its turn.
_CHUNK_TEXTS = 64
_CHUNK_CHARACTERS = 16_384

# How often a request that waits for its engine thread to be started again looks for it, in seconds.
_WATCH_ENGINE = 0.2


_KINDS = {"embed": "embed", "classify": "predict", "rerank": "predict"}


class Service:
    """What all routes stand on: the models, the queue, and their limits."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.tracer = tracer or NoTracer()
        self.keys = tuple(key.encode() for key in settings.api_keys)
        self.version = version()
        self.batch_tokens = BATCH_TOKENS
        self.scheduler = Scheduler(BATCH_TOKENS, metrics.batch)
        self.limits = Limits(settings, metrics, self._wait)
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="bothways-tokenize")
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the engine threads; called on the event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """End the threads."""
        if self._watching is not None:
            self._watching.cancel()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        loop = asyncio.get_running_loop()
        ends = (self.scheduler.stop, self.tracer.close)
        await asyncio.gather(*(loop.run_in_executor(None, end) for end in ends))

    async def _watch(self) -> None:
        """Start an engine thread again that has died. Until then `ready` is false."""
        while True:
            await asyncio.sleep(_WATCH_ENGINE)
            self.metrics.oldest.set(self.scheduler.oldest)
            if self.scheduler.alive:
                continue
            await asyncio.sleep(_WATCH_ENGINE)
            self.metrics.restarts.inc()
            try:
                self.scheduler.start()
            except RuntimeError:  # there are too many threads on this machine; it is tried again
                log.exception("an engine thread can't be started")

    @property
    def unready(self) -> str:
        """Why no requests should come here now, or "" where they may."""
        return "" if self.scheduler.alive else "the engine is being started again"

    def _wait(self) -> float:
        """Seconds until what waits now is computed."""
        return self.scheduler.waiting_tokens / max(self.scheduler.rates(), default=1000.0)

    def find(self, call: Call, name: str | None, *tasks: str) -> Model:
        """The model for a request, by the name in its path or body, or by what it asks for; see `Models.find`."""
        model = self.models.find(call.path_model or name, *tasks)
        call.kind = _KINDS.get(tasks[0], "") if tasks else ""
        call.model = model.name
        return model

    def plan(self, model: Model, task: str, **options: Any) -> Plan[Any, Any]:
        """The plan of a call, whose options are within the limits of texts.

        Raises:
            Problem: They are not.
            BothwaysError: An option can't be used, or the model can't do the task.
        """
        self.limits.check_options(task, options)
        return model.plan(task, **options)

    async def run(
        self,
        call: Call,
        model: Model,
        plan: Plan[Any, Any],
        texts: list[Any],
        render: Render,
        *,
        foretell: Callable[[list[int]], int] | None = None,
    ) -> Results:
        """Take texts through a plan; equal ones are computed once.

        Args:
            call: The request.
            model: Whose plan it is.
            plan: What is done.
            texts: What the plan takes.
            render: What the response holds of a result; called outside the event loop.
            foretell: How large the answer is, of texts of such lengths.

        Raises:
            Problem: A limit is passed, time is over, or the client is gone.
            BothwaysError: A text or the model can't be used.
        """
        call.characters += self.limits.check_texts(texts)
        each, places = await call.somewhere(len(texts), lambda: unique(texts))
        groups = await self.tokenize(call, plan, each)

        def check(lengths: list[int]) -> None:
            if foretell is not None:
                self.limits.check_answer(foretell([lengths[n] for n in places]))

        results = await self.compute(call, model, plan, each, groups, render, check=check)
        return counted(call, results.at(places))

    async def compute(
        self,
        call: Call,
        model: Model,
        plan: Plan[Any, Any],
        texts: list[Any],
        groups: list[list[Sequence]],
        render: Render,
        *,
        check: Callable[[list[int]], None] = lambda lengths: None,
    ) -> Results:
        """Compute texts whose sequences are known and reserved; `check` refuses their lengths. All else as in `run`."""
        lengths, truncated = await call.somewhere(len(texts), lambda: _measured(groups))
        call.tokens += sum(lengths)
        if not texts:
            return Results([], [], [])
        check(lengths)
        loop = call.loop
        future: asyncio.Future[None] = loop.create_future()

        def finished(job: Job) -> None:
            loop.call_soon_threadsafe(_settle, future, job)

        lane = Lane(model.name, plan.group)
        job = await call.somewhere(len(texts), lambda: Job(lane, plan, texts, groups, render, finished))
        self.scheduler.submit(job)
        try:
            await call.wait(future)
        finally:
            job.dropped = True
            _add_times(call, job)
        return Results(job.results, lengths, truncated)

    async def tokenize(self, call: Call, plan: Plan[Any, Any], texts: list[Any]) -> list[list[Sequence]]:
        """Turn texts into sequences, in turns with other requests where it takes long; reserve their tokens."""
        begin = time.perf_counter()
        try:
            if len(texts) <= _AT_ONCE_TEXTS and sum(map(plan.weight, texts)) <= _AT_ONCE_CHARACTERS:
                groups = plan.tokenize(texts, 0)
                self.limits.reserve(call, _tokens(groups))
                return groups
            groups = []
            for first, chunk in _chunks(texts, plan.weight):
                done = await call.outside(self._tokenizing, functools.partial(plan.tokenize, chunk, first))
                self.limits.reserve(call, _tokens(done))
                groups += done
            return groups
        finally:
            call.times["tokenization"] = call.times.get("tokenization", 0.0) + time.perf_counter() - begin


def version() -> str:
    """Bothways' own version."""
    import bothways

    return bothways.__version__


def _tokens(groups: list[list[Sequence]]) -> int:
    return sum(len(sequence) for group in groups for sequence in group)


def _measured(groups: list[list[Sequence]]) -> tuple[list[int], list[bool]]:
    """How many tokens each text has, and whether it was cut."""
    return (
        [sum(map(len, group)) for group in groups],
        [any(sequence.truncated for sequence in group) for group in groups],
    )


def _chunks(texts: list[Any], weight: Callable[[Any], int]) -> Iterator[tuple[int, list[Any]]]:
    begin = size = 0
    for end, text in enumerate(texts, 1):
        size += weight(text)
        if end - begin == _CHUNK_TEXTS or size >= _CHUNK_CHARACTERS:
            yield begin, texts[begin:end]
            begin, size = end, 0
    if begin < len(texts):
        yield begin, texts[begin:]


def _settle(future: asyncio.Future[None], job: Job) -> None:
    if future.done():
        return
    if job.error is None:
        future.set_result(None)
    else:
        # A StopIteration can't be raised where somebody awaits.
        stop = isinstance(job.error, StopIteration)
        future.set_exception(RuntimeError(repr(job.error)) if stop else job.error)


def _add_times(call: Call, job: Job) -> None:
    if job.begun:
        call.times["queue"] = call.times.get("queue", 0.0) + job.begun - job.created
        call.times["inference"] = call.times.get("inference", 0.0) + job.computing
