"""Every route refuses what it can't do with the right status, in the form of its family, naming what is allowed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from checkpoints import LONG
from routes import READ, ROUTES, Route, assert_error
from serving import Server, serve

#: Fields that are taken and mean nothing here, and one that is an object itself.
UNREAD = {"user", "rank_fields", "max_chunks_per_doc", "max_question_len", "parameters"}

CUTTING = [route for route in ROUTES if {"truncate", "truncation"} & set(route.nulls) and route.path != "/v2/embed"]
LISTS = [route for route in ROUTES if route.texts]
EMPTY = [route for route in LISTS if route.path != "/vertex" and not route.path.startswith("/tasks/")]
HEADS = [route for route in ROUTES if route.refuses]
EMBED = [route for route in ROUTES if "dimensions" in route.nulls]
PROMPTED = [route for route in ROUTES if "prompt_name" in route.nulls and route.model == "prompts"]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_bad_json(server: Server, route: Route) -> None:
    path, body = route.with_model()
    nested = None if route.path == "/rerank" else route.nested
    whole = json.dumps(body).encode()
    for content in (b"", b"{", b"\xff\xfe", whole[:-1], whole + b" x", whole[:-1] + b', "a": NaN}'):
        assert_error(server.post(path, content), 400, nested, "JSON")


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("content", [[], "text", 3, None, {}])
def test_json_of_another_shape(server: Server, route: Route, content: Any) -> None:
    path, _ = route.with_model()
    nested = None if route.path == "/rerank" else route.nested
    assert_error(server.post(path, content), 422, nested)


@pytest.mark.parametrize("route", EMPTY, ids=str)
def test_no_texts(server: Server, route: Route) -> None:
    path, body = route.with_model()
    assert_error(server.post(path, body | {route.texts: []}), 400, route.nested, route.texts, "empty")


@pytest.mark.parametrize(
    "route", [route for route in LISTS if route not in EMPTY and route.path != "/vertex"], ids=str
)
def test_no_texts_are_no_results_as_in_the_library(server: Server, route: Route) -> None:
    path, body = route.with_model()
    assert server.ask(path, body | {route.texts: []})["results"] == []


def test_no_instances(server: Server) -> None:
    assert_error(server.post("/models/minilm/vertex", {"instances": []}), 400, False, "instances", "empty")


@pytest.mark.parametrize("route", LISTS, ids=str)
@pytest.mark.parametrize("wrong", [3, {"a": 1}, [{"a": 1}], [None], [3.5], ["a", True]])
def test_texts_that_are_none(server: Server, route: Route, wrong: Any) -> None:
    if route.path == "/vertex" and isinstance(wrong, list):
        wrong = [{"inputs": wrong}]
    path, body = route.with_model()
    assert_error(server.post(path, body | {route.texts: wrong}), 422, route.nested)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.nulls or r.inner], ids=str)
def test_fields_of_another_type(server: Server, route: Route) -> None:
    path, body = route.with_model()
    for name in set(route.nulls) - UNREAD:
        assert_error(server.post(path, body | {name: {"no": ["such"]}}), 422, route.nested, name)
    for name in set(route.inner) - UNREAD:
        parameters = body["parameters"] | {name: {"no": ["such"]}}
        assert_error(server.post(path, body | {"parameters": parameters}), 422, route.nested, name)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.path != "/vertex"], ids=str)
def test_a_field_that_is_missing(server: Server, route: Route) -> None:
    path, body = route.with_model()
    for name in set(body) - {"model", "parameters", "input_type"}:
        rest = {key: value for key, value in body.items() if key != name}
        nested = None if route.path == "/rerank" else route.nested
        assert_error(server.post(path, rest), 422, nested, name)


@pytest.mark.parametrize("route", PROMPTED, ids=str)
def test_an_unknown_prompt(server: Server, route: Route) -> None:
    path, body = route.with_model()
    assert_error(server.post(path, body | {"prompt_name": "nonsense"}), 400, route.nested, "nonsense", "passage")


@pytest.mark.parametrize("route", EMBED, ids=str)
@pytest.mark.parametrize("dimensions", [0, -1, 13])
def test_dimensions_that_the_model_has_not(server: Server, route: Route, dimensions: int) -> None:
    path, body = route.with_model()
    assert_error(server.post(path, body | {"dimensions": dimensions}), 400, route.nested, str(dimensions), "12")


@pytest.mark.parametrize("route", CUTTING, ids=str)
def test_a_long_text_that_must_not_be_cut(server: Server, route: Route) -> None:
    path, body = route.with_model()
    texts = route.texts or "context"
    long = f"[MASK] {LONG}" if route.path == "/tasks/fill_mask" else LONG
    value = [long] if isinstance(body[texts], list) else long
    flag = "truncate" if "truncate" in route.nulls else "truncation"
    message = assert_error(server.post(path, body | {texts: value, flag: False}), 422, route.nested, "48", flag)
    # What was given, as far as it was counted, beside what is allowed.
    assert [number for number in map(int, filter(str.isdigit, message.replace(",", "").split())) if number > 48]


@pytest.mark.parametrize("route", HEADS, ids=str)
def test_a_model_without_the_head(server: Server, route: Route) -> None:
    path, body = route.with_model("minilm")
    # It says what the model can do.
    assert_error(server.post(path, body), route.refuses, route.nested, "embed")


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_an_unknown_model(server: Server, route: Route) -> None:
    path, body = route.with_model("nonsense")
    message = assert_error(server.post(path, body), 404, route.nested, "nonsense", "minilm")
    assert "nli" in message
    reply = server.post(f"/models/nonsense{route.path.rstrip('/')}", route.body)
    assert_error(reply, 404, None, "nonsense")
    if route.nested:
        assert server.post(path, body).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("route", "method"),
    # GET / is health.
    [(r, method) for r in ROUTES for method in ("GET", "PUT", "DELETE") if (r.path, method) != ("/", "GET")],
    ids=str,
)
def test_another_method(server: Server, route: Route, method: str) -> None:
    reply = server.request(method, route.path, b"{}", {"content-type": "application/json"})
    assert "POST" in reply.headers["allow"].split(", ")
    assert_error(reply, 405, None if route.path == "/rerank" else route.nested, method)


@pytest.mark.parametrize("path", list(READ))
def test_another_method_than_get(server: Server, path: str) -> None:
    reply = server.post(path, {})
    assert "GET" in reply.headers["allow"].split(", ")
    assert_error(reply, 405, None, "POST")


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v2/nothing", "/models/minilm/nothing", "/pipeline/none"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route(server: Server, path: str, method: str) -> None:
    reply = server.request(method, path, b"{}", {"content-type": "application/json"})
    assert_error(reply, 404, True if path.startswith(("/v1", "/v2")) else None)


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_type_of_content(server: Server, route: Route, kind: str) -> None:
    path, body = route.with_model()
    reply = server.post(path, body, content_type=kind)
    assert_error(reply, 415, None if route.path == "/rerank" else route.nested, kind, "application/json")


def test_json_with_a_charset_is_json(server: Server) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        assert server.post("/models/prompts/embed", {"inputs": "a"}, content_type=kind).status == 200


@pytest.fixture(scope="module")
def locked(folders: dict[str, Any]) -> Iterator[Server]:
    """A server that asks for one of two keys."""
    with serve(*folders.values(), served_model_name=list(folders), api_key=["first", "second"]) as server:
        yield server


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_missing_or_wrong_key(locked: Server, route: Route) -> None:
    path, body = route.with_model()
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic first"}, {"authorization": ""}):
        reply = locked.post(path, body, **header)
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert_error(reply, 401, None if route.path == "/rerank" else route.nested, "key")
    for key in ("first", "second"):
        assert locked.post(path, body, authorization=f"Bearer {key}").status == 200


@pytest.mark.parametrize("path", list(READ))
def test_what_is_open_without_a_key(locked: Server, path: str) -> None:
    reply = locked.get(path)
    assert reply.status == (200 if READ[path] else 401)
    assert locked.get(path, authorization="Bearer second").status == 200


def test_metrics_can_be_locked(folders: dict[str, Any]) -> None:
    with serve(folders["moods"], api_key="secret", protect_metrics=True) as server:
        assert server.get("/metrics").status == 401
        assert server.get("/metrics", authorization="Bearer secret").status == 200
        assert server.get("/health").status == 200


def test_empty_texts_can_be_refused(folders: dict[str, Any]) -> None:
    with serve(folders["prompts"], refuse_empty=True) as server:
        assert_error(server.post("/embed", {"inputs": ""}), 400, False, "empty")
        assert_error(server.post("/embed", {"inputs": ["a", ""]}), 400, False, "empty")
        assert_error(server.post("/v1/embeddings", {"input": ""}), 400, True, "empty")
        assert server.post("/embed", {"inputs": "a"}).status == 200


def test_truncation_can_be_off_where_nothing_is_said(folders: dict[str, Any]) -> None:
    with serve(folders["prompts"], no_truncation=True) as server:
        assert_error(server.post("/embed", {"inputs": LONG}), 422, False, "48")
        assert server.post("/embed", {"inputs": LONG, "truncate": True}).status == 200
        assert server.get("/info").json()["auto_truncate"] is False


def test_ids_outside_the_vocabulary(server: Server) -> None:
    reply = server.post("/models/minilm/embed", {"inputs": [[101, 30_522, 102]]})
    assert_error(reply, 400, False, "30522")
    reply = server.post("/v1/embeddings", {"model": "minilm", "input": [[15339, 99_999]]})
    assert_error(reply, 400, True, "check_embedding_ctx_length=False")
    assert_error(server.post("/models/minilm/embed", {"inputs": [-1]}), 422, False)
    assert_error(server.post("/models/minilm/decode", {"ids": [30_522]}), 400, False, "30522")


def test_lone_surrogates_are_refused(server: Server) -> None:
    assert_error(server.post("/models/minilm/embed", b'{"inputs": "a\\ud800b"}'), 400, False)


def test_several_models_and_none_named(server: Server) -> None:
    assert_error(server.post("/embed", {"inputs": "a"}), 400, False, "minilm", "nli")
    assert_error(server.post("/v1/embeddings", {"input": "a"}), 400, True, "minilm", "nli")


def test_a_client_that_leaves_does_no_harm(server: Server) -> None:
    place = urlsplit(server.url)
    body = json.dumps({"inputs": ["some text " * 40] * 300}).encode()
    headers = ["host: x", "content-type: application/json", f"content-length: {len(body)}"]
    head = "\r\n".join(["POST /models/minilm/embed HTTP/1.1", *headers]).encode()
    for sent in (head, head + b"\r\n\r\n" + body[:100], head + b"\r\n\r\n" + body):
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall(sent)
    assert server.ask("/models/minilm/embed", {"inputs": "a"})
    assert server.get("/readyz").status == 200
    assert "Traceback" not in server.log
