"""Clients over real connections: kept, shared, refused, cut, too slow, forked, abandoned."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import httpx2
import pytest
from client_fake import URL, Server

from bothways import BothwaysError, InputError, ServerError
from bothways.client import AsyncClient, Client


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients reach loopback whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Answering(BaseHTTPRequestHandler):
    """A fake server on a socket; each connection and each request is counted."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1  # type: ignore[attr-defined]

    def address_string(self) -> str:
        return "-"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.answer(self, httpx2.Request("POST", URL + self.path, content=body, headers=dict(self.headers)))  # type: ignore[attr-defined]


def reply(handler: Answering, request: httpx2.Request) -> None:
    """Answer whole."""
    response = Server()(request)
    handler.send_response(response.status_code)
    for name, value in response.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(response.content)


class OnSocket(ThreadingHTTPServer):
    daemon_threads = True
    answer = staticmethod(reply)
    connections = 0


class OnUnixSocket(ThreadingUnixStreamServer):
    daemon_threads = True
    answer = staticmethod(reply)
    connections = 0


@pytest.fixture
def listening() -> Iterator[OnSocket]:
    server = OnSocket(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def url_of(server: OnSocket) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def both(url: str, ask: Callable[[Any], Any], **options: Any) -> list[Any]:
    """What a call gives with each client; errors are given, not raised."""

    async def later() -> Any:
        async with AsyncClient(url, **options) as client:
            return await ask(client)

    found = []
    with Client(url, **options) as client:
        for run in (lambda: ask(client), lambda: asyncio.run(later())):
            try:
                found.append(run())
            except BothwaysError as error:
                found.append(error)
    return found


def test_connections_are_kept_and_shared_by_threads(listening: OnSocket) -> None:
    with Client(url_of(listening)) as client:
        for n in range(5):
            assert client.embed("a" * n)[0, 0] == n
        assert listening.connections == 1
        wrong: list[int] = []

        def work(n: int) -> None:
            wrong.extend(m for m in range(20) if client.embed("a" * (n + m))[0, 0] != n + m)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert listening.connections <= 9


def test_a_connection_that_nobody_takes() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for error in both(url, lambda client: client.embed("a"), retries=1):
            assert isinstance(error, ServerError)
            assert re.search(
                rf"there is no connection to {url}: Connection refused \(2 attempts in \d+.\d s\); start a server "
                r"there with `bothways serve --model ... .*\(POST /tasks/embed, request \w{32}\)",
                str(error),
            )


def test_a_server_that_closes_within_a_body(listening: OnSocket) -> None:
    ids: list[str] = []
    always = False

    def cut(handler: Answering, request: httpx2.Request) -> None:
        ids.append(request.headers["x-request-id"])
        if len(ids) % 2 or always:
            handler.send_response(200)
            handler.send_header("content-length", "1000")
            handler.end_headers()
            handler.wfile.write(b"\x93NUMPY")
            handler.close_connection = True
        else:
            reply(handler, request)

    listening.answer = cut  # type: ignore[method-assign]
    assert [found.tolist() for found in both(url_of(listening), lambda client: client.embed("a"))] == [[[1, 97]]] * 2
    assert ids[0] == ids[1] != ids[2] == ids[3]
    always = True
    for error in both(url_of(listening), lambda client: client.embed("a"), retries=0):
        assert isinstance(error, ServerError)
        assert re.search(r"ended before the whole reply was here: .*received 6 bytes, expected 1000", str(error))


def test_a_server_that_never_ends_is_left_in_time(listening: OnSocket) -> None:
    def drip(handler: Answering, request: httpx2.Request) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True

    def wait(handler: Answering, request: httpx2.Request) -> None:
        time.sleep(2)
        handler.close_connection = True

    for slow in (drip, wait):
        listening.answer = slow  # type: ignore[method-assign]
        begun = time.monotonic()
        for error in both(url_of(listening), lambda client: client.embed("a"), timeout=0.4):
            assert isinstance(error, ServerError)
            assert re.search(r"did not answer within 0.4 s; pass a larger timeout", str(error))
        assert 0.8 <= time.monotonic() - begun < 3.5


# The transport leaves a socket to the garbage collector that found no server.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    server = OnUnixSocket(str(path), Answering)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        for url in (f"unix:{path}", f"unix://{path}"):
            assert [found.tolist() for found in both(url, lambda client: client.embed("a"))] == [[[1, 97]]] * 2
            assert Client(url).url == url
    finally:
        server.shutdown()
        server.server_close()
    for error in both(f"unix:{tmp_path}/none.sock", lambda client: client.embed("a"), retries=0):
        assert f"`bothways serve --model ... --uds {tmp_path}/none.sock`" in str(error)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here")
def test_a_certificate_is_checked(listening: OnSocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -keyout {key} -out {certificate}"
    subprocess.run([*made.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    url = url_of(listening).replace("http:", "https:")
    for error in both(url, lambda client: client.embed("a")):
        assert re.search("has a certificate that is not trusted: .*self-signed.*; set SSL_CERT_FILE", str(error))
    for error in both(url_of(listening), lambda client: client.embed("a"), retries=0):
        assert "and whether it speaks https" in str(error)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert [found.tolist() for found in both(url, lambda client: client.embed("a"))] == [[[1, 97]]] * 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_connections_of_its_own(listening: OnSocket) -> None:
    with Client(url_of(listening)) as client:
        client.embed("a")
        stream = client.classify(iter(["t"] * 2000))
        next(stream)
        before = listening.connections
        child = os.fork()
        if not child:
            status = 1
            try:
                same = client.embed("aa").tolist() == [[2, 97]]
                try:
                    list(stream)
                except InputError as error:
                    status = 0 if same and "begun before a fork" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert listening.connections == before + 1
        assert len(list(stream)) == 1999
        assert client.embed("aaa").tolist() == [[3, 97]]


def test_an_abandoned_stream_sends_nothing_more(listening: OnSocket) -> None:
    seen: list[int] = []

    def refuse(handler: Answering, request: httpx2.Request) -> None:
        seen.append(1)
        if b'["t0",' in request.content:
            reply(handler, request)
        else:
            handler.send_response(503)
            handler.send_header("content-length", "0")
            handler.end_headers()

    listening.answer = refuse  # type: ignore[method-assign]
    with Client(url_of(listening), retries=50) as client:
        stream = client.classify(f"t{n}" for n in range(2000))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        time.sleep(0.1)
        count = len(seen)
        time.sleep(1)
        assert len(seen) <= count + 1


def test_a_cancelled_task_closes_its_connections(listening: OnSocket) -> None:
    gone = threading.Event()

    def wait(handler: Answering, request: httpx2.Request) -> None:
        handler.connection.settimeout(5)
        if handler.connection.recv(1) == b"":
            gone.set()
        handler.close_connection = True

    listening.answer = wait  # type: ignore[method-assign]

    async def run() -> None:
        async with AsyncClient(url_of(listening)) as client:
            task = asyncio.ensure_future(client.embed(["t"] * 1000))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, 3)

    asyncio.run(run())
