"""The load of bench/server.py, in a process of its own: every line of standard input is a job, answered with a line.

It shares the cores with the server that it asks, so it does as little as it can: requests are made beforehand, and
responses are counted, not read. Some are kept, and looked at when the time is over.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import cast

__all__ = ["Found", "Job", "Load", "Response", "percentiles"]

_KEPT = 500  # every so many responses one is looked at, beside each connection's first
_PATIENCE = 120  # seconds beyond a job's own, before it fails


@dataclass(frozen=True)
class Job:
    """What is sent: each connection's next request follows its last response (a closed loop).

    Attributes:
        texts: A file with a JSON list of texts; every request has the next ones, over and over.
        size: Texts in a request.
        settle: Seconds of the same load before those that count.
        most: Requests after which it ends in any case.
    """

    port: int
    path: str
    texts: str
    size: int
    encoding: str
    connections: int
    settle: float
    seconds: float
    dimensions: int
    most: int = 200_000


@dataclass(frozen=True)
class Found:
    """What came of a job; times are the system's clock, the same for all processes.

    Attributes:
        window: The time that counts.
        begins: When each request was sent.
        ends: When the last byte of its response was there.
        share_of_a_core: Of the load's own process.
    """

    window: tuple[float, float]
    begins: list[float]
    ends: list[float]
    share_of_a_core: float

    @property
    def spans(self) -> list[tuple[float, float]]:
        return list(zip(self.begins, self.ends, strict=True))

    @property
    def seconds(self) -> list[float]:
        """Of every request that was sent within the window."""
        return [end - begin for begin, end in self.spans if begin >= self.window[0]]

    @property
    def rate(self) -> float:
        """Requests a second within the window; one that lies in it in part counts in part."""
        first, last = self.window
        parts = (max(0.0, min(end, last) - max(begin, first)) / (end - begin) for begin, end in self.spans)
        return sum(parts) / (last - first)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In ms, without NumPy, which this process has no other use for."""
    if len(seconds) < 2:
        sys.exit("error: hardly a request fell into the time that counts; give more --seconds")
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98]}


class Load:
    """The near end: a process that carries out jobs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, job: Job) -> None:
        """Start a job, whose figures `end` gives."""
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)

    def end(self) -> Found:
        """Wait for what came of the job, or stop with what went wrong."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = json.loads(line) if line else {"error": "the load's process ended"}
        if "error" in found:
            sys.exit(f"error: {found['error']}")
        return Found(**found)

    def run(self, job: Job) -> Found:
        self.begin(job)
        return self.end()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Response:
    """An HTTP/1.1 response as it comes in, of a known length or in chunks; its body is kept only if wanted."""

    def __init__(self, keep: bool) -> None:
        self.status = 0
        self._keep = keep
        self._pieces: list[bytes] = []
        self._chunked = False
        self._left = 0  # bytes of the body, or of a chunk with its line end
        self._rest = b""  # what could not be read yet

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> bool:
        """Take what came in; whether the response is complete."""
        if not self.status:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return False
            self._read_head(head.lower())
        if self._chunked:
            return self._read_chunks(data)
        if self._keep:
            self._pieces.append(data)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"a response is {-self._left} bytes longer than its content-length")
        return self._left == 0

    def _read_head(self, head: bytes) -> None:
        self.status, self._rest = int(head[9:12]), b""
        self._keep |= self.status != 200
        fields = dict(line.partition(b":")[::2] for line in head.split(b"\r\n")[1:])
        self._chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
        if not self._chunked:
            self._left = int(fields[b"content-length"])

    def _read_chunks(self, data: bytes) -> bool:
        data, self._rest = self._rest + data, b""
        at = 0
        while True:
            if self._left:
                taken = min(self._left, len(data) - at)
                if self._keep:
                    self._pieces.append(data[at : at + min(taken, max(0, self._left - 2))])
                at, self._left = at + taken, self._left - taken
                if self._left:
                    return False
            line = data.find(b"\r\n", at)
            size = int(data[at:line].partition(b";")[0], 16) if line >= 0 else 0
            if size:
                at, self._left = line + 2, size + 2
            elif line >= 0 and data.find(b"\r\n\r\n", line) >= 0:
                return True
            else:
                self._rest = data[at:]
                return False


