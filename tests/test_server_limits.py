"""What strangers may ask of a server: every part of a request is bounded, whoever it is for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from serving import Server, serve, wait_for
from task_checkpoints import save_task

from bothways.server.calls import Call
from bothways.server.metrics import Metrics
from bothways.server.models import Models
from bothways.server.problems import Problem
from bothways.server.service import Service
from bothways.server.settings import Settings

NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
SMALL = {
    "max_items": 40,
    "max_text_chars": 200,
    "max_answer_bytes": 200_000,
    "max_queue_requests": 4,
    "body_timeout": 5,
}


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    nli = save_task(folder / "nli", "bert", "classification", id2label=NLI)
    masks = save_task(folder / "masks", "bert", "masked_lm")
    answers = save_task(folder / "answers", "bert", "question_answering")
    cross = save_task(folder / "cross", "bert", "classification", num_labels=1)
    names = ["minilm", "nli", "masks", "answers", "cross"]
    with serve(minilm, nli, masks, answers, cross, served_model_name=names, **SMALL) as server:
        yield server


LONG = "dog " * 60

TOO_MUCH: list[tuple[str, dict[str, Any], str]] = [
    ("/tasks/zero_shot", {"texts": "a", "labels": ["x"] * 41}, "max_items"),
    ("/tasks/zero_shot", {"texts": "a", "labels": ",".join("x" * 41)}, "max_items"),
    ("/tasks/zero_shot", {"texts": ["a"] * 20, "labels": ["x", "y", "z"]}, "max_items"),
    ("/tasks/zero_shot", {"texts": "a", "labels": [LONG]}, "max_text_chars"),
    ("/tasks/zero_shot", {"texts": "a", "labels": ["x"], "template": LONG + "{}"}, "max_text_chars"),
    (
        "/models/nli/pipeline/zero-shot-classification",
        {"inputs": "a", "parameters": {"candidate_labels": LONG}},
        "max_",
    ),
    ("/models/minilm/tasks/embed", {"texts": "a", "prompt": LONG}, "max_text_chars"),
    ("/v1/embeddings", {"input": "a", "prompt": LONG, "model": "minilm"}, "max_text_chars"),
    ("/tasks/fill_mask", {"texts": "a [MASK]", "targets": ["x"] * 41}, "max_items"),
    ("/tasks/fill_mask", {"texts": ["[MASK] " * 25] * 20, "top_k": None}, "max_answer_bytes"),
    (
        "/models/masks/pipeline/fill-mask",
        {"inputs": "[MASK] " * 20, "parameters": {"top_k": 10**9}},
        "max_answer_bytes",
    ),
    ("/models/minilm/embed_all", {"inputs": [f"{n} {'dog ' * 40}" for n in range(20)]}, "max_answer_bytes"),
    # Equal texts are computed once, but the answer has them all.
    ("/models/minilm/embed_all", {"inputs": ["dog " * 40] * 20}, "max_answer_bytes"),
    ("/tasks/zero_shot", {"texts": "a", "labels": ["x"] * 40, "template": "0123456789{}"}, "max_text_chars"),
    ("/v1/rerank", {"query": "a", "documents": [LONG], "max_tokens_per_doc": 3, "model": "cross"}, "max_text_chars"),
    ("/models/minilm/tasks/similarity", {"a": ["a"] * 41, "b": ["b"]}, "max_items"),
    ("/models/minilm/vertex", {"instances": [{"inputs": "a"}] * 41}, "max_items"),
    ("/models/minilm/vertex", {"instances": [{"inputs": ["a"] * 30}] * 2}, "max_items"),
    ("/models/minilm/embed", {"inputs": [[7592]] * 41}, "max_items"),
]


@pytest.mark.parametrize(("path", "body", "limit"), TOO_MUCH)
def test_every_part_of_a_request_has_a_limit(server: Server, path: str, body: dict[str, Any], limit: str) -> None:
    reply = server.post(path, body)
    assert reply.status == 413, reply.body
    said = reply.json()
    code = said["error"]["code"] if isinstance(said["error"], dict) else said["code"]
    assert code.startswith(limit)
    assert f"--{code.replace('_', '-')}" in reply.body.decode()


def test_a_question_has_so_many_answers_and_no_more(server: Server) -> None:
    question = {"question": "who?", "context": "the quick brown fox"}
    reply = server.post("/tasks/answer", question | {"top_k": 1001})
    assert (reply.status, reply.json()["code"], "1000" in reply.json()["error"]) == (413, "max_answers", True)
    assert server.post("/tasks/answer", question | {"top_k": 1000}).status == 200


def test_ids_beyond_any_vocabulary_are_no_ids(server: Server) -> None:
    reply = server.post("/models/minilm/embed", {"inputs": [[2**61 - 1]]})
    assert (reply.status, reply.json()["code"]) == (422, "invalid_field")


def test_bytes_that_answers_hold_are_counted_past_the_limit(minilm: Path) -> None:
    async def scenario() -> None:
        service = Service(Settings((str(minilm),), max_queue_bytes=1000), Models([]), Metrics())
        first, second = (
            Call({"headers": [], "method": "POST", "path": "/"}, None, service.settings, "tei")  # type: ignore[arg-type]
            for _ in range(2)
        )
        service.limits.hold(first, 5000, refuse=False)
        with pytest.raises(Problem, match="5000 bytes are under way, the limit is 1000; send it again in 1 s"):
            service.limits.hold(second, 1)
        service.limits.let_go(first)
        service.limits.hold(second, 1)
        assert service.limits.held_bytes == 1
        await service.close()

    asyncio.run(scenario())


def test_padded_answers_are_foretold(server: Server) -> None:
    texts = ["dog " * 45, *(f"cat {n}" for n in range(30))]
    reply = server.post("/models/minilm/tasks/encode", {"texts": texts}, accept="application/x-npz")
    assert reply.status == 413
    assert reply.json()["code"] == "max_answer_bytes"


def test_bodies_under_way_do_not_take_the_places_of_requests(server: Server) -> None:
    place = urlsplit(server.url)
    slow = [socket.create_connection((str(place.hostname), place.port or 0)) for _ in range(12)]
    try:
        for connection in slow:
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
        time.sleep(0.2)
        assert len(server.ask("/models/minilm/embed", {"inputs": "hello"})[0]) == 384
    finally:
        for connection in slow:
            connection.close()


def test_settings_hold_on_our_own_routes_too(minilm: Path) -> None:
    with serve(minilm, no_truncation=True, refuse_empty=True) as server:
        for path, field in (("/tasks/embed", "texts"), ("/embed", "inputs"), ("/v1/embeddings", "input")):
            assert server.post(path, {field: "dog " * 300}).status == 422
            assert server.post(path, {field: ["dog", ""]}).status == 400
        assert server.post("/tasks/embed", {"texts": "dog " * 300, "truncation": True}).status == 200
        assert server.post("/similarity", {"inputs": {"source_sentence": "a", "sentences": [""]}}).status == 400


def test_what_is_served_is_told_to_those_with_a_key(minilm: Path) -> None:
    with serve(minilm, served_model_name="secret-model", api_key="k") as server:
        for path in ("/readyz", "/models/nothing/embed", "/v1/models"):
            reply = server.request("POST" if path.endswith("embed") else "GET", path)
            assert b"secret-model" not in reply.body
        assert server.request("GET", "/v1/models", headers={"authorization": "Bearer k"}).status == 200


def test_token_ids_are_cut_at_their_beginning_where_that_is_asked(server: Server) -> None:
    ids = [2003] * 300 + [3899] * 254
    left, last = (
        server.ask("/models/minilm/embed", {"inputs": [given], "truncation_direction": "left"})[0]
        for given in (ids, [3899] * 254)
    )
    assert left == last
    twice = server.ask("/models/minilm/embed", {"inputs": [[3899, 2003], [3899], [3899, 2003], "dog is"]})
    assert twice[0] == twice[2] == twice[3] != twice[1]


def test_several_requests_in_one_are_json_whatever_is_accepted(server: Server) -> None:
    reply = server.post("/models/minilm/vertex", {"instances": [{"inputs": "a"}]}, accept="application/x-npy")
    assert np.array(reply.json()["predictions"]).shape == (1, 1, 384)
    assert server.post("/models/minilm/embed", {"inputs": "a"}, accept="application/x-npy").body[:6] == b"\x93NUMPY"


def test_the_log_has_no_texts_unless_asked(minilm: Path) -> None:
    bad = {"texts": "a", "pooling": "a secret"}
    for asked in (False, True):
        with serve(minilm, **({"log_texts": True} if asked else {})) as server:
            reply = server.post("/tasks/embed", bad)
            assert reply.status == 400 and "a secret" in reply.json()["error"]
            wait_for(lambda server=server: "invalid_value" in server.log)
            # The body is in the log then too, so look for the message's own words.
            assert ("use one or more of" in server.log) is asked
            assert ("a secret" in server.log) is asked


def test_texts_in_the_log_take_one_line(minilm: Path) -> None:
    with serve(minilm, log_texts=True) as server:
        server.post("/embed", b'{"inputs": "one\xc2\x85two"}\n\n2026-01-01 ERROR forged')
        server.ask("/embed", {"inputs": "ordinary"})
        lines = server.log.splitlines()
    assert not any(line.startswith("2026-01-01 ERROR") for line in lines)
    assert any("ordinary" in line for line in lines)


def test_plans_of_long_options_are_not_kept(minilm: Path) -> None:
    from bothways import Encoder
    from bothways.server.models import Model

    model = Model("minilm", Encoder.from_pretrained(minilm))
    assert model.plan("embed", prompt="a: ") is model.plan("embed", prompt="a: ")
    assert model.plan("embed", prompt=LONG * 10) is not model.plan("embed", prompt=LONG * 10)


def test_pages_of_other_origins_are_told_in_json(minilm: Path) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    with serve(minilm, cors_origin="https://good.example") as server:
        allowed = server.request("OPTIONS", "/embed", headers={"origin": "https://good.example", **asks})
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://good.example")
        own = "x-stainless-arch, traceparent, authorization"  # as OpenAI's client has them
        asks["access-control-request-headers"] = own
        allowed = server.request("OPTIONS", "/embed", headers={"origin": "https://good.example", **asks})
        assert (allowed.status, allowed.headers["access-control-allow-headers"]) == (200, own)
        refused = server.request("OPTIONS", "/embed", headers={"origin": "https://bad.example", **asks})
        assert refused.status == 403
        assert "https://bad.example" in refused.json()["error"]
        assert "access-control-allow-origin" not in refused.headers


def test_a_browser_is_led_from_the_address_to_the_page(server: Server) -> None:
    reply = server.request("GET", "/", headers={"accept": "text/html,application/xhtml+xml"})
    assert (reply.status, reply.headers["location"]) == (307, "docs")
    assert server.request("GET", "/docs").headers.get_content_type() == "text/html"
    assert server.request("GET", "/").status == 200
