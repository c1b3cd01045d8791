"""HTTP/1.1 as uvicorn speaks it, and more: connections where nothing moves are closed, and errors are JSON."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bothways.server.calls import request_id
from bothways.server.problems import Problem, problem_body

__all__ = ["Protocol"]

# How long what is left of a body is read and thrown away, when its request was answered before it had all come.
_DRAIN = 5.0

# How long a server that stops waits for the first request of a connection that it has accepted.
_FIRST = 1.0

# A request to go on in another protocol, as Java's client makes with every first one (h2c). The parser would leave out
# the body of such a request; a header of another name, as long, is no such request.
_UPGRADE = re.compile(rb"(\r\n)upgrade(?=[ \t]*:)", re.IGNORECASE)


class _Corked:
    """A connection to write to, on which an answer's head waits for the first of its body: one packet, not two."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Everything else is the connection's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless it is a head."""
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100") and data.endswith(b"\r\n\r\n"):
            self.flush()
            self._head = data
        elif self._head or data:
            self._transport.write(self._head + data)
            self._head = b""

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

    _head_timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _last = False

    def connection_made(self, transport: Any) -> None:
        """Expect a request's head."""
        super().connection_made(transport)
        self.transport = _Corked(transport)  # type: ignore[assignment]
        self._arm(self.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._disarm()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; where that is the beginning of a head, expect the rest."""
        if self._waiting and b"pgrade" in data:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(rb"\1x-upgrd", head) + end + rest
        super().data_received(data)
        if self._waiting and self._head_timer is None and not self.transport.is_closing():
            self._arm(self.head_timeout)

    @property
    def _waiting(self) -> bool:
        """Whether what comes is a request's head."""
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self.head_timeout, self.transport.abort)

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
        self._disarm()
        super().on_headers_complete()
        if self._last:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body is there, too."""
        if self.cycle is not None and self.cycle.response_complete:
            # uvicorn leaves what comes after an answer alone; here the rest of the body has come.
            self.cycle.more_body = False
            self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that was answered early."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
        if self.cycle is not None and self.cycle.more_body and not self.transport.is_closing():
            self._arm(_DRAIN)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        problem = Problem(400, "what was sent is no HTTP/1.1 request; check the client", "invalid_http")
        body = problem_body(problem, "tei", request_id(None))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[400] + head + body)
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
