"""A server in a process of its own, on loopback: `with serve(folder, api_key="k") as server: server.get("/info")`."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

START_SECONDS = 60
STOP_SECONDS = 20

# How long a test waits for what has to come about.
PATIENCE = 30
ADDRESS = re.compile(r"listening on (http://[^\s\"]+)")


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """The body as JSON, which has no NaN and no infinity."""
        assert self.headers.get_content_type() == "application/json", (self.status, self.headers.items(), self.body)
        return json.loads(self.body, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: Its address, as it says on standard error.
        process: The process.
        log_file: Where its standard error goes.
        key: Sent as a bearer token, where it is given.
    """

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path
    key: str | None = None

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self.log_file.read_text()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make one request over a connection of its own; the headers given are all that is sent."""
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """GET; underscores in headers' names stand for hyphens."""
        return self.request("GET", path, None, self._headers(headers))

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        """POST an object as JSON, or bytes as they are; underscores in headers' names stand for hyphens."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, content, {"content-type": "application/json", **self._headers(headers)})

    def ask(self, path: str, body: Any, **headers: str) -> Any:
        """POST, and return the JSON of an answer that has to be a success."""
        reply = self.post(path, body, **headers)
        assert reply.status == 200, (path, body, reply.status, reply.body)
        return reply.json()

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        own = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return own | {name.replace("_", "-"): value for name, value in given.items()}


@contextmanager
def serve(*models: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Server]:
    """Start a server of these models, wait until it is ready, and end it in any case.

    An option is the flag of its name: True gives the flag alone, and a list the flag for each value.
    """
    command = [sys.executable, "-m", "bothways", "serve"]
    for name, value in {"model": models, "port": 0, **options}.items():
        flag = "--" + name.replace("_", "-")
        for one in value if isinstance(value, list | tuple) else [value]:
            command += [flag] if one is True else [flag, str(one)]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("BOTHWAYS_")}
    settings |= {name: os.environ[name] for name in ("BOTHWAYS_LEVEL",) if name in os.environ}
    settings |= {"HF_HUB_OFFLINE": "1", **(env or {})}
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        with log_file.open("wb") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen(command, env=settings, **streams)
        try:
            server = Server(_address(process, log_file), process, log_file)
            wait_until_ready(server)
            yield server
        finally:
            stop(process)


def _address(process: subprocess.Popen[bytes], log_file: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = ADDRESS.search(log_file.read_text())
        if found:
            return found[1].rstrip("/")
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log_file.read_text()}")
        time.sleep(0.02)
    raise AssertionError(f"the server did not say its address in {START_SECONDS} s:\n{log_file.read_text()}")


def wait_until_ready(server: Server) -> None:
    """Wait until GET /readyz says 200."""
    end = time.monotonic() + START_SECONDS
    status = 0
    while status != 200:
        assert time.monotonic() < end, f"the server is not ready after {START_SECONDS} s ({status}):\n{server.log}"
        status = server.request("GET", "/readyz").status
        time.sleep(0 if status == 200 else 0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, kindly at first."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def figure(server: Server, name: str) -> float:
    """The sum of a metric's values."""
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[ {{]", line))


@contextmanager
def started(
    model: str | Path, folder: Path, *flags: object, **more: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that serves a model, from when it says that it listens, and its log."""
    command = [sys.executable, "-m", "bothways", "serve", "--model", str(model), *map(str, flags)]
    log_file = folder / "log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("BOTHWAYS_")}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
    try:
        end = time.monotonic() + START_SECONDS
        while "listening on" not in log_file.read_text():
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < end, log_file.read_text()
            time.sleep(0.02)
        yield process, log_file
    finally:
        stop(process)


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def status(connection: http.client.HTTPConnection, path: str = "/embed", body: Any = None) -> int:
    with closing(connection):
        content = json.dumps({"inputs": "a"} if body is None else body)
        connection.request("POST", path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
