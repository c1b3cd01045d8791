"""AsyncClient: `Client` for asyncio. What is sent and read is the same; this sends it without a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, MutableMapping
from contextlib import aclosing
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

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
from bothways.client.shapes import AnswerAwaited, EmbedAwaited
from bothways.client.vectors import embed, encode
from bothways.client.ways import each_awaited, method, whole_awaited
from bothways.client.wire import Reply, Request
from bothways.errors import BothwaysError

__all__ = ["AsyncClient"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_Self = TypeVar("_Self", bound="AsyncClient")


class AsyncClient(ClientBase):
    """`Client` for asyncio: results are awaited, and iterators, async ones too, give async iterators.

    One may be used by any number of tasks at once, and in one event loop after the other.

    Attributes:
        url: The server's address as given.
        model: The model's name as given; None leaves the choice to the server.
        tasks: The methods that the model can serve, to be awaited; the server is asked each time.
    """

    encode = each_awaited(encode)
    embed = cast("EmbedAwaited", method(embed))
    similarity = whole_awaited(similarity)
    classify = each_awaited(classify)
    tag = each_awaited(tag)
    fill_mask = each_awaited(fill_mask)
    answer = cast("AnswerAwaited", method(answer))
    rerank = whole_awaited(rerank)
    zero_shot = each_awaited(zero_shot)

    @property
    async def tasks(self) -> tuple[str, ...]:
        """The methods that the model can serve; without a name, those of all models together."""
        return able(chosen(await self.models(), self._target))

    async def models(self) -> list[RemoteModel]:
        """The models that the server has, and what each can do."""
        return await self._ask(ask_models(self._target))

    async def close(self) -> None:
        """Close all connections of this event loop."""
        self._closed = True
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def __aenter__(self: _Self) -> _Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.close()

    def _run(self, made: Any) -> Any:
        """Carry out a call: an async iterator for a stream, else its result to be awaited."""
        self._check_open()
        if isinstance(made, Generator):
            return self._take_steps(made)
        return self._each(made) if made.streamed else self._do(made)

    async def _take_steps(self, steps: Generator[Step, Any, _Out]) -> _Out:
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._do(step)
                except BothwaysError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return cast("_Out", end.value)

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Ask):
            return await self._ask(step)
        if isinstance(step, Call):
            async with aclosing(self._blocks(step, LIST_AHEAD)) as blocks:
                return step.join([block async for block in blocks])
        return [item async for item in step]

    async def _ask(self, ask: Ask[_Out]) -> _Out:
        request = ask.request()
        return ask.answered(request, await self._send(request))

    async def _each(self, call: Call[_Out, Any]) -> AsyncIterator[_Out]:
        async with aclosing(self._blocks(call, STREAM_AHEAD)) as blocks:
            async for block in blocks:
                for result in call.each(block):
                    yield result

    async def _blocks(self, call: Call[Any, Any], most: int) -> AsyncGenerator[Any, None]:
        """The results of every piece, in order; no more than `most` requests are under way."""
        tally = call.tally()

        async def work(piece: Piece[Any]) -> Answered:
            request = call.request(piece)
            return call.answered(request, await self._send(request), piece)

        async with aclosing(_pieces(call)) as pieces, aclosing(_in_order(pieces, work, most)) as results:
            async for answered in results:
                tally.add(answered.texts, answered.usage.tokens, answered.usage.truncated)
                yield answered.block
        tally.close()

    async def _send(self, request: Request) -> Reply:
        """Send a request until there is a reply, or an error to raise."""
        attempts = self._attempts()
        while True:
            outcome = await self._attempt(request, attempts.begin())
            if isinstance(outcome, Reply):
                return outcome
            await self._pause(attempts.wait_after(outcome))

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _attempt(self, request: Request, seconds: float | None) -> Reply | Failure:
        try:
            reply = await asyncio.wait_for(self._fetch(request, seconds), seconds)
        except (httpx2.HTTPError, asyncio.TimeoutError) as error:
            return broken(self._target, request, error, self._timeout)
        return reply if reply.status == 200 else refused(self._target, request, reply)

    async def _fetch(self, request: Request, seconds: float | None) -> Reply:
        async with self._pool().stream(
            request.method,
            self._target.base + request.path,
            content=request.body or None,
            headers=request.headers(self._target, seconds),
            timeout=time_limits(seconds),
        ) as response:
            return Reply(response.status_code, dict(response.headers), await response.aread())

    def _pool(self) -> httpx2.AsyncClient:
        self._check_open()
        loop = asyncio.get_running_loop()
        pool: httpx2.AsyncClient | None = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = self._open()
        return pool

    def _no_pools(self) -> MutableMapping[Any, Any]:
        """By event loop: a connection belongs to the one that it was made in."""
        return WeakKeyDictionary()

    def _open(self) -> httpx2.AsyncClient:
        options, socket = self._pool_options(), self._target.socket
        if socket is None:
            return httpx2.AsyncClient(**options)
        return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket, **options))


class _Feed(Iterator[Any]):
    """Hands items on to a generator, each when it is there."""

    item: Any = None

    def __next__(self) -> Any:
        return self.item


async def _pieces(call: Call[Any, Any]) -> AsyncGenerator[Piece[Any], None]:
    """A call's pieces as they come."""
    if not isinstance(call.items, AsyncIterator):
        for piece in call.pieces():
            yield piece
        return
    filler, feed = call.filler(), _Feed()
    checked = call.checked(feed)
    async for feed.item in call.items:
        for piece in filler.add(next(checked)):
            yield piece
    for piece in filler.rest():
        yield piece


async def _in_order(
    pieces: AsyncIterator[_In], work: Callable[[_In], Awaitable[_Out]], most: int
) -> AsyncGenerator[_Out, None]:
    """The work on every piece, in order, `most` at once; where getting a piece fails, what is under way comes first."""
    source: AsyncIterator[_In] | None = pieces
    trouble: Exception | None = None
    under_way: deque[asyncio.Future[_Out]] = deque()
    try:
        while True:
            while source is not None and len(under_way) < most:
                try:
                    piece = await anext(source)
                except StopAsyncIteration:
                    source = None
                except Exception as error:
                    source, trouble = None, error
                else:
                    under_way.append(asyncio.ensure_future(work(piece)))
            if not under_way:
                break
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    if trouble is not None:
        raise trouble
