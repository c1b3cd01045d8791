"""From a request's texts to its results: tokenized, let in, scheduled, awaited. The event loop's side of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bothways.server.calls import Call
from bothways.server.jobs import Job, Lane, Render
from bothways.server.logs import log
from bothways.server.metrics import Metrics
from bothways.server.models import Model, Models
from bothways.server.problems import Problem
from bothways.server.results import Results, counted, unique
from bothways.server.scheduler import Scheduler
from bothways.server.settings import Settings
from bothways.server.tracing import NoTracer, Tracer
from bothways.stream import BATCH_TOKENS
from bothways.tasks.plan import Plan
from bothways.tokens import Sequence

__all__ = ["Service", "label_count", "version"]

# Texts that are so short together are tokenized where they are: to go to another thread takes longer.
_AT_ONCE_CHARACTERS = 600
_AT_ONCE_TEXTS = 8

# What the tokenizing thread takes at once; after it, another request has its turn.
_CHUNK_TEXTS = 64
_CHUNK_CHARACTERS = 16_384

# The most answers to a question: more would only cost time, as a context has hardly so many that differ.
_MOST_ANSWERS = 1000

# The longest time, in seconds, after which a request that is turned away is told to come again.
_LONGEST_WAIT = 60

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
        self.requests = 0  # under way
        self.queued_tokens = 0  # of the requests under way
        self.held_bytes = 0  # of bodies and answers
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
    def requests(self) -> int:
        """How many requests are under way."""
        return self._requests

    @requests.setter
    def requests(self, count: int) -> None:
        self._requests = count
        self.metrics.queue_size.set(count)  # at once, as another worker may be asked for it

    @property
    def queued_tokens(self) -> int:
        """How many tokens the requests under way have."""
        return self._queued_tokens

    @queued_tokens.setter
    def queued_tokens(self, count: int) -> None:
        self._queued_tokens = count
        self.metrics.queued_tokens.set(count)

    @property
    def unready(self) -> str:
        """Why no requests should come here now, or "" where they may."""
        return "" if self.scheduler.alive else "the engine is being started again"

    def check_room(self) -> None:
        """Turn a request away where too many are under way."""
        most = self.settings.max_queue_requests
        if self.requests >= most:
            raise self._overloaded("max_queue_requests", f"{most} requests are under way, and no more are let in")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in whose body is there, or turn it away; it is under way until its answer is made."""
        self.check_room()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def _overloaded(self, limit: str, what: str) -> Problem:
        flag = "--" + limit.replace("_", "-")
        wait = min(max(1, math.ceil(self.scheduler.waiting_tokens / self._rate())), _LONGEST_WAIT)
        return Problem(
            429,
            f"{what}; send it again in {wait} s (server option {flag})",
            limit,
            headers={"retry-after": str(wait)},
        )

    def _rate(self) -> float:
        return max(self.scheduler.rates(), default=1000.0)

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
        for name, value in options.items():
            parts = value if isinstance(value, tuple | list) else (value,)
            strings = [part for part in parts if isinstance(part, str)]
            self.check_items(max(len(parts), label_count(value) if name == "labels" else 0))
            self._check_length(f"`{name}`", sum(map(len, strings)))
        if task == "zero_shot":  # each label makes a sentence, and they are all made at once
            count, template = label_count(options["labels"]), options.get("template", "")
            self._check_length("the labels' sentences together", count * len(template))
        if options.get("top_k") is not None and task == "answer":
            self._check_answers(options["top_k"])
        return model.plan(task, **options)

    def _check_answers(self, count: int) -> None:
        if count > _MOST_ANSWERS:
            raise Problem(
                413, f"top_k is {count}, and the limit is {_MOST_ANSWERS}; ask for fewer answers", "max_answers"
            )

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
        call.characters += self.check_texts(texts)
        each, places = await call.somewhere(len(texts), lambda: unique(texts))
        groups = await self.tokenize(call, plan, each)

        def check(lengths: list[int]) -> None:
            if foretell is not None:
                self.check_answer(foretell([lengths[n] for n in places]))

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

    def check_texts(self, texts: list[Any]) -> int:
        """Refuse a request with too many texts, or one that is too long; their characters.

        A pair counts together, and so do the words of one text; token ids don't count.
        """
        self.check_items(len(texts))
        characters = 0
        for number, text in enumerate(texts):
            size = len(text) if isinstance(text, str) else sum(len(part) for part in text if isinstance(part, str))
            if not text and self.settings.refuse_empty:
                raise Problem(400, f"text {number} is empty; leave it out", "empty_input")
            self._check_length(f"text {number}", size)
            characters += size
        return characters

    def _check_length(self, what: str, size: int) -> None:
        most = self.settings.max_text_chars
        if size > most:
            raise Problem(
                413,
                f"{what} has {size} characters, the limit is {most}; send less of it (server option --max-text-chars)",
                "max_text_chars",
            )

    def check_answer(self, size: int) -> None:
        """Refuse a request whose answer would have so many bytes, where they are too many."""
        most = self.settings.max_answer_bytes
        if size > most:
            raise Problem(
                413,
                f"the answer would have about {size} bytes, the limit is {most}; ask for less at once "
                "(server option --max-answer-bytes)",
                "max_answer_bytes",
            )

    def hold(self, call: Call, size: int, *, refuse: bool = True) -> None:
        """Count bytes that are held for a request, or turn it away where there are too many."""
        most = self.settings.max_queue_bytes
        if refuse and self.held_bytes + size > most and self.held_bytes > call.held:
            what = f"requests and answers of {self.held_bytes} bytes are under way, the limit is {most}"
            raise self._overloaded("max_queue_bytes", what)
        self.held_bytes += size
        call.held += size

    def reserve(self, call: Call, tokens: int) -> None:
        """Count tokens of a request that are to be computed, or refuse it where it or all together have too many."""
        self.check_tokens(call.reserved + tokens)
        others, most = self.queued_tokens - call.reserved, self.settings.max_queue_tokens
        if others and others + call.reserved + tokens > most:
            raise self._overloaded(
                "max_queue_tokens",
                f"{others} tokens are under way and this request has {call.reserved + tokens} or more, the limit is "
                f"{most}",
            )
        self.queued_tokens += tokens
        call.reserved += tokens

    def let_go(self, call: Call) -> None:
        """Count no more what was held and reserved for a request."""
        self.held_bytes -= call.held
        self.queued_tokens -= call.reserved
        call.held = call.reserved = 0

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
        flags = {"--max-request-tokens": "max_request_tokens", "--max-queue-tokens": "max_queue_tokens"}
        flag, name = min(flags.items(), key=lambda item: getattr(self.settings, item[1]))
        most = getattr(self.settings, name)
        if tokens > most:
            raise Problem(
                413,
                f"the request has {tokens} tokens or more, the limit is {most}; send fewer texts at once "
                f"(server option {flag})",
                name,
            )

    async def tokenize(self, call: Call, plan: Plan[Any, Any], texts: list[Any]) -> list[list[Sequence]]:
        """Turn texts into sequences, in turns with other requests where it takes long; reserve their tokens."""
        begin = time.perf_counter()
        try:
            if len(texts) <= _AT_ONCE_TEXTS and sum(map(plan.weight, texts)) <= _AT_ONCE_CHARACTERS:
                groups = plan.tokenize(texts, 0)
                self.reserve(call, _tokens(groups))
                return groups
            groups = []
            for first, chunk in _chunks(texts, plan.weight):
                done = await call.outside(self._tokenizing, functools.partial(plan.tokenize, chunk, first))
                self.reserve(call, _tokens(done))
                groups += done
            return groups
        finally:
            call.times["tokenization"] = call.times.get("tokenization", 0.0) + time.perf_counter() - begin


def version() -> str:
    """Bothways' own version."""
    import bothways

    return bothways.__version__


def label_count(labels: str | Sized) -> int:
    """How many labels there are; those of a string stand with commas between them."""
    return labels.count(",") + 1 if isinstance(labels, str) else len(labels)


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
