"""LlamaIndex's classes for servers like this one."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import httpx2
import numpy as np
import pytest
from checkpoints import MANY, TEXTS, Oracles
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as Reranker
from serving import Server, serve

QUERY = "who jumps over the dog?"
DOCUMENTS = ["the quick brown fox", "a lazy dog", "jumps over", "Zwölf Boxkämpfer", "again and again", "dog"]


@pytest.fixture(params=["openai", "tei"])
def make(request: pytest.FixtureRequest, server: Server) -> Any:
    """Makes the class for servers of either kind."""
    if request.param == "openai":
        return functools.partial(OpenAIEmbedding, model_name="minilm", api_base=f"{server.url}/v1", api_key="none")

    def make(http_client: Any = None, async_http_client: Any = None, **options: Any) -> TextEmbeddingsInference:
        return TextEmbeddingsInference(model_name="minilm", base_url=f"{server.url}/models/minilm", **options)

    return make


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_texts_and_queries_are_embedded(make: Any, oracles: Oracles) -> None:
    expected = oracles.vectors("minilm", TEXTS)
    with httpx2.Client() as connections:
        model = make(http_client=connections)
        assert_near(model.get_text_embedding(TEXTS[0]), expected[0])
        assert_near(model.get_query_embedding(TEXTS[2]), expected[2])
        assert_near(model.get_text_embedding_batch(TEXTS), expected)
        assert_near(make(http_client=connections, embed_batch_size=2048).get_text_embedding_batch(MANY), oracles.many)


def test_asynchronous_calls(make: Any, oracles: Oracles) -> None:
    async def embed() -> Any:
        async with httpx2.AsyncClient() as connections:
            model = make(async_http_client=connections)
            query = await model.aget_query_embedding(TEXTS[0])
            return query, await model.aget_text_embedding_batch(TEXTS)

    query, texts = asyncio.run(embed())
    assert_near(query, oracles.vectors("minilm", TEXTS)[0])
    assert_near(texts, oracles.vectors("minilm", TEXTS))


def test_dimensions(server: Server, oracles: Oracles) -> None:
    address = {"api_base": f"{server.url}/v1", "api_key": "none"}
    with httpx2.Client() as connections:
        model = OpenAIEmbedding(model_name="minilm", dimensions=64, http_client=connections, **address)
        found = model.get_text_embedding_batch(TEXTS)
    assert_near(found, oracles.vectors("minilm", TEXTS, truncate_dim=64))


def test_nodes_are_ranked(server: Server, oracles: Oracles) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in DOCUMENTS]
    ranks = oracles.ranks(QUERY, DOCUMENTS)
    for top_n in (2, 5):
        reranker = Reranker(base_url=f"{server.url}/models/cross", top_n=top_n)
        found = reranker.postprocess_nodes(nodes, query_str=QUERY)
        assert [node.text for node in found] == [DOCUMENTS[rank["corpus_id"]] for rank in ranks[:top_n]]
        np.testing.assert_allclose([n.score for n in found], [rank["score"] for rank in ranks[:top_n]], atol=5e-4)


def test_keys_as_these_clients_send_them(folders: dict[str, Any], oracles: Oracles) -> None:
    with serve(
        folders["cross"], folders["prompts"], served_model_name=["cross", "prompts"], api_key="secret"
    ) as server:
        # Of these two, one writes "Bearer" itself and the other leaves it to its caller.
        address = f"{server.url}/models/prompts"
        model = TextEmbeddingsInference(model_name="prompts", base_url=address, auth_token="secret")
        assert_near(model.get_text_embedding(TEXTS[0]), oracles.vectors("prompts", TEXTS)[0])
        address = f"{server.url}/models/cross"
        reranker = Reranker(base_url=address, auth_token="Bearer secret", top_n=1)
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in DOCUMENTS]
        (best,) = reranker.postprocess_nodes(nodes, query_str=QUERY)
        assert best.text == DOCUMENTS[oracles.ranks(QUERY, DOCUMENTS)[0]["corpus_id"]]
