"""The cohere clients, of both versions of the interface, and what Jina's and Infinity's clients send beside theirs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import cohere
import numpy as np
import pytest
from checkpoints import LONG, TEXTS, Oracles
from serving import Server

QUERY = "who jumps over the dog?"
DOCUMENTS = ["the quick brown fox", "a lazy dog", "", "jumps over", "Zwölf Boxkämpfer", "again and again", LONG, "dog"]


@pytest.fixture(scope="module")
def first(server: Server) -> Iterator[cohere.Client]:
    with cohere.Client(api_key="none", base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def second(server: Server) -> Iterator[cohere.ClientV2]:
    with cohere.ClientV2(api_key="none", base_url=server.url) as client:
        yield client


def assert_ranked(response: Any, expected: list[dict[str, Any]]) -> None:
    assert [result.index for result in response.results] == [rank["corpus_id"] for rank in expected]
    scores = [result.relevance_score for result in response.results]
    np.testing.assert_allclose(scores, [rank["score"] for rank in expected], rtol=0, atol=5e-4)
    assert isinstance(response.id, str) and response.id
    assert response.meta is not None


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_documents_are_ranked_by_the_second_interface(second: cohere.ClientV2, oracles: Oracles) -> None:
    expected = oracles.ranks(QUERY, DOCUMENTS)
    assert_ranked(second.rerank(model="cross", query=QUERY, documents=DOCUMENTS), expected)
    for top_n in (1, 3, len(DOCUMENTS), 100):
        found = second.rerank(model="cross", query=QUERY, documents=DOCUMENTS, top_n=top_n)
        assert_ranked(found, expected[:top_n])
    whole = second.rerank(model="cross", query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=4096, priority=1)
    assert_ranked(whole, expected)


def test_tokens_of_a_document_can_be_limited(second: cohere.ClientV2, oracles: Oracles) -> None:
    assert oracles.tokenizer("cross").tokenize("dog again") == ["dog", "again"]
    limited = second.rerank(model="cross", query=QUERY, documents=["dog again", "dog"], max_tokens_per_doc=1)
    assert limited.results[0].relevance_score == pytest.approx(limited.results[1].relevance_score, abs=1e-6)
    assert [result.index for result in limited.results] == [0, 1]


def test_documents_are_ranked_by_the_first_interface(first: cohere.Client, oracles: Oracles) -> None:
    expected = oracles.ranks(QUERY, DOCUMENTS)
    assert_ranked(first.rerank(model="cross", query=QUERY, documents=DOCUMENTS), expected)
    mixed: list[Any] = [text if n % 2 else {"text": text} for n, text in enumerate(DOCUMENTS)]
    found = first.rerank(model="cross", query=QUERY, documents=mixed, top_n=3, return_documents=True)
    assert_ranked(found, expected[:3])
    assert [result.document.text for result in found.results] == [DOCUMENTS[r["corpus_id"]] for r in expected[:3]]
    without = first.rerank(model="cross", query=QUERY, documents=mixed, return_documents=False, max_chunks_per_doc=10)
    assert_ranked(without, expected)
    assert all(result.document is None for result in without.results)


def test_fields_to_rank_by(first: cohere.Client, oracles: Oracles) -> None:
    documents: Any = [{"title": text, "text": "nothing", "n": "1"} for text in DOCUMENTS]
    found = first.rerank(model="cross", query=QUERY, documents=documents, rank_fields=["title"])
    assert_ranked(found, oracles.ranks(QUERY, DOCUMENTS))


def test_a_thousand_documents(second: cohere.ClientV2, oracles: Oracles) -> None:
    documents = [f"{text} {number}" for number in range(150) for text in DOCUMENTS[:-1]]
    found = second.rerank(model="cross", query=QUERY, documents=documents, top_n=10)
    expected = oracles.ranks(QUERY, documents, top_k=10)
    scores = [result.relevance_score for result in found.results]
    np.testing.assert_allclose(scores, [rank["score"] for rank in expected], rtol=0, atol=5e-4)


def test_texts_are_embedded(second: cohere.ClientV2, oracles: Oracles) -> None:
    response = second.embed(model="minilm", input_type="search_document", texts=TEXTS)
    assert_near(response.embeddings.float_, oracles.vectors("minilm", TEXTS))
    assert response.texts == TEXTS
    assert isinstance(response.id, str) and response.id
    assert response.meta is not None


def test_input_types_are_prompts(second: cohere.ClientV2, oracles: Oracles) -> None:
    def embed(input_type: Any) -> Any:
        return second.embed(model="prompts", input_type=input_type, texts=TEXTS).embeddings.float_

    model = oracles.sentences("prompts")
    assert_near(embed("search_query"), model.encode_query(TEXTS, normalize_embeddings=True))
    assert_near(embed("search_document"), model.encode_document(TEXTS, normalize_embeddings=True))
    for other in ("classification", "clustering"):
        assert_near(embed(other), oracles.vectors("prompts", TEXTS))


def test_every_type_of_vector(second: cohere.ClientV2, oracles: Oracles) -> None:
    from sentence_transformers.util import quantize_embeddings

    types: Any = ["float", "binary", "ubinary", "base64"]
    response = second.embed(model="minilm", input_type="search_query", texts=TEXTS, embedding_types=types)
    found, expected = response.embeddings, oracles.vectors("minilm", TEXTS)
    assert_near(found.float_, expected)
    assert_near([np.frombuffer(base64.b64decode(text), "<f4") for text in found.base64], expected)
    for name in ("binary", "ubinary"):
        packed = quantize_embeddings(expected, precision=name)
        # A value next to nothing may have either sign.
        assert np.mean(np.array(getattr(found, name)) != packed) < 0.01
    one = second.embed(model="minilm", input_type="search_query", texts=TEXTS, embedding_types=["ubinary"])
    assert one.embeddings.float_ is None and len(one.embeddings.ubinary[0]) == 48


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_whole_numbers_need_a_server_with_ranges(second: cohere.ClientV2, name: Any) -> None:
    # Taken from a request's texts, a text's numbers would depend on its company. With ranges: test_server_ranges.py.
    with pytest.raises(cohere.BadRequestError) as caught:
        second.embed(model="minilm", input_type="search_query", texts=TEXTS, embedding_types=[name])
    assert "--ranges" in caught.value.body["message"] and "binary" in caught.value.body["message"]


def test_dimensions_and_long_texts(second: cohere.ClientV2, oracles: Oracles) -> None:
    def embed(**options: Any) -> Any:
        return second.embed(model="prompts", input_type="clustering", texts=[LONG], **options).embeddings.float_

    small = second.embed(model="minilm", input_type="clustering", texts=TEXTS, output_dimension=64)
    assert_near(small.embeddings.float_, oracles.vectors("minilm", TEXTS, truncate_dim=64))
    assert_near(embed(truncate="END"), oracles.vectors("prompts", [LONG]))
    assert np.abs(np.array(embed(truncate="START")) - embed(truncate="END")).max() > 1e-3
    with pytest.raises(cohere.UnprocessableEntityError) as caught:
        embed(truncate="NONE")
    assert "48" in caught.value.body["message"]
    assert caught.value.body["message"].endswith('send `truncate`: "END" to cut it')


def test_errors_are_the_clients_own(first: cohere.Client, second: cohere.ClientV2) -> None:
    for client in (first, second):
        with pytest.raises(cohere.NotFoundError) as unknown:
            client.rerank(model="rerank-v3.5", query="a", documents=["b"])
        assert "rerank-v3.5" in unknown.value.body["message"] and "cross" in unknown.value.body["message"]
        assert unknown.value.headers["x-request-id"] == unknown.value.body["request_id"]
        with pytest.raises(cohere.BadRequestError) as other:
            client.rerank(model="minilm", query="a", documents=["b"])
        assert "rerank" in other.value.body["message"]
        with pytest.raises(cohere.BadRequestError) as nothing:
            client.rerank(model="cross", query="a", documents=[])
        assert "documents" in nothing.value.body["message"]
    with pytest.raises(cohere.BadRequestError) as dimensions:
        second.embed(model="minilm", input_type="clustering", texts=["a"], output_dimension=385)
    assert "384" in dimensions.value.body["message"]
    with pytest.raises((cohere.BadRequestError, cohere.UnprocessableEntityError)) as kind:
        second.embed(model="minilm", input_type="nonsense", texts=["a"])
    assert "search_query" in kind.value.body["message"]


def test_asynchronous_clients(server: Server, oracles: Oracles) -> None:
    async def call() -> Any:
        async with (
            cohere.AsyncClient(api_key="none", base_url=server.url) as first,
            cohere.AsyncClientV2(api_key="none", base_url=server.url) as second,
        ):
            ranks = (client.rerank(model="cross", query=QUERY, documents=DOCUMENTS) for client in (first, second))
            vectors = second.embed(model="minilm", input_type="clustering", texts=TEXTS)
            return await asyncio.gather(*ranks, vectors)

    one, two, vectors = asyncio.run(call())
    assert_ranked(one, oracles.ranks(QUERY, DOCUMENTS))
    assert_ranked(two, oracles.ranks(QUERY, DOCUMENTS))
    assert_near(vectors.embeddings.float_, oracles.vectors("minilm", TEXTS))


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/models/cross/rerank"])
def test_what_other_clients_read(server: Server, oracles: Oracles, path: str) -> None:
    # Jina's, LiteLLM's, Open WebUI's, RAGFlow's and Infinity's clients send the same few fields.
    body = {"model": "cross", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    answer = server.ask(path, body)
    expected = oracles.ranks(QUERY, DOCUMENTS)[:3]
    assert [result["index"] for result in answer["results"]] == [rank["corpus_id"] for rank in expected]
    scores = [result["relevance_score"] for result in answer["results"]]
    np.testing.assert_allclose(scores, [rank["score"] for rank in expected], rtol=0, atol=5e-4)
    assert answer["model"] == "cross"
    tokens = oracles.tokens("cross", [(QUERY, document) for document in DOCUMENTS])
    assert answer["usage"]["total_tokens"] == tokens
    shown = server.ask(path, body | {"return_documents": True})
    assert [r["document"] for r in shown["results"]] == [{"text": DOCUMENTS[r["corpus_id"]]} for r in expected]
