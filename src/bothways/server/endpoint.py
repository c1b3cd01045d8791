"""One route as an ASGI application: reads the request, lets it in, answers it or says what is wrong, counts it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import urllib.parse
from typing import Any

from bothways.errors import InputTooLong
from bothways.server.calls import Call, Receive, Scope, Send
from bothways.server.problems import Problem, problem_body, problem_of
from bothways.server.replies import Reply
from bothways.server.routes.base import Route, cut_advice
from bothways.server.service import Service
from bothways.server.wire import decode

__all__ = ["Endpoint", "write_access"]

_log = logging.getLogger("bothways.server")

# Statuses whose messages may quote a client's texts, or what stands in their place.
_QUOTING = (400, 404, 422)

# Characters of a message that the log shows.
_SHOWN = 300

# TEI's words for why a request failed, by status.
_FAILURES = {
    400: "validation",
    401: "unauthorized",
    413: "batch_size",
    422: "validation",
    424: "model_type",
    429: "overloaded",
    499: "dropped",
    504: "timeout",
}


class Endpoint:
    """Answers one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route
        self._name = route.paths[0]
        # Our own routes have the library's names.
        others = None if route.family == "Bothways" else route.request
        self._cut_advice = "" if others is None else cut_advice(others)
        self._open = route.open and not (route.protectable and service.settings.protect_metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        service, route = self._service, self._route
        call = Call(scope, receive, service.settings, route.envelope)
        call.cut_advice = self._cut_advice
        status, failure, why = 500, "", ""
        try:
            try:
                reply = await self._answer(call)
            except (Exception, asyncio.CancelledError) as error:  # cancelled: the server is stopped
                problem = self._problem(call, error)
                failure = _FAILURES.get(problem.status, "validation" if problem.status < 500 else "inference")
                why = self._why(problem)
                reply = _problem_reply(problem, call)
            call.end()
            status = reply.status
            times = call.time_headers() if route.inference else []
            service.limits.let_go(call)
            # It is made already: what comes after it is turned away.
            service.limits.hold(call, reply.size, refuse=False)
            await reply.send(send, [(b"x-request-id", call.id.encode()), *times])
        finally:
            service.limits.let_go(call)
            if route.inference:
                service.metrics.request(self._name, call, status, failure)
                service.tracer.record(call, self._name, status)
            if status >= 400 or service.settings.access_log:
                write_access(call, status, why)

    async def _answer(self, call: Call) -> Reply:
        service, route = self._service, self._route
        if not self._open:
            _check_key(service, call)
        call.set_deadline()
        if not route.inference:
            return await route.handler(service, call, await self._read(call))
        service.limits.check_room()  # before anything is read
        request = await self._read(call)
        with service.limits.admitted():
            return await route.handler(service, call, request)

    async def _read(self, call: Call) -> Any:
        service, route = self._service, self._route
        if route.request is None:
            return None
        _check_content_type(call)
        body = await call.read_body(lambda size: service.limits.hold(call, size))
        if route.other_envelope and re.search(rb'"%b"\s*:' % route.other_envelope.encode(), body):
            call.envelope = "openai" if route.envelope == "tei" else "tei"
        if service.settings.log_texts:
            _log.info("%s %s %r", call.id, self._name, body.decode("utf-8", "replace"))
        return await decode(body, route.request)

    def _why(self, problem: Problem) -> str:
        """What the log says of a failure; messages that may quote a client's texts only where those are wanted."""
        if problem.status in _QUOTING and not self._service.settings.log_texts:
            return f"{problem.code} ({problem.param})" if problem.param else problem.code
        return f"{problem.code}: {problem.message}"

    def _problem(self, call: Call, error: BaseException) -> Problem:
        problem = problem_of(error, call.envelope)
        if isinstance(error, InputTooLong) and call.cut_advice:
            problem.message = f"{error.args[0]}; {call.cut_advice}"
        if problem.code == "internal":
            _log.error("request %s to %s failed", call.id, self._name, exc_info=error)
        return problem


def write_access(call: Call, status: int, why: str = "") -> None:
    """Write a line of the log about a request that has ended; `why` is what was said of a failure.

    Texts that a message quotes are a client's: they are written on one line, and cut.
    """
    milliseconds = 1000 * (time.perf_counter() - call.begun)
    prefix = f"/models/{call.path_model}" if call.path_model else ""
    _log.log(
        logging.WARNING if status >= 500 else logging.INFO,
        "%s %s %d %.1f ms, request %s%s",
        call.method,
        urllib.parse.quote(prefix + call.path, safe="/:@"),
        status,
        milliseconds,
        call.id,
        f", {_in_a_line(why)}" if why else "",
        extra={
            "request_id": call.id,
            "model": call.model,
            "status": status,
            "tokens": call.tokens,
            "texts": call.texts,
            "milliseconds": {step: round(1000 * seconds, 3) for step, seconds in call.times.items()},
        },
    )


def _problem_reply(problem: Problem, call: Call) -> Reply:
    """An error in its route's envelope."""
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in problem.headers.items()]
    return Reply(problem_body(problem, call.envelope, call.id), problem.status, headers=headers)


def _check_key(service: Service, call: Call) -> None:
    """Refuse a request without one of the keys; how long that takes says nothing of them."""
    keys = service.keys
    if not keys:
        return
    given = call.headers.get(b"authorization", b"")
    scheme, _, key = given.partition(b" ")
    # Some clients put the bare key there.
    key = key.strip() if scheme.lower() == b"bearer" else given.strip()
    matches = [hmac.compare_digest(key, known) for known in keys]
    if not any(matches):
        what = "the Authorization header's key is not known here" if given else "this server asks for an API key"
        raise Problem(
            401,
            f"{what}; send `Authorization: Bearer KEY`",
            "invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _check_content_type(call: Call) -> None:
    given = call.headers.get(b"content-type")
    if given is None:
        return
    kind = given.split(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise Problem(
            415,
            f"the request's Content-Type is {kind.decode('latin-1')!r}; send application/json",
            "unsupported_media_type",
        )


def _in_a_line(message: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in message)
    return printable if len(printable) <= _SHOWN else f"{printable[:_SHOWN]}..."
