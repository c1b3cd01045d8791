"""HTTP/1.1 as uvicorn speaks it, with two things more: connections that say nothing are closed, and errors are JSON."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bothways.server.calls import request_id
from bothways.server.problems import Problem, problem_body

__all__ = ["Protocol"]

# How long what is left of a body is read and thrown away, when its request was answered before it had all come.
_DRAIN = 5.0


class Protocol(HttpToolsProtocol):
    """A connection."""

    #: How many seconds a client has to send a request's head; set before the server starts.
    head_timeout: ClassVar[float] = 30.0

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Expect a request's head."""
        super().connection_made(transport)
        self._arm(self.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; where that is the beginning of a head, expect the rest."""
        super().data_received(data)
        waiting = self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)
        if waiting and self._head_timer is None and not self.transport.is_closing():
            self._arm(self.head_timeout)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there, too."""
        if self.cycle is not None and self.cycle.response_complete:
            # uvicorn leaves what comes after an answer alone; here the rest of the body has come.
            self.cycle.more_body = False
            self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that was answered early."""
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
