"""HTTP/1.1 as uvicorn speaks it, and more: connections where little moves are closed, and errors are JSON."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bothways.server.calls import request_id
from bothways.server.logs import log
from bothways.server.problems import Problem, problem_body

__all__ = ["Protocol"]

# How long what is left of a request is read and thrown away, when it was answered before it had all come.
_DRAIN = 5.0

# How long a server that stops waits for the first request of a connection that it has accepted.
_FIRST = 1.0

# The most bytes of a request's head, its line included, and of what may stand behind a body in chunks.
_MOST_HEAD = 1 << 16

# What a client has to take of an answer in a second, in bytes, once its time to begin is over.
_SLOWEST = 16_000

# What a line of a head has beside name and value: a colon, a space, and its end.
_LINE = 4


class _Corked:
    """A connection to write to, on which an answer's head waits for the first of its body: one packet, not two."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._begun = 0.0
        self._written = 0

    def __getattr__(self, name: str) -> Any:
        """Everything else is the connection's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless it is a head."""
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100") and data.endswith(b"\r\n\r\n"):
            self.flush()
            self._head = data
            self._begun = self._loop.time()
            self._written = 0
        elif self._head or data:
            self._written += len(data)
            self._transport.write(self._head + data)
            self._head = b""

    def behind(self) -> float:
        """How many seconds a client is behind one that takes an answer as slowly as is allowed; negative if ahead."""
        return self._loop.time() - self._begun - self._written / _SLOWEST

    def flush(self) -> None:
        """Write a head that no body followed."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close the connection behind what was written."""
        self.flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """A connection."""

    #: How many seconds a client has to send a request's head, or to take what was sent; set before the server starts.
    head_timeout: ClassVar[float] = 30.0

    _corked: _Corked
    _head_timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _last = False
    _upgrading = False
    _moved = False
    _unread = 0
    _large = False

    def connection_made(self, transport: Any) -> None:
        """Expect a request's head."""
        super().connection_made(transport)
        self._corked = _Corked(transport, self.loop)
        self.transport = cast("asyncio.Transport", self._corked)
        self._arm(self.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._disarm()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; where that is the beginning of a head, expect the rest."""
        if self._large:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        # While a line has not ended, all of it is kept.
        self._unread = 0 if self._moved else self._unread + len(data)
        if self._unread > _MOST_HEAD:
            self._large = True
            self.send_400_response("")
        elif self._waiting and self._head_timer is None and not self.transport.is_closing():
            self._arm(self.head_timeout)

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse; a request to go on in another protocol, as Java's client makes with every first one, is read as none.

        The parser would leave out the body of such a request (h2c). It stops behind the head.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self._upgrading = False
                self.parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join([line, *kept, b"\r\n"])

    @property
    def _waiting(self) -> bool:
        """Whether what comes is a request's head."""
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        left = self.head_timeout - max(self._corked.behind(), 0)
        self._stalled = self.loop.call_later(max(left, 0), self.transport.abort)

    def resume_writing(self) -> None:
        """It takes it."""
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server stops. A connection that has just been made may have its request on the way."""
        if self.cycle is None:
            self._last = True
            self._arm(_FIRST)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """The head is there."""
        if len(self.url) + sum(len(name) + len(value) + _LINE for name, value in self.headers) > _MOST_HEAD:
            self._large = True
            raise ValueError("the head is too large")
        self._moved = True
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no proxy")
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._disarm()
        super().on_headers_complete()
        if self._last:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body is there."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there, too."""
        if self._upgrading:
            return
        self._moved = True
        self._disarm()
        if self.cycle is not None and self.cycle.response_complete:
            # uvicorn leaves what comes after an answer alone; here the rest of the body has come.
            self.cycle.more_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that was answered early."""
        self._corked.flush()
        super().on_response_complete()
        # The cycle may be the next request's already, which has time of its own.
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self.cycle.more_body and not self.transport.is_closing():
            self._arm(_DRAIN)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too large a head, unless it is in the middle of another answer."""
        if self._large:
            what = f"the request's head or trailer has over {_MOST_HEAD} bytes; send a shorter URL and fewer headers"
            problem = Problem(431, what, "head_too_large")
        else:
            problem = Problem(400, "what was sent is no HTTP/1.1 request; check the client", "invalid_http")
        log.info("%d, and the connection is closed: %s", problem.status, problem.message)
        cycle = self.cycle
        if cycle is not None and (cycle.more_body or not cycle.response_complete):
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        body = problem_body(problem, "tei", request_id(None))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[problem.status] + head + body)
        if self._large and self.transport.can_write_eof():
            # A client that still sends would not read this, were its connection closed now.
            self.transport.write_eof()
            self._arm(_DRAIN)
        else:
            self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._head_timer = self.loop.call_later(seconds, self._close)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
