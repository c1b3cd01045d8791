"""What can go wrong with a request, and how each family of routes says so.

One table of statuses for all routes; only the envelope differs. A message says what was given, what is allowed, and
what to do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bothways.errors import BothwaysError, InputError, InputTooLong, ModelNotFound, OutOfMemory, TaskError

__all__ = ["Envelope", "Problem", "problem_body", "problem_of"]

#: How errors look: as OpenAI's (Cohere's and Infinity's routes too), or as Text Embeddings Inference's (and our own).
Envelope = Literal["openai", "tei"]

# By status: OpenAI's `type`, and TEI's `error_type`.
_TYPES = {
    400: ("invalid_request_error", "Validation"),
    401: ("authentication_error", "Unauthorized"),
    403: ("permission_error", "Unauthorized"),
    404: ("not_found_error", "NotFound"),
    405: ("invalid_request_error", "Validation"),
    406: ("invalid_request_error", "Validation"),
    408: ("timeout_error", "Timeout"),
    413: ("invalid_request_error", "Validation"),
    415: ("invalid_request_error", "Validation"),
    422: ("invalid_request_error", "Validation"),
    424: ("invalid_request_error", "Backend"),
    429: ("rate_limit_error", "Overloaded"),
    431: ("invalid_request_error", "Validation"),
    499: ("client_closed_request", "Cancelled"),
    500: ("server_error", "Backend"),
    503: ("server_error", "Unhealthy"),
    504: ("timeout_error", "Timeout"),
}


# The library's messages begin with the option that they are about.
_OPTION = re.compile(r"([a-z_]+)(?: '.*?'| is | has )", re.DOTALL)


class Problem(Exception):
    """A request that gets an error instead of an answer.

    Attributes:
        status: The HTTP status.
        message: What was given, what is allowed, and what to do.
        code: A word for programs, such as "model_not_found".
        param: The field of the request that is at fault, if it is one.
        error_type: TEI's word, where it is not the status's usual one.
        headers: Response headers beside the usual ones.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        error_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.error_type = error_type or ("Empty" if code == "empty_input" else _TYPES[status][1])
        self.headers = dict(headers or {})


def problem_of(error: BaseException, envelope: Envelope) -> Problem:
    """Tell what kind of problem an exception is; what is unknown is the server's own fault."""
    if isinstance(error, Problem):
        if error.status == 424 and envelope == "openai":
            return Problem(400, error.message, error.code, param=error.param)
        return error
    if isinstance(error, InputTooLong):
        return Problem(422, str(error), "input_too_long")
    if isinstance(error, InputError):
        option = _OPTION.match(str(error))
        return Problem(400, str(error), "invalid_value", param=option and option[1])
    if isinstance(error, TaskError):
        return Problem(424 if envelope == "tei" else 400, str(error), "task_not_supported", error_type="Backend")
    if isinstance(error, ModelNotFound):
        return Problem(404, str(error), "model_not_found")
    if isinstance(error, OutOfMemory | MemoryError):
        return Problem(503, f"out of memory: {error}", "out_of_memory", error_type="Backend")
    if isinstance(error, BothwaysError):
        return Problem(500, str(error), "backend_error")
    if isinstance(error, asyncio.CancelledError):
        return Problem(
            503, "the server is being stopped; send the request again", "stopping", headers={"retry-after": "1"}
        )
    return Problem(500, f"the server failed on this request ({type(error).__name__}); its log says where", "internal")


def problem_body(problem: Problem, envelope: Envelope, request_id: str) -> bytes:
    """Write a problem as its route's family does. Cohere's clients read `message` at the top."""
    if envelope == "tei":
        body: dict[str, Any] = {
            "error": problem.message,
            "error_type": problem.error_type,
            "code": problem.code,
            "request_id": request_id,
        }
    else:
        error = {
            "message": problem.message,
            "type": _TYPES[problem.status][0],
            "param": problem.param,
            "code": problem.code,
        }
        body = {"error": error, "message": problem.message, "request_id": request_id}
    return msgspec.json.encode(body)
