"""Requests as bytes over a connection of their own, however wrong, and the answers that come back."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from serving import PATIENCE, Server


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    place = urlsplit(server.url)
    with socket.create_connection((str(place.hostname), place.port or 80), timeout=PATIENCE) as connection:
        yield connection


def post(body: bytes, *headers: str, length: int | None = None, path: str = "/embed") -> bytes:
    """A request as bytes, whose content-length may be a lie."""
    own = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    if not any(header.startswith("transfer-encoding") for header in headers):
        own.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join(own).encode() + b"\r\n\r\n" + body


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            received += data
    return received


def answers(received: bytes) -> list[tuple[int, Any]]:
    """Responses, one after the other, their bodies as JSON."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, received
        size = int(length[1])
        assert len(rest) >= size, "a response is cut"
        found.append((int(head.split()[1]), json.loads(rest[:size])))
        received = rest[size:]
    return found


def sent(server: Server, *pieces: bytes, delay: float = 0) -> list[tuple[int, Any]]:
    with connected(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(delay)
        return answers(all_of(connection))
