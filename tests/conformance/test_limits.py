"""What is too much: limits are named with the flag that moves them, and a full server says when to come again."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from checkpoints import LONG, SOUND
from routes import ROUTES, Route, assert_error
from serving import Reply, Server, serve

#: Texts of some 120 tokens, all different, as equal ones are computed once.
HEAVY = [f"{n} " + "some text " * 60 for n in range(30)]
TOKENS = ("max_queue_tokens", "max_request_tokens")
LISTS = [r for r in ROUTES if r.texts and r.path not in ("/tasks/fill_mask", "/pipeline/fill-mask", "/vertex")]


@pytest.fixture(scope="module")
def small(folders: dict[str, Any]) -> Iterator[Server]:
    """A server that takes little."""
    limits = {"max_body_bytes": 5000, "max_items": 8, "max_request_tokens": 100, "max_text_chars": 1000}
    with serve(*folders.values(), served_model_name=list(folders), **limits) as server:
        yield server


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_body_that_is_too_large(small: Server, route: Route) -> None:
    path, body = route.with_model()
    nested = None if route.path == "/rerank" else route.nested
    reply = small.post(path, body | {"zzz": "x" * 5000})
    assert_error(reply, 413, nested, "5000", "--max-body-bytes")
    assert small.post(path, body).status == 200


def test_a_body_of_no_known_length_is_counted_too(small: Server) -> None:
    place = urlsplit(small.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    try:
        headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
        chunks = [b'{"inputs": "', *[b"x" * 1000] * 6, b'"}']
        # What is refused need not be read to its end.
        with suppress(BrokenPipeError):
            connection.request("POST", "/models/prompts/embed", iter(chunks), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert_error(Reply(answer.status, answer.headers, answer.read()), 413, False, "5000", "--max-body-bytes")
    finally:
        connection.close()


def texts(route: Route, count: int, text: str = SOUND) -> Any:
    """So many texts as a route takes them."""
    if route.path == "/predict":
        return [[text]] * count
    return [text] * count


@pytest.mark.parametrize("route", LISTS, ids=str)
def test_too_many_items(small: Server, route: Route) -> None:
    path, body = route.with_model()
    reply = small.post(path, body | {route.texts: texts(route, 9)})
    assert_error(reply, 413, route.nested, "8", "--max-items")
    # As many with the other side's three texts, or for two labels each.
    assert small.post(path, body | {route.texts: texts(route, 4)}).status == 200


# Of /tokenize nothing is computed.
@pytest.mark.parametrize("route", [route for route in LISTS if route.path != "/tokenize"], ids=str)
def test_too_many_tokens(small: Server, route: Route) -> None:
    path, body = route.with_model()
    # Four texts of 48 tokens each, once they are cut.
    long = [f"{n} {SOUND} " * 10 for n in range(4)]
    reply = small.post(path, body | {route.texts: [[text] for text in long] if route.path == "/predict" else long})
    assert_error(reply, 413, route.nested, "100", "--max-request-tokens")


@pytest.mark.parametrize("route", LISTS, ids=str)
def test_too_many_characters(small: Server, route: Route) -> None:
    path, body = route.with_model()
    reply = small.post(path, body | {route.texts: texts(route, 1, "x" * 1001)})
    assert_error(reply, 413, route.nested, "1000", "--max-text-chars")
    assert small.post(path, body | {route.texts: texts(route, 1, "x" * 990)}).status == 200


@pytest.mark.parametrize(
    ("limit", "path"), [("max_queue_requests", "/v1/embeddings"), ("max_queue_tokens", "/models/minilm/embed")]
)
def test_a_full_queue(folders: dict[str, Any], limit: str, path: str) -> None:
    bounds = {"max_queue_requests": 2} if limit == "max_queue_requests" else dict.fromkeys(TOKENS, 8000)
    field = "input" if path == "/v1/embeddings" else "inputs"
    with serve(folders["minilm"], served_model_name="minilm", threads=1, **bounds) as server:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: server.post(path, {field: HEAVY}), range(8)))
        refused = [reply for reply in replies if reply.status != 200]
        assert 0 < len(refused) < 8, [reply.status for reply in replies]
        for reply in refused:
            assert_error(reply, 429, field == "input", "--" + limit.replace("_", "-"))
            assert int(reply.headers["retry-after"]) >= 1
        # It recovers, and was healthy all the time.
        assert server.post(path, {field: "a"}).status == 200
        assert server.get("/readyz").status == 200


def test_a_limit_of_one_lets_one_in_at_a_time(folders: dict[str, Any]) -> None:
    with serve(folders["prompts"], max_queue_requests=1) as server:
        assert [server.post("/embed", {"inputs": "a"}).status for _ in range(5)] == [200] * 5


def test_health_does_not_wait_in_the_queue(folders: dict[str, Any]) -> None:
    with serve(folders["minilm"], threads=1) as server, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(server.post, "/embed", {"inputs": HEAVY}) for _ in range(3)]
        probes = []
        while not all(future.done() for future in running):
            probes.append((server.get("/health").status, server.get("/livez").status, server.get("/readyz").status))
        assert set(probes) == {(200, 200, 200)}
        assert len(probes) > 10
        assert {future.result().status for future in running} == {200}


@pytest.mark.parametrize("path", ["/models/minilm/embed", "/v1/embeddings", "/tasks/embed"])
def test_a_deadline(server: Server, path: str) -> None:
    field = {"/v1/embeddings": "input", "/tasks/embed": "texts"}.get(path, "inputs")
    reply = server.post(path, {"model": "minilm", field: HEAVY}, x_request_timeout="0.001")
    assert_error(reply, 504, field == "input", "x-request-timeout")
    assert server.post(path, {"model": "minilm", field: "a"}, x_request_timeout="30").status == 200


def test_a_deadline_for_all(folders: dict[str, Any]) -> None:
    with serve(folders["minilm"], request_timeout=0.4, threads=1) as server:
        huge = [f"{text} {n}" for text in HEAVY for n in range(16)]
        assert_error(server.post("/embed", {"inputs": huge}), 504, False, "--request-timeout")
        # No request can make it longer.
        reply = server.post("/embed", {"inputs": huge}, x_request_timeout="60")
        assert_error(reply, 504, False, "--request-timeout")
        assert server.post("/embed", {"inputs": "a"}).status == 200


def test_the_openai_client_comes_again(folders: dict[str, Any]) -> None:
    with serve(folders["minilm"], threads=1, max_queue_requests=2) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=20) as client:

            def embed(_: int) -> int:
                return len(client.embeddings.create(model="minilm", input=HEAVY[:5]).data)

            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(embed, range(4))) == [5] * 4


def test_long_texts_are_no_fault(server: Server) -> None:
    answer = server.ask("/v1/embeddings", {"model": "minilm", "input": [LONG * 20] * 3})
    assert answer["usage"]["total_tokens"] == 3 * 256
