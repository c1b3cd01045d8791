"""Client: the methods of `Encoder`, computed by a server."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import httpx2

from bothways.client.answers import answer
from bothways.client.base import ClientBase, time_limits
from bothways.client.call import Answered, Call
from bothways.client.comparing import Step, similarity
from bothways.client.failures import broken, refused
from bothways.client.head_tasks import classify, fill_mask, rerank, tag, zero_shot
from bothways.client.models import Ask, RemoteModel, able, ask_models, chosen
from bothways.client.pieces import LIST_AHEAD, STREAM_AHEAD, Piece
from bothways.client.retry import Failure
from bothways.client.shapes import EmbedWay
from bothways.client.vectors import embed, encode
from bothways.client.ways import each, method, whole
from bothways.client.wire import Reply, Request
from bothways.errors import BothwaysError, InputError
from bothways.tasks.answer import answering

__all__ = ["Client"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Self = TypeVar("_Self", bound="Client")


class Client(ClientBase):
    """A server's model, asked like an `Encoder`. Safe to use from many threads at once, and after a fork.

    Long lists and iterators are sent in pieces, several under way at once; results come in the order of the texts.
    A request is sent again where that may help. What the server refuses is an InputError, a TaskError or a
    ModelNotFound as with `Encoder`, and everything else a ServerError.

    Attributes:
        url: The server's address as given.
        model: The model's name as given; None leaves the choice to the server.
        tasks: The methods that the model can serve; the server is asked each time.
    """

    encode = each(encode)
    embed = cast("EmbedWay", method(embed))
    similarity = whole(similarity)
    classify = each(classify)
    tag = each(tag)
    fill_mask = each(fill_mask)
    answer = answering(method(answer))
    rerank = whole(rerank)
    zero_shot = each(zero_shot)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The methods that the model can serve; without a name, those of all models together."""
        return able(chosen(self.models(), self._target))

    def models(self) -> list[RemoteModel]:
        """The models that the server has, and what each can do."""
        return self._ask(ask_models(self._target))

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    def __enter__(self: _Self) -> _Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def _run(self, made: Any) -> Any:
        """Carry out a call: an iterator for a stream, else its result."""
        self._check_open()
        if isinstance(made, Generator):
            return self._take_steps(made)
        if isinstance(made, Call) and made.streamed:
            return self._each(made, made.pieces())
        return self._do(made)

    def _take_steps(self, steps: Generator[Step, Any, _Out]) -> _Out:
        try:
            step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except BothwaysError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return cast("_Out", end.value)

    def _do(self, step: Step) -> Any:
        if isinstance(step, Ask):
            return self._ask(step)
        if isinstance(step, Call):
            return step.join(list(self._blocks(step, step.pieces(), LIST_AHEAD)))
        raise InputError("an async iterator is for AsyncClient; pass a list or an iterator here")

    def _ask(self, ask: Ask[_Out]) -> _Out:
        request = ask.request()
        return ask.answered(request, self._send(request, threading.Event()))

    def _each(self, call: Call[_Out, Any], pieces: Iterable[Piece[Any]]) -> Iterator[_Out]:
        for block in self._blocks(call, pieces, STREAM_AHEAD):
            yield from call.each(block)

    def _blocks(self, call: Call[Any, Any], pieces: Iterable[Piece[Any]], most: int) -> Iterator[Any]:
        """The results of every piece, in order; no more than `most` requests are under way."""
        tally, stop = call.tally(), threading.Event()

        def work(piece: Piece[Any]) -> Answered:
            request = call.request(piece)
            return call.answered(request, self._send(request, stop), piece)

        try:
            for answered in _in_order(pieces, work, most):
                tally.add(answered.texts, answered.usage.tokens, answered.usage.truncated)
                yield answered.block
        finally:
            stop.set()
        tally.close()

    def _send(self, request: Request, stop: threading.Event) -> Reply:
        """Send a request until there is a reply, or an error to raise; `stop` ends the waiting."""
        attempts = self._attempts()
        while True:
            outcome = self._attempt(request, attempts.begin())
            if isinstance(outcome, Reply):
                return outcome
            self._pause(attempts.wait_after(outcome), stop)

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        if stop.wait(seconds):
            raise BothwaysError("nobody waits for this reply any more")

    def _attempt(self, request: Request, seconds: float | None) -> Reply | Failure:
        target = self._target
        until = None if seconds is None else self._clock() + seconds
        try:
            with self._pool().stream(
                request.method,
                target.base + request.path,
                content=request.body or None,
                headers=request.headers(target, seconds),
                timeout=time_limits(seconds),
            ) as response:
                body = b"".join(self._in_time(response.iter_bytes(), until))
        except httpx2.HTTPError as error:
            return broken(target, request, error, self._timeout)
        reply = Reply(response.status_code, dict(response.headers), body)
        return reply if reply.status == 200 else refused(target, request, reply)

    def _in_time(self, parts: Iterator[bytes], until: float | None) -> Iterator[bytes]:
        """Pass a body's parts on, however small the bites are in which it comes."""
        for part in parts:
            yield part
            if until is not None and self._clock() > until:
                raise httpx2.ReadTimeout("the reply takes too long")

    def _pool(self) -> httpx2.Client:
        self._check_open()
        pool: httpx2.Client | None = self._pools.get(os.getpid())
        if pool is None:
            # Two threads may come here at once: the first pool stays. No lock, as a forked child may find it locked.
            made = self._open()
            pool = self._pools.setdefault(os.getpid(), made)
            if pool is not made:
                made.close()
        return pool

    def _no_pools(self) -> dict[int, httpx2.Client]:
        """By process: a forked child must not use its parent's connections, nor close them."""
        return {}

    def _open(self) -> httpx2.Client:
        options, socket = self._pool_options(), self._target.socket
        if socket is None:
            return httpx2.Client(**options)
        return httpx2.Client(transport=httpx2.HTTPTransport(uds=socket, **options))


def _in_order(pieces: Iterable[_In], work: Callable[[_In], _Out], most: int) -> Iterator[_Out]:
    """The work on every piece, in order, `most` at once; where getting a piece fails, what is under way comes first."""
    if isinstance(pieces, list) and len(pieces) == 1:
        yield work(pieces[0])
        return
    process = os.getpid()
    source: Iterator[_In] | None = iter(pieces)
    trouble: Exception | None = None
    under_way: deque[Future[_Out]] = deque()
    while True:
        while source is not None and len(under_way) < most:
            try:
                piece = next(source)
            except StopIteration:
                source = None
            except Exception as error:
                source, trouble = None, error
            else:
                under_way.append(_begun(work, piece))
        if not under_way:
            break
        yield under_way.popleft().result()
        if os.getpid() != process:
            # The threads that send stayed with the parent: to wait for them would be to wait for ever.
            raise InputError("this stream was begun before a fork; begin a new one in the child")
    if trouble is not None:
        raise trouble


def _begun(work: Callable[[_In], _Out], piece: _In) -> Future[_Out]:
    """Begin in a thread of its own, which does not keep the program from ending."""
    future: Future[_Out] = Future()

    def run() -> None:
        try:
            future.set_result(work(piece))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="bothways-client", daemon=True).start()
    return future
