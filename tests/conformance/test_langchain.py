"""LangChain's classes for servers like this one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import tiktoken
from checkpoints import MANY, TEXTS, Oracles
from langchain_openai import OpenAIEmbeddings
from serving import Server


@pytest.fixture(scope="module")
def make(server: Server) -> Iterator[Any]:
    """Makes OpenAIEmbeddings whose connections are closed in the end."""
    with httpx2.Client() as connections:

        def make(model: str = "minilm", **options: Any) -> OpenAIEmbeddings:
            address = {"base_url": f"{server.url}/v1", "api_key": "none"}
            return OpenAIEmbeddings(model=model, http_client=connections, **address, **options)

        yield make


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_texts_are_embedded(make: Any, oracles: Oracles) -> None:
    embeddings = make(check_embedding_ctx_length=False)
    assert_near(embeddings.embed_documents(TEXTS), oracles.vectors("minilm", TEXTS))
    assert_near(embeddings.embed_query(TEXTS[0]), oracles.vectors("minilm", TEXTS)[0])
    assert_near(embeddings.embed_query(""), oracles.vectors("minilm", [""])[0])


def test_chunks_of_a_thousand_texts(make: Any, oracles: Oracles) -> None:
    found = make(check_embedding_ctx_length=False).embed_documents(MANY)
    assert_near(found, oracles.many)
    whole = make(check_embedding_ctx_length=False, chunk_size=5000).embed_documents(MANY)
    np.testing.assert_array_equal(whole, found)


def test_dimensions(make: Any, oracles: Oracles) -> None:
    found = make(check_embedding_ctx_length=False, dimensions=64).embed_documents(TEXTS)
    assert_near(found, oracles.vectors("minilm", TEXTS, truncate_dim=64))


def test_asynchronous_calls(server: Server, oracles: Oracles) -> None:
    async def embed() -> Any:
        async with httpx2.AsyncClient() as connections:
            embeddings = OpenAIEmbeddings(
                model="minilm",
                base_url=f"{server.url}/v1",
                api_key="none",
                check_embedding_ctx_length=False,
                http_async_client=connections,
            )
            return await embeddings.aembed_documents(TEXTS), await embeddings.aembed_query(TEXTS[0])

    documents, query = asyncio.run(embed())
    assert_near(documents, oracles.vectors("minilm", TEXTS))
    assert_near(query, oracles.vectors("minilm", TEXTS)[0])


@pytest.fixture
def foreign_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of OpenAI's vocabulary, which would be downloaded: one whose ids are as large as its rarer ones."""
    bytes_alone = {bytes([n]): 99_000 + n for n in range(256)}
    encoding = tiktoken.Encoding("cl100k_base", pat_str=r"\S+|\s+", mergeable_ranks=bytes_alone, special_tokens={})
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", encoding)


@pytest.mark.usefixtures("foreign_tokens")
def test_the_default_sends_foreign_ids_and_is_told_what_to_set(make: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
        make().embed_documents(["a text"])
    assert b"99097" in caught.value.request.content
    assert "30522" in caught.value.message


@pytest.mark.usefixtures("foreign_tokens")
def test_the_default_asks_for_the_vector_of_an_empty_text(make: Any, oracles: Oracles) -> None:
    # No tokens, so the client asks with input="".
    assert_near(make().embed_documents([""]), oracles.vectors("minilm", [""]))


def test_the_default_with_the_tokenizer_of_transformers(make: Any, oracles: Oracles, folders: dict[str, Any]) -> None:
    # Texts come back from ids in lower case and spaced otherwise, which is the same to this model.
    embeddings = make(tiktoken_enabled=False, tiktoken_model_name=str(folders["minilm"]))
    assert_near(embeddings.embed_documents(TEXTS[:1]), oracles.vectors("minilm", TEXTS[:1]))


def test_what_hugging_face_endpoint_embeddings_send(server: Server, oracles: Oracles) -> None:
    # langchain-huggingface 1.2 can't be installed beside huggingface-hub 2: this is what its methods do.
    from huggingface_hub import AsyncInferenceClient, InferenceClient

    address = f"{server.url}/models/minilm"
    found = InferenceClient(model=address).feature_extraction(text=[text.replace("\n", " ") for text in TEXTS])
    assert_near(found.tolist(), oracles.vectors("minilm", TEXTS))

    async def embed() -> Any:
        async with AsyncInferenceClient(model=address) as client:
            return (await client.feature_extraction(text=[TEXTS[0]])).tolist()[0]

    assert_near(asyncio.run(embed()), oracles.vectors("minilm", TEXTS)[0])