class Connection(asyncio.Protocol):
    """A connection that is kept: a request, its response, the next request."""

    def __init__(self, loop: ClosedLoop) -> None:
        self._loop = loop
        self.begin = 0.0
        self.response = Response(keep=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, keep: bool) -> None:
        self.response = Response(keep)
        self.begin = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            if self.response.feed(data):
                self._loop.answered(self)
        except Exception as error:
            self._loop.fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._loop.fail(error or ConnectionError("the server closed a connection"))


class ClosedLoop:
    """Everything that one job sends and what came of it."""

    def __init__(self, requests: list[bytes], job: Job) -> None:
        self._requests = itertools.cycle(requests)
        self._job = job
        self._done = asyncio.get_running_loop().create_future()
        self._busy = job.connections
        self.deadline = 0.0
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.kept: list[bytes] = []

    async def run(self) -> None:
        """Send until the time is over, and wait for the last responses."""
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._job.port))[1]
            for _ in range(self._job.connections)
        ]
        try:
            self.deadline = time.perf_counter() + self._job.settle + self._job.seconds
            for connection in connections:
                connection.send(next(self._requests), keep=True)
            await asyncio.wait_for(self._done, self._job.settle + self._job.seconds + _PATIENCE)
        finally:
            for connection in connections:
                connection.transport.abort()

    def answered(self, connection: Connection) -> None:
        now = time.perf_counter()
        self.begins.append(connection.begin)
        self.ends.append(now)
        response = connection.response
        if response.status != 200:
            raise ValueError(f"the server answered {response.status}: {response.body[:500].decode(errors='replace')}")
        if body := response.body:
            self.kept.append(body)
        if now < self.deadline and len(self.ends) + self._busy <= self._job.most:
            connection.send(next(self._requests), keep=len(self.ends) % _KEPT == 0)
            return
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def make_requests(job: Job, texts: list[str], first: int) -> list[bytes]:
    """As many requests as there are different texts for, from the one at `first` on."""
    first %= len(texts)
    ring = texts[first:] + texts[:first]
    requests = []
    for start in range(0, len(ring) - job.size + 1, job.size):
        asked = {"input": ring[start : start + job.size], "model": "model", "encoding_format": job.encoding}
        body = json.dumps(asked).encode()
        head = (
            f"POST {job.path} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nAccept: application/json\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def check(body: bytes, job: Job) -> None:
    """Stop at a response without one vector of the right size for each text."""
    vectors = [item["embedding"] for item in json.loads(body)["data"]]
    sizes = [len(base64.b64decode(v)) // 4 if isinstance(v, str) else len(v) for v in vectors]
    if sizes != [job.dimensions] * job.size:
        raise ValueError(f"{len(sizes)} vectors of {set(sizes)} numbers for {job.size} texts")
    if any(isinstance(vector, str) != (job.encoding == "base64") for vector in vectors):
        raise ValueError(f"vectors are not encoded as asked for ({job.encoding})")


async def carry_out(job: Job, requests: list[bytes]) -> Found:
    loop = ClosedLoop(requests, job)
    begin, used = time.perf_counter(), time.process_time()
    await loop.run()
    used, wall = time.process_time() - used, time.perf_counter() - begin
    for body in loop.kept:
        check(body, job)
    window = (loop.deadline - job.seconds, min(loop.deadline, loop.ends[-1]))
    return Found(window, loop.begins, loop.ends, used / wall)


def main() -> None:
    gc.disable()  # nothing of a job is a cycle, so a collection would only hold a response up
    first = 0
    for line in sys.stdin:
        job = Job(**json.loads(line))
        texts = json.loads(Path(job.texts).read_text())
        try:
            found = asyncio.run(carry_out(job, make_requests(job, texts, first)))
            first += len(found.ends) * job.size
            print(json.dumps(asdict(found)), flush=True)
        except Exception as error:
            print(json.dumps({"error": f"{job.path} with {job.connections} connections: {error!r}"}), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
