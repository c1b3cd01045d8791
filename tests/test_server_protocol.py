"""HTTP itself: heads that are too large or ask for another protocol, and answers that are taken too slowly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from raw_requests import all_of, answers, connected, post, sent
from serving import Server, serve
from uvicorn.server import ServerState

from bothways.server.protocol import Protocol

GOOD = b'{"inputs": "a good text"}'
MOST = 1 << 16

# As Java's HttpClient makes its first request to any address without TLS.
H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA"]


@pytest.fixture(scope="module")
def server(minilm: Path) -> Iterator[Server]:
    with serve(minilm, threads=1, body_timeout=5, keep_alive=5) as server:
        yield server
        assert server.process.poll() is None
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def good(server: Server) -> list[list[float]]:
    answer: list[list[float]] = server.post("/embed", GOOD).json()
    return answer


def get(*headers: bytes, path: bytes = b"/health") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"host: x", *headers, b"", b""])


@pytest.mark.parametrize(
    "request_",
    [
        get(path=b"/" + b"a" * MOST),
        get(b"x: " + b"a" * MOST),
        get(*(b"x-%d: %b" % (n, b"a" * 50) for n in range(1200))),
        get(b"x: " + b"a" * 3 * MOST)[:-4],
        get(path=b"/" + b"a" * 3 * MOST)[: -len(b" HTTP/1.1\r\n\r\n")],
        post(b"3\r\nabc\r\n0\r\nx: " + b"a" * 3 * MOST, "transfer-encoding: chunked"),
        post(b"3\r\nabc\r\n0\r\n" + b"x: 12345\r\n" * (MOST // 3), "transfer-encoding: chunked"),
    ],
    ids=["url", "header", "headers", "endless header", "endless url", "endless trailer", "trailers"],
)
@pytest.mark.parametrize("piece", [1000, 50_000, 1 << 20])
def test_a_head_that_is_too_large_is_a_431(server: Server, request_: bytes, piece: int) -> None:
    pieces = [request_[begin : begin + piece] for begin in range(0, len(request_), piece)]
    ((status, body),) = sent(server, *pieces)
    assert (status, body["code"], str(MOST) in body["error"]) == (431, "head_too_large", True)


def test_a_head_of_60_kilobytes_is_none(server: Server) -> None:
    assert server.get("/health", x="a" * 60_000).status == 200


def test_a_header_of_many_megabytes_costs_nothing(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nx: ")
        begin = time.perf_counter()
        with pytest.raises(OSError, match="reset|[Pp]ipe"):  # it is closed 5 s after the answer at the latest
            for _ in range(1000):
                connection.sendall(b"a" * 100_000)
                assert server.get("/health").status == 200
                time.sleep(0.02)
        assert time.perf_counter() - begin < 15


def test_a_request_to_upgrade_is_answered_without(server: Server, good: list[list[float]]) -> None:
    last = post(GOOD, "connection: close")
    assert sent(server, post(GOOD, *H2C) + last) == [(200, good)] * 2
    assert sent(server, post(GOOD) + post(GOOD, *H2C) + post(GOOD, *H2C) + last) == [(200, good)] * 4
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    assert sent(server, post(chunked, "transfer-encoding: chunked", *H2C) + last) == [(200, good)] * 2
    websocket = get(b"connection: keep-alive, Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13")
    with connected(server) as connection:
        connection.sendall(websocket + last)
        assert all_of(connection).count(b"HTTP/1.1 200 OK\r\n") == 2


def test_a_request_to_upgrade_in_two_pieces(server: Server, good: list[list[float]]) -> None:
    request = post(GOOD, *H2C)
    for cut in range(1, len(request), 7):
        with connected(server) as connection:
            connection.sendall(request[:cut])
            time.sleep(0.002)
            connection.sendall(request[cut:] + post(GOOD, "connection: close"))
            assert answers(all_of(connection)) == [(200, good)] * 2, request[:cut]


def test_a_body_that_speaks_of_upgrades_is_left_alone(server: Server) -> None:
    body = b'{\r\n"upgrade": "h2c",\r\n\r\n"inputs": "a good text Upgrade: h2c"}'
    expected = server.ask("/embed", {"inputs": "a good text Upgrade: h2c"})
    assert sent(server, post(body) + post(body, "connection: close")) == [(200, expected)] * 2


def test_a_request_to_connect_is_refused(server: Server) -> None:
    for request in (b"CONNECT /embed HTTP/1.1\r\nhost: x\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n"):
        ((status, body),) = sent(server, request)
        assert (status, body["code"]) == (400, "invalid_http")


def test_the_next_request_has_time_of_its_own(minilm: Path) -> None:
    with serve(minilm, threads=1) as server, connected(server) as connection:
        head, body = post(GOOD, "connection: close").split(b"\r\n\r\n")
        connection.sendall(post(GOOD) + head + b"\r\n\r\n")
        time.sleep(5.5)  # longer than the rest of a request may take that was answered early
        connection.sendall(body)
        assert [status for status, _ in answers(all_of(connection))] == [200, 200]


class _Loop:
    """A loop whose clock is turned by hand, and what it is to do later."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.later: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        loop = self

        class Timer:
            at = loop.now + seconds

            def cancel(self) -> None:
                loop.later.remove((self, call))

        timer = Timer()
        self.later.append((timer, call))
        return timer

    def turn(self, seconds: float) -> None:
        """Turn the clock on."""
        self.now += seconds
        for timer, call in list(self.later):
            if timer.at <= self.now and (timer, call) in self.later:
                self.later.remove((timer, call))
                call()


class _Transport:
    aborted = closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True


@pytest.mark.parametrize(("rate", "cut"), [(5_000, True), (30_000, False)])
def test_an_answer_that_is_taken_too_slowly_is_given_up(rate: int, cut: bool) -> None:
    loop, connection = _Loop(), _Transport()
    config = uvicorn.Config(lambda *_: None, http=Protocol, ws="none", log_config=None)
    protocol = Protocol(config, ServerState(), {}, loop)  # type: ignore[arg-type]
    protocol.connection_made(connection)
    protocol._disarm()
    loop.now += 600
    protocol.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
    for _ in range(200):
        protocol.transport.write(b"x" * 100_000)
        protocol.pause_writing()
        # It always moves within the time that nothing may move.
        loop.turn(100_000 / rate)
        if connection.aborted:
            break
        protocol.resume_writing()
    assert connection.aborted is cut
    if cut:
        # The time for a head, and that of what was sent at 16 kB/s.
        written = protocol.transport._written  # type: ignore[attr-defined]
        assert loop.now - 1600 <= 30 + written / 16_000 + 100_000 / rate
