"""What goes back: a status, headers, and a body in one piece or many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from bothways.errors import CheckpointError
from bothways.server.calls import Send

__all__ = ["Parts", "Reply", "check_finite", "floats", "json_reply", "listed"]

#: A body piece by piece.
Parts: TypeAlias = "list[bytes | memoryview]"

# Numbers that are written as JSON at once: it takes about a millisecond.
_NUMBERS = 20_000

# Bytes that are handed to the connection at once.
_PIECE = 1 << 17

_encode = msgspec.json.Encoder().encode


@dataclass
class Reply:
    """A response that is ready to be sent."""

    body: bytes | Parts
    status: int = 200
    content_type: str = "application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The body's bytes."""
        return len(self.body) if isinstance(self.body, bytes) else sum(map(len, self.body))

    async def send(self, send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send it, waiting where the client is slow to read."""
        parts: Parts = [self.body] if isinstance(self.body, bytes) else self.body
        size = self.size
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [
                    (b"content-type", self.content_type.encode()),
                    (b"content-length", b"%d" % size),
                    *self.headers,
                    *headers,
                ],
            }
        )
        if size <= _PIECE:
            await send({"type": "http.response.body", "body": b"".join(parts)})
            return
        for piece in _pieces(parts):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # a client that reads fast would keep all others waiting
        await send({"type": "http.response.body", "body": b""})


def _pieces(parts: Parts) -> Iterator[bytes]:
    """Join small parts and cut large ones."""
    held: Parts = []
    size = 0
    for part in parts:
        for begin in range(0, len(part), _PIECE):
            cut = part[begin : begin + _PIECE]
            held.append(cut)
            size += len(cut)
            if size >= _PIECE:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def json_reply(value: Any) -> Reply:
    """A value as JSON."""
    return Reply(_encode(value))


def listed(before: bytes, items: Iterable[bytes], after: bytes) -> Parts:
    """The parts of a JSON list with something around it; its items are JSON already."""
    parts: Parts = [before + b"["]
    for n, item in enumerate(items):
        if n:
            parts.append(b",")
        parts.append(item)  # as it is: to copy megabytes of them would stop the event loop
    parts.append(b"]" + after)
    return parts


def check_finite(values: npt.NDArray[Any]) -> None:
    """Refuse an array of which a value is NaN or infinite: JSON can't say it, and no client expects it.

    Raises:
        CheckpointError: It has one.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CheckpointError(
            "the embedding has values that are NaN or infinite; are the checkpoint's weights sound? Fetch it again"
        )


def floats(values: npt.NDArray[Any]) -> bytes:
    """An array as JSON, each number in the fewest digits that give the same float32 again.

    Raises:
        CheckpointError: A value is NaN or infinite, which JSON can't say.
    """
    values = np.ascontiguousarray(values)
    check_finite(values)
    rows = max(_NUMBERS // max(values[:1].size, 1), 1)
    if values.ndim != 2 or len(values) <= rows:
        return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    # Block by block, so that other threads come to their turns.
    blocks = (values[n : n + rows] for n in range(0, len(values), rows))
    return b"[%b]" % b",".join(orjson.dumps(block, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for block in blocks)
