"""One request and its reply, as both clients send and get them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bothways.client.target import Target

__all__ = ["JSON", "NPY", "NPZ", "Reply", "Request", "asking", "posting"]

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"

#: So many seconds, 30 years, are no limit.
_ENDLESS = 1e9


@dataclass(frozen=True)
class Request:
    """What is sent. Its id stays the same however often that has to be.

    Attributes:
        path: Behind the server's address.
        accept: The form of the reply.
        id: What the server's log and every message call it.
        part: Which part of a call it is, for messages; "" for all of it.
    """

    method: str
    path: str
    body: bytes
    accept: str
    id: str
    part: str = ""

    def headers(self, target: Target, seconds: float | None) -> dict[str, str]:
        """All headers of its own; after `seconds` nobody waits for the reply any more."""
        own = {"accept": self.accept, "x-request-id": self.id}
        if self.body:
            own["content-type"] = JSON
        if seconds is not None and seconds < _ENDLESS:
            own["x-request-timeout"] = f"{max(seconds, 0.001):.3f}"
        return {"user-agent": "bothways", **target.headers, **own}


@dataclass(frozen=True)
class Reply:
    """What came back, with header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """What the body is said to be."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @cached_property
    def parsed(self) -> Any:
        """The body read as JSON; anything else is a ValueError."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def asking(path: str) -> Request:
    """A request that only asks."""
    return Request("GET", path, b"", JSON, uuid.uuid4().hex)


def posting(path: str, body: Mapping[str, Any], accept: str, part: str = "") -> Request:
    """A request with a body.

    Raises:
        UnicodeEncodeError: A text has half a character in it.
    """
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    return Request("POST", path, content, accept, uuid.uuid4().hex, part)
