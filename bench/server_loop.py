"""How long the server's event loop is held up under loads of many kinds, seen by a beat in it every millisecond.

A beat that comes late waited for what the loop did meanwhile, for Python's lock, or for a core; the loads share the
cores with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import MODEL, arguments, read_workload, save
from server import free_port

BEAT = 0.001  # seconds
LIMIT = 0.005  # seconds that the loop should never be held up longer than
MANY = 10_000


@dataclass(frozen=True)
class Request:
    """What one client sends, over and over."""

    path: str
    body: bytes
    accept: str = "application/json"
    clients: int = 1


def serve(port: str, file: str) -> None:
    """Serve, with a beat in the event loop; in the end write when beats came late, and by how much."""
    from bothways.server.run import serve as run
    from bothways.server.service import Service
    from bothways.server.settings import Settings

    beats: list[tuple[float, float]] = []

    async def beat() -> None:
        while True:
            due = time.perf_counter() + BEAT
            await asyncio.sleep(BEAT)
            now = time.perf_counter()
            beats.append((now, now - due))

    start: Callable[[Service], None] = Service.start

    def start_both(service: Service) -> None:
        start(service)
        tasks.append(asyncio.get_running_loop().create_task(beat()))

    tasks: list[asyncio.Task[None]] = []
    Service.start = start_both  # type: ignore[method-assign]
    run(Settings(model=(MODEL,), port=int(port), log_level="warning"))
    Path(file).write_text(json.dumps(beats))


def send(port: int, request: Request, until: float, wrong: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": "application/json", "Accept": request.accept}
    with contextlib.closing(connection):
        while time.perf_counter() < until and not wrong:
            connection.request("POST", request.path, request.body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                wrong.append(f"{request.path} answered {response.status}: {answer[:300].decode(errors='replace')}")


def load(port: int, requests: list[Request], seconds: float) -> tuple[float, float]:
    """Send requests for so long; when that began and ended."""
    wrong: list[str] = []
    begin = time.perf_counter()
    threads = [
        threading.Thread(target=send, args=(port, request, begin + seconds, wrong))
        for request in requests
        for _ in range(request.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        sys.exit(f"error: {wrong[0]}")
    return begin, time.perf_counter()


def loads(texts: list[str]) -> dict[str, list[Request]]:
    def body(**fields: Any) -> bytes:
        return json.dumps(fields).encode()

    many = [f"{texts[n % len(texts)]} ({n})" for n in range(MANY)]
    long = [f"{n} " + "a long text of many words and no end " * 5400 for n in range(30)]
    small = Request("/v1/embeddings", body(input=texts[0]), clients=8)
    as_json = Request("/v1/embeddings", body(input=many))
    as_base64 = Request("/v1/embeddings", body(input=many, encoding_format="base64"))
    binary = Request("/embed", body(inputs=many), "application/x-npy")
    # Nearly all of it is passed over, but read.
    large = Request("/v1/embeddings", body(input=texts[0], passed_over=["x" * 200] * 39_000))
    return {
        "small requests, 8 at a time": [small],
        "30 texts of 200,000 characters": [Request("/v1/embeddings", body(input=long))],
        "10,000 texts, base64": [as_base64],
        "10,000 texts, JSON": [as_json],
        "10,000 texts, .npy": [binary],
        "JSON, base64 and small ones at once": [as_json, as_base64, small],
        "a body of 8 MB": [large],
    }


def wait(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return  # it listens when the model is loaded
        time.sleep(0.1)
    sys.exit("error: the server did not start")


def summary(beats: list[tuple[float, float]], window: tuple[float, float]) -> dict[str, float]:
    late = sorted(late for now, late in beats if window[0] <= now <= window[1])
    return {
        "beats": len(late),
        "longest_ms": round(1000 * late[-1], 1),
        "p99.9_ms": round(1000 * late[int(0.999 * len(late))], 1),
        "beats_over_5_ms": sum(one > LIMIT for one in late),
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    options = parser.parse_args()
    wanted = loads(read_workload(options.data, "short"))
    windows = {}
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "beats.json"
        port = free_port()
        server = subprocess.Popen([sys.executable, __file__, "--serve", str(port), str(file)])
        stack.callback(server.kill)
        wait(port, server)
        for name, requests in wanted.items():
            load(port, requests, 1)
            print(name, file=sys.stderr)
            windows[name] = load(port, requests, options.seconds)
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        beats = json.loads(file.read_text())
    results = {name: summary(beats, window) for name, window in windows.items()}
    for name, row in results.items():
        print(f"{name:38} {'   '.join(f'{key} {value}' for key, value in row.items())}")
    save("server_loop", {"seconds": options.seconds, "loads": results}, options)


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:2] == ["--serve"] else main()
