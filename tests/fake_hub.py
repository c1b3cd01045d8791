"""A hub on this machine: a server that speaks as much of the hub's protocol as its client uses."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEWER = "f" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "model-00001-of-00002.safetensors": b"shard",
    "tokenizer.json": b"{}",
    "vocab.txt": b"a",
    "merges.txt": b"a b",
    "sentencepiece.bpe.model": b"pieces",
    "modules.json": b"[]",
    "1_Pooling/config.json": b"{}",
    "2_Dense/config.json": b"{}",
    "2_Dense/model.safetensors": b"dense",
    "pytorch_model.bin": b"pickle",
    "2_Dense/pytorch_model.bin": b"pickle",
    "onnx/config.json": b"{}",
    "onnx/model.onnx": b"onnx",
    "checkpoint-500/model.safetensors": b"unfinished",
    "tf_model.h5": b"h5",
    "README.md": b"#",
}
UNWANTED = (".bin", ".h5", ".md", "onnx/config.json", "onnx/model.onnx", "checkpoint-500/model.safetensors")
WANTED = {name for name in FILES if not name.endswith(UNWANTED)}


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for when it downloads a model."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api":
            self._answer_api("/".join(parts[2:4]), parts[4], parts[5])
        else:
            self._send_file("/".join(parts[4:]))

    do_HEAD = do_GET

    def _answer_api(self, name: str, what: str, revision: str) -> None:
        status, code = self.server.refusals.get(name, (200, ""))
        if status != 200:
            self._send(status, b"{}", {"X-Error-Code": code} if code else {})
        elif revision not in ("main", "v1", COMMIT, NEWER):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            commit = COMMIT if revision == "v1" else self.server.head
            self._send(200, json.dumps({"id": name, "sha": commit}).encode())
        else:
            tree = [{"type": "file", "path": p, "size": len(c), "oid": _hash(c)} for p, c in FILES.items()]
            self._send(200, json.dumps(tree).encode())

    def _send_file(self, path: str) -> None:
        if self.server.gated_files:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        content, revision = FILES[path], self.path.split("/")[4]
        commit = self.server.head if revision == "main" else revision
        self._send(200, content, {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": commit})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server, what it was asked for, and what it refuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHub)
        self.requests: list[str] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        self.head = COMMIT
        self.gated_files = False
