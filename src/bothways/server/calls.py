"""One request: its id and deadline, reading its body, waiting for its results, whether its client is still there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from bothways.server.problems import Envelope, Problem
from bothways.server.settings import Settings

__all__ = ["Call", "Message", "Receive", "Scope", "Send", "request_id"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_T = TypeVar("_T")

# What takes long and is nobody's own thread's work: few threads, as all of it holds Python's lock.
_others = ThreadPoolExecutor(2, thread_name_prefix="bothways-other")

# What is done with so many texts takes a millisecond or more.
_MANY = 1000

# After so many seconds without an answer it pays to watch whether the client is still there.
_WATCH_AFTER = 0.05

# Names of requests: so much for the process, and a number. Random ones cost a system call each.
_PROCESS = secrets.token_hex(12)
_made = itertools.count()

_REQUEST_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


class Call:
    """A request under way.

    Attributes:
        id: What the client named the request in `x-request-id`, or a name made here.
        envelope: How an error of its route looks.
        deadline: When it is given up, on the event loop's clock.
        model: The name of the model that serves it, once known.
        kind: What is asked of it as Text Embeddings Inference tells them apart: "embed", "predict", or neither.
        cut_advice: What the client may send so that a text that is too long is cut; "" where the library's words fit.
        json_only: Answers of other types can't be given, whatever the client asks for.
        held: Bytes of its body and of its answer.
        reserved: The tokens that it has or had to compute.
        texts: How many it brought.
        truncated: How many of them were cut.
        tokens: The tokens that were computed for it.
        characters: The characters that it brought.
        times: Seconds spent in each step, by the step's name.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: Settings, envelope: Envelope) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.method: str = scope["method"]
        self.id = request_id(self.headers.get(b"x-request-id"))
        self.envelope = envelope
        #: What the path names: a model in front of the route, and what stands behind it.
        self.path_model: str | None = scope.get("bothways.model")
        self.path: str = scope["path"]
        self.path_rest: str = scope.get("path_params", {}).get("rest", "")
        self.model = ""
        self.kind = ""
        self.cut_advice = ""
        self.json_only = False
        self.held = self.reserved = 0
        self.texts = self.truncated = self.tokens = self.characters = 0
        self.times: dict[str, float] = {}
        self._receive = receive
        self._settings = settings
        self.deadline = self.loop.time() + settings.request_timeout
        self._watch_at = self.loop.time() + _WATCH_AFTER
        self._watcher: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        self._gone = False

    def set_deadline(self) -> None:
        """Take the client's own timeout where it is shorter than the server's."""
        given = self.headers.get(b"x-request-timeout")
        if given is None:
            return
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            shown = given.decode("latin-1")
            raise Problem(400, f"x-request-timeout is {shown!r}; give seconds, e.g. 2.5", "bad_header")
        self.deadline = min(self.deadline, self.loop.time() + seconds)

    def accepts(self, content_type: bytes) -> bool:
        """Whether the client asks for an answer of that type by name."""
        return content_type in self.headers.get(b"accept", b"") and not self.json_only

    def check_deadline(self) -> None:
        """Give the request up where its time is over."""
        if self.loop.time() >= self.deadline:
            raise self._too_late()

    def _too_late(self) -> Problem:
        return Problem(
            504,
            "the request's time was over before its results were there; ask for less at once, or allow more time "
            "(header x-request-timeout, server option --request-timeout)",
            "deadline_exceeded",
        )

    async def read_body(self, hold: Callable[[int], None]) -> bytes | bytearray:
        """Read the request's body, within the limits of size and time; `hold` is told of every piece's size."""
        most = self._settings.max_body_bytes
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most, int(declared))
        until = min(self.loop.time() + self._settings.body_timeout, self.deadline)
        body = bytearray()  # it grows bit by bit: to join all of it in the end would stop the event loop
        more = True
        while more:
            message = await self._receive_until(until)
            if message["type"] == "http.disconnect":
                raise gone()
            part: bytes = message.get("body", b"")
            more = bool(message.get("more_body"))
            hold(len(part))
            if len(body) + len(part) > most:
                raise _too_large(most)
            if not body and not more:
                return part
            body += part
        return body

    async def _receive_until(self, until: float) -> Message:
        """Receive a message in time. Nearly always it is there already, so this makes no task, as `wait_for` would."""
        task = asyncio.current_task()
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            if task is not None:
                task.cancel()

        timer = self.loop.call_at(until, give_up)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not late:
                raise
            self.check_deadline()
            raise Problem(
                408,
                f"the request's body did not arrive within {self._settings.body_timeout:g} s; send it faster, or allow "
                "more time (server option --body-timeout)",
                "body_timeout",
                headers={"connection": "close"},
            ) from None
        finally:
            timer.cancel()

    async def somewhere(self, count: int, work: Callable[[], _T]) -> _T:
        """Do something with so many texts: here, or outside the event loop where they are many."""
        return work() if count < _MANY else await self.outside(None, work)

    async def outside(self, executor: Executor | None, work: Callable[[], _T]) -> _T:
        """Let another thread do something, until the deadline, or until the client is gone."""
        future: asyncio.Future[_T] = self.loop.create_future()

        def copy(done: concurrent.futures.Future[_T]) -> None:
            if future.done() or done.cancelled():
                return
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)

        def told(done: concurrent.futures.Future[_T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.loop.call_soon_threadsafe(copy, done)

        work_done = (executor or _others).submit(work)
        work_done.add_done_callback(told)
        try:
            return await self.wait(future)
        finally:
            work_done.cancel()

    async def wait(self, future: asyncio.Future[_T]) -> _T:
        """Wait for results until the deadline, or until the client is gone."""
        if self._gone:
            future.cancel()
            raise gone()
        self._awaited = future
        self._timer = self.loop.call_at(min(self._watch_at, self.deadline), self._look)
        try:
            return await future
        finally:
            self._timer.cancel()
            self._awaited = None

    def _look(self) -> None:
        """Give up what is over; begin to watch the client of what takes long."""
        if self._awaited is None or self._awaited.done():
            return
        if self.loop.time() >= self.deadline:
            self._awaited.set_exception(self._too_late())
            return
        if self._watcher is None:
            self._watcher = self.loop.create_task(self._watch())
            self._watch_at = math.inf
        self._timer = self.loop.call_at(self.deadline, self._look)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(gone())

    def end(self) -> None:
        """Watch no more: the answer is made."""
        if self._watcher is not None:
            self._watcher.cancel()

    def time_headers(self) -> list[tuple[bytes, bytes]]:
        """How long everything took, in milliseconds, under the names that TEI's tools read."""
        total = time.perf_counter() - self.begun
        steps = {"total": total, **self.times}
        return [
            *((f"x-{step}-time".encode(), b"%.3f" % (1000 * seconds)) for step, seconds in steps.items()),
            (b"x-compute-type", b"cpu"),
            (b"x-compute-time", b"%.3f" % (1000 * self.times.get("inference", 0.0))),
            (b"x-compute-tokens", b"%d" % self.tokens),
            (b"x-compute-characters", b"%d" % self.characters),
            (b"x-truncated", b"%d" % self.truncated),
        ]


def gone() -> Problem:
    """The client went away: nobody reads this, but the log counts it."""
    return Problem(499, "the client closed the connection", "client_closed_request")


def _too_large(most: int, given: int | None = None) -> Problem:
    size = "more" if given is None else f"{given} bytes"
    return Problem(
        413,
        f"the request's body has {size}, the limit is {most} bytes; send fewer texts at once "
        "(server option --max-body-bytes)",
        "max_body_bytes",
    )


def request_id(given: bytes | None) -> str:
    """What a client calls its request, or a new name where it has none that can be repeated."""
    if given is not None:
        text = given.decode("latin-1")
        if _REQUEST_ID.fullmatch(text):
            return text
    return f"{_PROCESS}{next(_made):08x}"
