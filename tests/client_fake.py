"""A server that is not there: a handler behind both clients, with a clock that only waiting moves."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from bothways.client import AsyncClient, Client

URL = "http://fake:8080"

Handler = Callable[[httpx2.Request], httpx2.Response]


class Clock:
    """Seconds that pass by waiting alone, and each wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class FakeClient(Client):
    def __init__(self, handler: Handler, url: str = URL, **options: Any) -> None:
        super().__init__(url, **options)
        self.handler, self.clock, self.made = handler, Clock(), 0
        self._clock, self._chance = lambda: self.clock.now, lambda: 1.0

    def _open(self) -> httpx2.Client:
        self.made += 1
        return httpx2.Client(transport=httpx2.MockTransport(self.handler))

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        self.clock.wait(seconds)


class FakeAsyncClient(AsyncClient):
    def __init__(self, handler: Handler, url: str = URL, **options: Any) -> None:
        super().__init__(url, **options)
        self.handler, self.clock = handler, Clock()
        self._clock, self._chance = lambda: self.clock.now, lambda: 1.0

    def _open(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self.handler))

    async def _pause(self, seconds: float) -> None:
        self.clock.wait(seconds)


class Way:
    """One of the clients, asked as if it were no matter which: streams as lists, results waited for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = Clock()

    def ask(self, handler: Handler, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of a new client; `client` holds the client's own options."""
        own = options.pop("client", {})
        if self.name == "blocking":
            client = FakeClient(handler, **own)
            self.clock = client.clock
            with client:
                return _listed(getattr(client, method)(*args, **options))
        return asyncio.run(self._ask(FakeAsyncClient(handler, **own), method, args, options))

    async def _ask(self, client: FakeAsyncClient, method: str, args: Any, options: Any) -> Any:
        self.clock = client.clock
        async with client:
            made = getattr(client, method)(*args, **options)
            if isinstance(made, AsyncIterator):
                return [result async for result in made]
            return await made


def _listed(made: Any) -> Any:
    return list(made) if isinstance(made, Iterator) else made


@pytest.fixture(name="way", params=["blocking", "async"])
def both_ways(request: pytest.FixtureRequest) -> Way:
    """Both clients, one after the other."""
    return Way(request.param)


async def later(items: list[Any]) -> AsyncIterator[Any]:
    """Items as an async iterator."""
    for item in items:
        await asyncio.sleep(0)
        yield item


class Server:
    """Answers as a Bothways server does, with results that show what was sent, and keeps all bodies.

    A text's embedding is its length and its first character; a label is the text; a document's score is its length.
    """

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.bodies: list[dict[str, Any]] = []
        self.truncated = 0
        self.before: Callable[[dict[str, Any]], None] = lambda body: None
        self._lock = threading.Lock()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else {}
        with self._lock:
            self.requests.append(request)
            self.bodies.append(body)
        self.before(body)
        response: httpx2.Response = getattr(self, request.url.path.rpartition("/")[2])(body)
        return response

    def embed(self, body: dict[str, Any]) -> httpx2.Response:
        texts = body["texts"]
        if body["sparse"]:
            weights = [2.0, 0.5]
            return self.results([{"ids": [len(text), 1], "weights": weights, "terms": [text, "x"]} for text in texts])
        rows = [[len(text), ord(text[0]) if text else 0] for text in texts]
        if body["tokens"]:
            starts = np.cumsum([0, *map(len, texts)])
            vectors = np.array([[ord(letter)] for text in texts for letter in text], np.float32)
            return self.arrays(vectors=vectors, starts=starts)
        if body["precision"] != "float32":
            return npy(np.array(rows, np.int8), self.usage(len(texts)))
        return npy(np.array(rows, np.float32).reshape(-1, 2), self.usage(len(texts)))

    def similarity(self, body: dict[str, Any]) -> httpx2.Response:
        scores = [[len(a) * len(b) for b in body["b"]] for a in body["a"]]
        return npy(np.array(scores, np.float32), self.usage(len(body["a"]) + len(body["b"])))

    def classify(self, body: dict[str, Any]) -> httpx2.Response:
        return self.results([[{"label": str(text), "score": 0.5}] for text in body["texts"]])

    zero_shot = classify

    def tag(self, body: dict[str, Any]) -> httpx2.Response:
        spans = [{"label": "X", "score": 0.5, "start": 1, "end": 2, "text": str(text)} for text in body["texts"]]
        return self.results([[span] for span in spans])

    def fill_mask(self, body: dict[str, Any]) -> httpx2.Response:
        return self.results([[{"token": "a", "score": 0.5, "id": 7, "mask": 0, "text": t}] for t in body["texts"]])

    def answer(self, body: dict[str, Any]) -> httpx2.Response:
        sides = [[side] if isinstance(side, str) else side for side in (body["question"], body["context"])]
        count = max(map(len, sides))
        questions, contexts = (side * count if len(side) == 1 else side for side in sides)
        other = {"text": "o", "score": 0.1, "start": 0, "end": 1, "others": []}
        pairs = zip(questions, contexts, strict=True)
        return self.results([{"text": q + c, "score": 0.5, "start": 0, "end": 1, "others": [other]} for q, c in pairs])

    def rerank(self, body: dict[str, Any]) -> httpx2.Response:
        scored = [{"index": n, "score": float(len(text))} for n, text in enumerate(body["documents"])]
        return self.results(sorted(scored, key=lambda one: -one["score"])[: body["top_k"]])

    def tasks(self, body: dict[str, Any]) -> httpx2.Response:
        models = [
            {"name": "mini", "tasks": ["encode", "embed"], "max_tokens": 512, "similarity": "cosine", "more": 1},
            {"name": "tagger", "tasks": ["encode", "tag"], "labels": {"token_classification": ["O", "B-X"]}},
        ]
        return httpx2.Response(200, json={"models": models})

    def results(self, results: list[Any]) -> httpx2.Response:
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return httpx2.Response(200, json={"results": results, "usage": usage, "truncated": self.truncated})

    def arrays(self, **arrays: Any) -> httpx2.Response:
        return npz(arrays, self.usage(0))

    def usage(self, texts: int) -> dict[str, str]:
        return {"x-usage-tokens": str(3 * texts), "x-truncated": str(self.truncated)}


def npy(array: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
    file = io.BytesIO()
    np.save(file, array)
    return _binary("npy", file, headers)


def npz(arrays: dict[str, Any], headers: dict[str, str] | None = None) -> httpx2.Response:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return _binary("npz", file, headers)


def _binary(kind: str, file: io.BytesIO, headers: dict[str, str] | None) -> httpx2.Response:
    given = {"content-type": f"application/x-{kind}", **(headers or {})}
    return httpx2.Response(200, content=file.getvalue(), headers=given)


def refusal(status: int, message: str, code: str = "", **headers: str) -> httpx2.Response:
    """An error as our own routes write it."""
    body = {"error": message, "error_type": "Validation", "request_id": "r"} | ({"code": code} if code else {})
    return httpx2.Response(status, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})
