"""From a request's texts to its results: tokenized, let in, scheduled, awaited. The event loop's side of the engine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bothways.server.calls import Call
from bothways.server.jobs import Job, Render
from bothways.server.metrics import Metrics
from bothways.server.models import Model, Models
from bothways.server.problems import Problem
from bothways.server.scheduler import Scheduler
from bothways.server.settings import Settings
from bothways.server.tracing import NoTracer, Tracer
from bothways.stream import BATCH_TOKENS
from bothways.tasks.plan import Plan
from bothways.tokens import Sequence

__all__ = ["Results", "Service"]

# Texts that are so short together are tokenized where they are: to go to another thread takes longer.
_AT_ONCE_CHARACTERS = 600
_AT_ONCE_TEXTS = 8

# What the tokenizing thread takes at once; after it, another request has its turn.
_CHUNK_TEXTS = 64
_CHUNK_CHARACTERS = 16_384

# How often a request that waits for its engine thread to be started again looks for it, in seconds.
_WATCH_ENGINE = 0.2


_KINDS = {"embed": "embed", "classify": "predict", "rerank": "predict"}


@dataclass(frozen=True)
class Results:
    """What came of a request's texts.

    Attributes:
        each: For each text what was rendered of its result.
        lengths: For each text the tokens that were computed of it.
        truncated: For each text whether it was cut.
    """

    each: list[Any]
    lengths: list[int]
    truncated: list[bool]

    @property
    def tokens(self) -> int:
        """The tokens of all texts, special ones included."""
        return sum(self.lengths)


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
        self.requests = 0  # under way
        self.queued_tokens = 0  # of the requests under way
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="bothways-tokenize")
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the engine threads; called on the event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """End the threads."""
        if self._watching is not None:
            self._watching.cancel()
        self._tokenizing.shutdown(cancel_futures=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.scheduler.stop)
        await loop.run_in_executor(None, self.tracer.close)

    async def _watch(self) -> None:
        """Start an engine thread again that has died. Until then `ready` is false."""
        while True:
            await asyncio.sleep(_WATCH_ENGINE)
            if not self.scheduler.alive:
                await asyncio.sleep(_WATCH_ENGINE)
                self.metrics.restarts.inc()
                self.scheduler.start()

    @property
    def unready(self) -> str:
        """Why no requests should come here now, or "" where they may."""
        return "" if self.scheduler.alive else "the engine is being started again"

    def admit(self) -> None:
        """Let a request in, or turn it away where too many are under way."""
        most = self.settings.max_queue_requests
        if self.requests > most:  # this one is counted already
            raise self._overloaded("max_queue_requests", f"{most} requests are under way, and no more are let in")

    def _overloaded(self, limit: str, what: str) -> Problem:
        flag = "--" + limit.replace("_", "-")
        wait = max(1, math.ceil(self.scheduler.waiting_tokens / self._rate()))
        return Problem(
            429,
            f"{what}; send it again in {wait} s (server option {flag})",
            limit,
            headers={"retry-after": str(min(wait, 60))},
        )

    def _rate(self) -> float:
        return max(self.scheduler.rates(), default=1000.0)

    def find(self, call: Call, name: str | None, *tasks: str) -> Model:
        """The model for a request, by the name in its path or body, or by what it asks for; see `Models.find`."""
        model = self.models.find(call.path_model or name, *tasks)
        call.kind = _KINDS.get(tasks[0], "") if tasks else ""
        call.model = model.name
        return model

    async def run(
        self, call: Call, model: Model, plan: Plan[Any, Any], texts: list[Any], render: Render, *, unique: bool = False
    ) -> Results:
        """Take texts through a plan; equal ones are computed once.

        Args:
            call: The request.
            model: Whose plan it is.
            plan: What is done.
            texts: What the plan takes.
            render: What the response holds of a result; called outside the event loop.
            unique: Texts are known to be all different, or can't be compared.

        Raises:
            Problem: A limit is passed, time is over, or the client is gone.
            BothwaysError: A text or the model can't be used.
        """
        self.check_texts(call, texts)
        places: list[int] | None = None
        each = texts
        if not unique and len(texts) > 1:
            found: dict[Any, int] = {}
            places = [found.setdefault(text, len(found)) for text in texts]
            each = list(found)
        groups = await self.tokenize(call, plan, each)
        results = await self.compute(call, model, plan, each, groups, render)
        if places is None or len(each) == len(texts):
            return results
        return Results(
            [results.each[n] for n in places],
            [results.lengths[n] for n in places],
            [results.truncated[n] for n in places],
        )

    async def compute(
        self,
        call: Call,
        model: Model,
        plan: Plan[Any, Any],
        texts: list[Any],
        groups: list[list[Sequence]],
        render: Render,
    ) -> Results:
        """Compute texts whose sequences are known."""
        lengths = [sum(map(len, group)) for group in groups]
        truncated = [any(sequence.truncated for sequence in group) for group in groups]
        call.texts += len(texts)
        call.truncated += sum(truncated)
        call.tokens += sum(lengths)
        if not texts:
            return Results([], [], [])
        self.check_tokens(sum(lengths))
        self._check_queue(sum(lengths))
        loop = call.loop
        future: asyncio.Future[None] = loop.create_future()

        def finished(job: Job) -> None:
            loop.call_soon_threadsafe(_settle, future, job)

        job = Job((model.name, plan.group), plan, texts, groups, render, finished)
        self.queued_tokens += job.tokens
        self.scheduler.submit(job)
        try:
            await call.wait(future)
        finally:
            job.dropped = True
            self.queued_tokens -= job.tokens
            _add_times(call, job)
        return Results(job.results, lengths, truncated)

    def check_texts(self, call: Call, texts: list[Any]) -> None:
        """Refuse a request with too many texts, or one that is too long."""
        settings = self.settings
        self.check_items(len(texts))
        for number, text in enumerate(texts):
            size = longest = len(text)
            if not isinstance(text, str):  # a pair, or words, or token ids
                sizes = [len(part) for part in text if isinstance(part, str)]
                size, longest = sum(sizes), max(sizes, default=0)
            call.characters += size
            if longest > settings.max_text_chars:
                raise Problem(
                    413,
                    f"text {number} has {longest} characters, the limit is {settings.max_text_chars}; send less of it "
                    "(server option --max-text-chars)",
                    "max_text_chars",
                )

    def check_items(self, count: int) -> None:
        """Refuse a request of so many texts, where they are too many."""
        most = self.settings.max_items
        if count > most:
            raise Problem(
                413,
                f"the request has {count} texts, the limit is {most}; send fewer at once (server option --max-items)",
                "max_items",
            )

    def check_tokens(self, tokens: int) -> None:
        """Refuse a request of which so many tokens are known, where they are too many."""
        most = self.settings.max_request_tokens
        if tokens > most:
            raise Problem(
                413,
                f"the request has {tokens} tokens or more, the limit is {most}; send fewer texts at once "
                "(server option --max-request-tokens)",
                "max_request_tokens",
            )

    def _check_queue(self, tokens: int) -> None:
        settings = self.settings
        if self.queued_tokens and self.queued_tokens + tokens > settings.max_queue_tokens:
            raise self._overloaded(
                "max_queue_tokens",
                f"{self.queued_tokens} tokens are under way and this request has {tokens}, the limit is "
                f"{settings.max_queue_tokens}",
            )

    async def tokenize(self, call: Call, plan: Plan[Any, Any], texts: list[Any]) -> list[list[Sequence]]:
        """Turn texts into sequences, in turns with other requests where it takes long."""
        begin = time.perf_counter()
        try:
            if call.characters <= _AT_ONCE_CHARACTERS and len(texts) <= _AT_ONCE_TEXTS:
                return plan.tokenize(texts, 0)
            groups: list[list[Sequence]] = []
            tokens = 0
            for first, chunk in _chunks(texts, plan.weight):
                groups += await call.loop.run_in_executor(self._tokenizing, plan.tokenize, chunk, first)
                tokens += sum(len(sequence) for group in groups[first:] for sequence in group)
                self.check_tokens(tokens)
                call.check_deadline()
            return groups
        finally:
            call.times["tokenization"] = call.times.get("tokenization", 0.0) + time.perf_counter() - begin


def version() -> str:
    """Bothways' own version."""
    import bothways

    return bothways.__version__


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
        future.set_exception(job.error)


def _add_times(call: Call, job: Job) -> None:
    if job.begun:
        call.times["queue"] = call.times.get("queue", 0.0) + job.begun - job.created
        call.times["inference"] = call.times.get("inference", 0.0) + job.computing
