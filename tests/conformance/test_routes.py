"""Every route: the exact form of its answer, null for nothing, unknown fields, and real counts of tokens."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from checkpoints import PROMPTS, TEXTS, Oracles
from routes import DOCUMENTS, QUERY, READ, ROUTES, TEXT, Route
from serving import Server, serve

#: What is different in every answer.
UNIQUE = ("id", "created")


def of(path: str, texts: str | None = None) -> Route:
    """The route of a path."""
    return next(route for route in ROUTES if route.path == path and texts in (None, route.texts))


def same(answer: Any) -> Any:
    return {k: v for k, v in answer.items() if k not in UNIQUE} if isinstance(answer, dict) else answer


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_null_says_as_much_as_nothing(server: Server, route: Route) -> None:
    path, body = route.with_model()
    expected = same(server.ask(path, body))
    for name in route.nulls:
        assert same(server.ask(path, body | {name: None})) == expected, name
    for name in route.inner:
        parameters = body.get("parameters", {}) | {name: None}
        assert same(server.ask(path, body | {"parameters": parameters})) == expected, name
    assert same(server.ask(path, body | dict.fromkeys(route.nulls))) == expected


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_unknown_fields_mean_nothing(server: Server, route: Route) -> None:
    path, body = route.with_model()
    assert same(server.ask(path, body | {"zzz": {"a": [1]}, "stream": False})) == same(server.ask(path, body))


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_route_is_one_of_each_model_too(server: Server, route: Route) -> None:
    path, body = route.with_model()
    expected = same(server.ask(path, body))
    assert same(server.ask(f"/models/{route.model}{route.path.rstrip('/')}", route.body)) == expected
    if route.path != "/vertex":
        assert same(server.ask(route.path, route.body | {"model": route.model})) == expected


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_openai_embeddings(server: Server, oracles: Oracles, path: str) -> None:
    answer = server.ask(path, {"model": "minilm", "input": TEXTS})
    assert list(answer) == ["object", "data", "model", "usage"]
    assert [list(entry) for entry in answer["data"]] == [["object", "embedding", "index"]] * len(TEXTS)
    tokens = oracles.tokens("minilm", TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", "minilm")


def test_openai_models(server: Server, folders: dict[str, Any]) -> None:
    for path in ("/v1/models", "/models"):
        answer = server.get(path).json()
        assert (answer["object"], [model["id"] for model in answer["data"]]) == ("list", list(folders))
        assert all({"id", "object", "created", "owned_by"} <= set(model) for model in answer["data"])
        assert server.get("/v1/models/nli").json() == answer["data"][list(folders).index("nli")]


def test_tei_embed(server: Server, oracles: Oracles) -> None:
    for path in ("/embed", "/", "/invocations", "/pipeline/feature-extraction"):
        path = "/models/minilm" + path.rstrip("/")
        assert_near(server.ask(path, {"inputs": TEXT}), oracles.vectors("minilm", [TEXT]))
        assert_near(server.ask(path, {"inputs": TEXTS}), oracles.vectors("minilm", TEXTS))
        ids = oracles.tokenizer("minilm")(TEXT)["input_ids"]
        assert_near(server.ask(path, {"inputs": ids}), oracles.vectors("minilm", [TEXT]))
        assert_near(server.ask(path, {"inputs": [ids, ids]}), oracles.vectors("minilm", [TEXT, TEXT]))


def test_tei_embed_takes_ids_beside_texts(server: Server, oracles: Oracles) -> None:
    ids = oracles.tokenizer("minilm")(TEXT)["input_ids"]
    found = server.ask("/models/minilm/embed", {"inputs": [ids, "a"]})
    assert_near(found, oracles.vectors("minilm", [TEXT, "a"]))


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_every_embedding_route_takes_the_same_options(server: Server, oracles: Oracles, path: str) -> None:
    def ask(**options: Any) -> Any:
        field = "inputs" if path == "/embed" else "input"
        answer = server.ask(f"/models/prompts{path}", {field: TEXTS, **options})
        return answer if path == "/embed" else [entry["embedding"] for entry in answer["data"]]

    plain = oracles.vectors("prompts", TEXTS)
    query = oracles.vectors("prompts", TEXTS, prompt_name="query")
    assert_near(ask(), plain)
    assert_near(ask(prompt_name="query"), query)
    assert_near(ask(input_type="query"), query)
    assert_near(ask(prompt=PROMPTS["query"]), query)
    assert_near(ask(normalize=False), oracles.vectors("prompts", TEXTS, normalize_embeddings=False))
    assert_near(ask(dimensions=5), oracles.vectors("prompts", TEXTS, truncate_dim=5))
    packed = ask(encoding_format="base64")
    assert_near([np.frombuffer(base64.b64decode(text), "<f4") for text in packed], plain)


def test_tei_headers(server: Server, oracles: Oracles) -> None:
    texts = TEXTS[:4]
    headers = server.post("/models/minilm/embed", {"inputs": texts}).headers
    assert headers["x-compute-tokens"] == str(oracles.tokens("minilm", texts))
    assert headers["x-compute-characters"] == str(sum(map(len, texts)))
    for name in ("compute", "total", "tokenization", "queue", "inference"):
        assert float(headers[f"x-{name}-time"]) >= 0


def test_tei_metrics(server: Server) -> None:
    server.ask("/models/minilm/embed", {"inputs": TEXTS})
    server.ask("/models/moods/predict", {"inputs": TEXT})
    server.post("/models/minilm/embed", {"inputs": 3})
    text = server.get("/metrics").body.decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    steps = ("_duration", "_tokenization_duration", "_queue_duration", "_inference_duration", "_count", "_success")
    expected = {f"te_{what}{step}" for what in ("request", "embed", "predict") for step in steps}
    expected |= {"te_request_failure", "te_request_input_length", "te_batch_next_size", "te_batch_next_tokens"}
    assert expected | {"te_queue_size"} <= names, expected - names


def test_pages_of_other_origins(server: Server, folders: dict[str, Any]) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    ours = {"origin": "https://page.example"}
    assert server.request("OPTIONS", "/embed", None, ours | preflight).headers["access-control-allow-origin"] is None
    with serve(folders["prompts"], cors_origin="https://page.example") as open_one:
        allowed = open_one.request("OPTIONS", "/embed", None, ours | preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        assert open_one.post("/embed", {"inputs": TEXT}, **ours).headers["access-control-allow-origin"]
        other = open_one.post("/embed", {"inputs": TEXT}, origin="https://other.example")
        assert other.headers["access-control-allow-origin"] is None


def test_tei_embed_all(server: Server, oracles: Oracles) -> None:
    found = server.ask("/models/minilm/embed_all", {"inputs": TEXTS[:3]})
    expected = oracles.vectors("minilm", TEXTS[:3], output_value="token_embeddings", normalize_embeddings=False)
    for mine, theirs in zip(found, expected, strict=True):
        assert_near(mine, theirs)


def test_tei_embed_sparse(server: Server, oracles: Oracles) -> None:
    import torch

    pipeline = oracles.pipeline("fill-mask", "masks")
    found = server.ask("/models/masks/embed_sparse", {"inputs": TEXTS[:3]})
    for text, terms in zip(TEXTS, found, strict=False):
        with torch.inference_mode():
            logits = pipeline.model(**pipeline.tokenizer(text, return_tensors="pt")).logits[0]
        expected = torch.log1p(torch.relu(logits)).amax(0).numpy()
        assert {tuple(term) for term in terms} == {("index", "value")}
        assert len({term["index"] for term in terms}) == len(terms)
        weights = np.zeros_like(expected)
        weights[[term["index"] for term in terms]] = [term["value"] for term in terms]
        np.testing.assert_allclose(weights, expected, rtol=0, atol=5e-4)
        assert all(term["value"] > 0 for term in terms)


def test_tei_predict(server: Server, oracles: Oracles) -> None:
    def ask(inputs: Any, **options: Any) -> Any:
        return server.ask("/models/moods/predict", {"inputs": inputs, **options})

    oracle = oracles.pipeline("text-classification", "moods")
    pair = {"text": TEXT, "text_pair": QUERY}
    one, both = oracle(TEXT, top_k=None), oracle(pair, top_k=None)

    def assert_labels(found: Any, expected: Any) -> None:
        assert [list(entry) for entry in found] == [["score", "label"]] * 4
        assert [entry["label"] for entry in found] == [entry["label"] for entry in expected]
        np.testing.assert_allclose([e["score"] for e in found], [e["score"] for e in expected], atol=5e-4)

    assert_labels(ask(TEXT), one)
    assert_labels(ask([TEXT]), one)
    assert_labels(ask([TEXT, QUERY]), both)
    batch = ask([[TEXT], [TEXT, QUERY]])
    assert len(batch) == 2
    assert_labels(batch[0], one)
    assert_labels(batch[1], both)
    assert len(ask([[TEXT]])) == 1
    assert_labels(ask(TEXT, raw_scores=True), oracle(TEXT, top_k=None, function_to_apply="none"))


def test_tei_rerank(server: Server, oracles: Oracles) -> None:
    import torch

    for options, theirs in (({}, {}), ({"raw_scores": True}, {"activation_fn": torch.nn.Identity()})):
        found = server.ask("/models/cross/rerank", {"query": QUERY, "texts": DOCUMENTS, **options})
        expected = oracles.ranks(QUERY, DOCUMENTS, **theirs)
        assert [list(rank) for rank in found] == [["index", "score"]] * 3
        assert [rank["index"] for rank in found] == [rank["corpus_id"] for rank in expected]
        np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in expected], atol=5e-4)
    shown = server.ask("/models/cross/rerank", {"query": QUERY, "texts": DOCUMENTS, "return_text": True})
    assert [set(rank) for rank in shown] == [{"index", "score", "text"}] * 3
    assert all(rank["text"] == DOCUMENTS[rank["index"]] for rank in shown)
    equal = server.ask("/models/cross/rerank", {"query": QUERY, "texts": [TEXT] * 5})
    assert [rank["index"] for rank in equal] == list(range(5))


def test_tei_similarity(server: Server, oracles: Oracles) -> None:
    inputs = {"source_sentence": TEXT, "sentences": TEXTS}
    for path in ("/similarity", "/pipeline/sentence-similarity", ""):
        found = server.ask(f"/models/minilm{path}", {"inputs": inputs, "parameters": {"truncate": True}})
        assert_near(found, oracles.vectors("minilm", TEXTS) @ oracles.vectors("minilm", [TEXT])[0])


def test_tei_tokenize_and_decode(server: Server, oracles: Oracles) -> None:
    tokenizer = oracles.tokenizer("minilm")
    for text in TEXTS[:4]:
        (found,) = server.ask("/models/minilm/tokenize", {"inputs": text})
        assert all(list(token) == ["id", "text", "special", "start", "stop"] for token in found)
        assert [token["id"] for token in found] == tokenizer(text)["input_ids"]
        assert [token["special"] for token in found] == [True, *[False] * (len(found) - 2), True]
        assert [(found[n]["text"], found[n]["start"], found[n]["stop"]) for n in (0, -1)] == [
            ("[CLS]", None, None),
            ("[SEP]", None, None),
        ]
        for token in found[1:-1]:
            assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]
        (plain,) = server.ask("/models/minilm/tokenize", {"inputs": [text], "add_special_tokens": False})
        assert plain == found[1:-1]
        ids = [token["id"] for token in found]
        assert server.ask("/models/minilm/decode", {"ids": ids}) == [tokenizer.decode(ids, skip_special_tokens=True)]
        whole = server.ask("/models/minilm/decode", {"ids": [ids, ids], "skip_special_tokens": False})
        assert whole == [tokenizer.decode(ids)] * 2
    (prompted,) = server.ask("/models/prompts/tokenize", {"inputs": TEXT, "prompt_name": "query"})
    assert [token["id"] for token in prompted] == oracles.tokenizer("prompts")(f"ask: {TEXT}")["input_ids"]


def test_tei_vertex(server: Server) -> None:
    for route in (of("/embed"), of("/predict"), of("/rerank", "texts")):
        base = f"/models/{route.model}"
        answer = server.ask(base + "/vertex", {"instances": [route.body, route.body]})
        assert answer == {"predictions": [server.ask(base + route.path, route.body)] * 2}


def test_tei_info(server: Server) -> None:
    names = (
        "model_id model_sha model_dtype served_model_name model_type max_concurrent_requests max_input_length "
        "max_batch_tokens tokenization_workers max_batch_requests max_client_batch_size auto_truncate version sha "
        "docker_label"
    ).split()
    info = server.get("/models/minilm/info").json()
    assert set(names) <= set(info)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["served_model_name"], info["max_input_length"], info["auto_truncate"]) == ("minilm", 256, True)
    kinds = {"moods": "classifier", "topics": "classifier", "cross": "reranker"}
    for name, kind in kinds.items():
        (found,) = server.get(f"/models/{name}/info").json()["model_type"].items()
        assert found[0] == kind
        assert set(found[1]) == {"id2label", "label2id"}
    labels = server.get("/models/moods/info").json()["model_type"]["classifier"]
    assert labels["id2label"] == {"0": "calm", "1": "fear", "2": "joy", "3": "rage"}
    assert labels["label2id"] == {"calm": 0, "fear": 1, "joy": 2, "rage": 3}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_cohere_rerank(server: Server, oracles: Oracles, path: str) -> None:
    body = {"model": "cross", "query": QUERY, "documents": [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]]}
    answer = server.ask(path, body | {"return_documents": False})
    assert {"id", "model", "object", "results", "meta", "usage"} <= set(answer)
    assert [set(result) for result in answer["results"]] == [{"index", "relevance_score"}] * 3
    assert [r["index"] for r in answer["results"]] == [r["corpus_id"] for r in oracles.ranks(QUERY, DOCUMENTS)]
    tokens = oracles.tokens("cross", [(QUERY, document) for document in DOCUMENTS])
    assert answer["usage"]["total_tokens"] == answer["usage"].get("prompt_tokens", tokens) == tokens
    assert server.ask("/models/cross", body)["results"] == answer["results"]
    shown = server.ask(path, body | {"return_documents": True, "top_n": 2})["results"]
    assert [result["document"] for result in shown] == [{"text": DOCUMENTS[result["index"]]} for result in shown]


def test_cohere_embed(server: Server) -> None:
    answer = server.ask("/v2/embed", of("/v2/embed").body | {"model": "prompts"})
    assert {"id", "embeddings", "texts", "meta"} <= set(answer)
    assert list(answer["embeddings"]) == ["float"]


def test_infinity_classify(server: Server, oracles: Oracles) -> None:
    for name in ("moods", "topics"):
        answer = server.ask("/classify", {"model": name, "input": TEXTS})
        assert set(answer) >= {"object", "data", "model", "usage", "id", "created"}
        assert (answer["object"], answer["model"]) == ("classify", name)
        for text, labels in zip(TEXTS, answer["data"], strict=True):
            expected = oracles.pipeline("text-classification", name)(text, top_k=None, truncation=True)
            assert [set(label) for label in labels] == [{"score", "label"}] * 4
            assert [label["label"] for label in labels] == [label["label"] for label in expected]
            np.testing.assert_allclose([x["score"] for x in labels], [x["score"] for x in expected], atol=5e-4)
        tokens = oracles.tokens(name, TEXTS)
        assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize("path", list(READ))
def test_get_routes(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 200
    assert reply.headers["x-request-id"]


def test_request_ids_are_kept(server: Server) -> None:
    assert server.get("/health", x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    assert server.post("/embed", b"{", x_request_id="mine-2").json()["request_id"] == "mine-2"
    first, second = (server.get("/health").headers["x-request-id"] for _ in range(2))
    assert first and second and first != second


def test_names_and_the_root_of_one_model(folders: dict[str, Any], oracles: Oracles) -> None:
    with serve(folders["moods"]) as server:
        assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["moods"]
        assert server.get("/info").json()["served_model_name"] == "moods"
        assert server.get("/").status == 200
        # `/` is what the model is for.
        found = server.ask("/", {"inputs": TEXT})
        assert found == server.ask("/predict", {"inputs": TEXT}) == server.ask("/invocations", {"inputs": TEXT})
        answer = server.ask("/v1/embeddings", {"input": TEXT, "model": "anything"})
        assert answer["model"] == "moods"
