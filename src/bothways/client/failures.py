"""What a failed attempt means for the caller: from statuses, bodies and exceptions to `bothways.errors`."""

from __future__ import annotations

import asyncio
import html
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from bothways.client.retry import Failure, retry_after
from bothways.client.target import Target
from bothways.client.wire import Reply, Request
from bothways.errors import BothwaysError, InputError, InputTooLong, ModelNotFound, ServerError, TaskError

__all__ = ["broken", "refused", "unreadable"]

#: Another attempt may be luckier; so it may where no reply came.
_AGAIN = (408, 429, 502, 503, 504)

#: The same request would take as long, and as much memory.
_NOT_AGAIN = ("deadline_exceeded", "out_of_memory")

_ELSEWHERE = "give the address that `bothways serve` prints, without a route behind it"
_CODES: dict[str, type[BothwaysError]] = {
    "input_too_long": InputTooLong,
    "model_not_found": ModelNotFound,
    "task_not_supported": TaskError,
}
_STATUSES: dict[int, type[BothwaysError]] = {400: InputError, 413: InputError, 422: InputError, 424: TaskError}


@dataclass(frozen=True)
class _Problem:
    """A body that tells of an error, in one of the forms that Bothways servers have."""

    message: str
    code: str


def refused(target: Target, request: Request, reply: Reply) -> Failure:
    """What a status other than 200 means."""
    place = f"HTTP {reply.status} from {target.url}, request {_id(request, reply)}{_part(request)}"
    problem, status = _problem(reply), reply.status
    if problem is None:
        return _strange(target, reply, place)
    kind = _CODES.get(problem.code) or _STATUSES.get(status, ServerError)
    if status == 404 and not problem.code:  # a Bothways server has every route that is asked for here
        kind = ModelNotFound
    if kind is not ServerError:
        advice = "`Client.models()` says which it has" if kind is ModelNotFound else ""
        return Failure(kind, problem.message, advice, place)
    said, advice = _told(target, status, problem)
    again = status in _AGAIN and problem.code not in _NOT_AGAIN
    return Failure(ServerError, said, advice, place, again, _after(reply))


def _told(target: Target, status: int, problem: _Problem) -> tuple[str, str]:
    """What a server's own refusal says, and what to do about it."""
    message = problem.message
    if status in (401, 403):
        given = "the key that was given" if "authorization" in target.headers else "a request without a key"
        return f"{target.url} refused {given}: {message}", "pass api_key=..., or set BOTHWAYS_API_KEY"
    if problem.code in _NOT_AGAIN or status in (408, 504):
        return f"{target.url} gave the request up: {message}", "send fewer texts in a call, or raise its limits"
    if status in (429, 503):
        return f"{target.url} can't take the request now: {message}", "try again later, or with more retries"
    return f"{target.url} failed: {message}", "look for the request's id in its log"


def _strange(target: Target, reply: Reply, place: str) -> Failure:
    """What a reply means that no Bothways server writes: a proxy's, or one of something else."""
    again, after = reply.status in _AGAIN, _after(reply)
    if 300 <= reply.status < 400 and "location" in reply.headers:
        said = f"{target.url} sends on to {reply.headers['location']!r}, and requests are not sent on"
        return Failure(ServerError, said, "give the address itself", place)
    said = f"{target.url} answered with {_excerpt(reply)}, which is not from a Bothways server"
    if again:
        return Failure(ServerError, said, "look whether the server behind the proxy runs", place, True, after)
    if reply.status == 413:
        return Failure(InputError, said, "pass fewer or shorter texts, or raise that limit", place)
    if reply.status in (401, 403):
        return Failure(ServerError, said, "pass headers={...} with what it asks for", place)
    return Failure(ServerError, said, _ELSEWHERE, place)


def unreadable(target: Target, request: Request, reply: Reply, reason: str) -> BothwaysError:
    """The error where a reply says 200 and is not what was asked for."""
    place = f"{request.method} {request.path}, request {_id(request, reply)}{_part(request)}"
    said = f"{target.url} answered with {_excerpt(reply)}, and {reason}"
    return Failure(ServerError, said, _ELSEWHERE, place).error()


def broken(target: Target, request: Request, error: Exception, timeout: float | None) -> Failure:
    """What an exception means that came instead of a reply; `timeout` is the request's."""
    reason, place = _reason(error), f"{request.method} {request.path}, request {request.id}{_part(request)}"
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        said = f"{target.url} has a certificate that is not trusted: {reason}"
        return Failure(ServerError, said, "set SSL_CERT_FILE to the file of its authority", place)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Failure(ServerError, f"there is no connection to {target.url}: {reason}", _start(target), place, True)
    if isinstance(error, httpx2.TimeoutException | asyncio.TimeoutError):
        limit = "in time" if timeout is None else f"within {timeout:g} s"
        said = f"{target.url} did not answer {limit}"
        return Failure(ServerError, said, "pass a larger timeout, or fewer texts", place)
    if isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError):
        said = f"the connection to {target.url} ended before the whole reply was here: {reason}"
        tls = "" if target.secure or target.socket else ", and whether it speaks https"
        return Failure(ServerError, said, f"look at the server's log{tls}", place, True)
    return Failure(ServerError, f"no reply from {target.url} can be read: {reason}", _ELSEWHERE, place)


def _start(target: Target) -> str:
    where = f"--uds {target.socket}" if target.socket else "--host ... --port ..."
    return f"start a server there with `bothways serve --model ... {where}`, or give the address of one that runs"


def _reason(error: Exception) -> str:
    """What went wrong, in the system's words where it was asked."""
    system = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno]
    if not system:
        return str(error) or type(error).__name__
    last = system[-1]
    # These have numbers of their own, and asyncio words of its own for the system's.
    own = isinstance(last, socket.gaierror | ssl.SSLError)
    return str(last.strerror) if own else os.strerror(last.errno or 0)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _problem(reply: Reply) -> _Problem | None:
    """Read an error's body; None where it is of no form that is known."""
    try:
        body = reply.parsed
    except ValueError:
        return None
    if not isinstance(body, dict) or "error" not in body:
        return None
    error: Any = body["error"]
    if isinstance(error, str) and ("error_type" in body or "request_id" in body):
        return _Problem(error, str(body.get("code", "")))
    if isinstance(error, dict) and isinstance(error.get("message"), str) and "request_id" in body:
        return _Problem(error["message"], str(error.get("code", "")))
    return None


def _excerpt(reply: Reply) -> str:
    """What a body is, and how it begins: a page by its title."""
    text = reply.body[:4000].decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    text = " ".join((html.unescape(title[1]) if title else text).split())
    kind = "a page" if title else reply.media_type or "no content type"
    if not text.isprintable():
        return kind
    return f"{kind}: {text if len(text) <= 120 else text[:117] + '...'!r}" if text else f"an empty body ({kind})"


def _after(reply: Reply) -> float | None:
    return retry_after(reply.headers.get("retry-after"), time.time())


def _id(request: Request, reply: Reply) -> str:
    """The request's id, as the server's log has it where a proxy gave another."""
    given = reply.headers.get("x-request-id", request.id)
    return given if given.isprintable() and len(given) <= 100 else request.id


def _part(request: Request) -> str:
    return request.part and f" with {request.part}"
