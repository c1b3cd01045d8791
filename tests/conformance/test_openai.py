"""The openai client at its default settings: what it sends is understood, and what it needs comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from checkpoints import LONG, MANY, TEXTS, Oracles
from serving import Server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        yield client


def vectors(response: Any) -> Any:
    """The vectors in the order of their indices, which is the order they come in."""
    assert [entry.index for entry in response.data] == list(range(len(response.data)))
    assert {entry.object for entry in response.data} == {"embedding"}
    return np.array([entry.embedding for entry in response.data])


def assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_one_text(client: openai.OpenAI, oracles: Oracles) -> None:
    response = client.embeddings.create(model="minilm", input=TEXTS[0])
    assert_near(vectors(response), oracles.vectors("minilm", TEXTS[:1]))
    assert (response.object, response.model) == ("list", "minilm")
    tokens = oracles.tokens("minilm", TEXTS[:1])
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (tokens, tokens)


def test_a_list_with_empty_and_equal_texts(client: openai.OpenAI, oracles: Oracles) -> None:
    response = client.embeddings.create(model="minilm", input=TEXTS)
    assert_near(vectors(response), oracles.vectors("minilm", TEXTS))
    assert response.usage.total_tokens == oracles.tokens("minilm", TEXTS)


def test_an_empty_text_alone(client: openai.OpenAI, oracles: Oracles) -> None:
    response = client.embeddings.create(model="minilm", input="")
    assert_near(vectors(response), oracles.vectors("minilm", [""]))
    assert response.usage.total_tokens == 2


def test_the_client_asks_for_base64_and_gets_what_floats_are(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="minilm", input=TEXTS)
    assert b'"base64"' in raw.http_response.request.content
    assert all(isinstance(entry["embedding"], str) for entry in raw.http_response.json()["data"])
    floats = client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
    plain = client.embeddings.with_raw_response.create(model="minilm", input=TEXTS, encoding_format="float")
    assert all(isinstance(entry["embedding"], list) for entry in plain.http_response.json()["data"])
    # The same float32 bits, however they travel.
    np.testing.assert_array_equal(vectors(raw.parse()).astype(np.float32), vectors(floats).astype(np.float32))


@pytest.mark.parametrize("dimensions", [1, 100, 384])
def test_dimensions_are_cut_and_then_scaled(client: openai.OpenAI, oracles: Oracles, dimensions: int) -> None:
    found = vectors(client.embeddings.create(model="minilm", input=TEXTS, dimensions=dimensions))
    expected = oracles.vectors("minilm", TEXTS, truncate_dim=dimensions)
    assert_near(found, expected)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_token_ids_are_those_of_the_model(client: openai.OpenAI, oracles: Oracles) -> None:
    ids = [oracles.tokenizer("minilm")(text)["input_ids"] for text in TEXTS[:4]]
    several = client.embeddings.create(model="minilm", input=ids)
    assert_near(vectors(several), oracles.vectors("minilm", TEXTS[:4]))
    assert several.usage.total_tokens == sum(map(len, ids))
    one = client.embeddings.create(model="minilm", input=ids[0])
    assert_near(vectors(one), oracles.vectors("minilm", TEXTS[:1]))


def test_more_texts_than_other_servers_take(client: openai.OpenAI, oracles: Oracles) -> None:
    response = client.embeddings.create(model="minilm", input=MANY)
    assert_near(vectors(response), oracles.many)
    assert response.usage.total_tokens == oracles.tokens("minilm", MANY)


def test_what_the_client_has_no_argument_for(client: openai.OpenAI, oracles: Oracles) -> None:
    def embed(**extra: Any) -> Any:
        return vectors(client.embeddings.create(model="prompts", input=TEXTS, user="someone", extra_body=extra))

    assert_near(embed(), oracles.vectors("prompts", TEXTS))
    assert_near(embed(prompt_name="passage"), oracles.vectors("prompts", TEXTS, prompt_name="passage"))
    assert_near(embed(prompt="the "), oracles.vectors("prompts", TEXTS, prompt="the "))
    assert_near(embed(input_type="query"), oracles.vectors("prompts", TEXTS, prompt_name="query"))
    assert_near(embed(normalize=False), oracles.vectors("prompts", TEXTS, normalize_embeddings=False))


def test_models_are_listed(client: openai.OpenAI, folders: dict[str, Any]) -> None:
    found = {model.id: model for model in client.models.list()}
    assert list(found) == list(folders)
    for name, model in found.items():
        assert (model.object, type(model.created), type(model.owned_by)) == ("model", int, str)
        assert client.models.retrieve(name) == model
    with pytest.raises(openai.NotFoundError, match="nothing") as caught:
        client.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


def test_the_address_without_v1_and_with_a_model(server: Server, oracles: Oracles) -> None:
    for path, model in (("", "minilm"), ("/models/minilm", "any"), ("/models/minilm/v1", "any")):
        with openai.OpenAI(base_url=server.url + path, api_key="none") as client:
            response = client.embeddings.create(model=model, input=TEXTS)
            assert_near(vectors(response), oracles.vectors("minilm", TEXTS))
            assert response.model == "minilm"
    with openai.OpenAI(base_url=server.url, api_key="none") as client:
        assert [model.id for model in client.models.list()][0] == "minilm"


def test_one_model_alone_answers_to_any_name(alone: Any, oracles: Oracles) -> None:
    with openai.OpenAI(base_url=f"{alone('prompts').url}/v1", api_key="none") as client:
        response = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
        assert_near(vectors(response), oracles.vectors("prompts", TEXTS))
        assert response.model == "prompts"


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt") as unknown:
        client.embeddings.create(model="gpt", input="a")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert "minilm" in unknown.value.message
    for dimensions in (0, 385):
        with pytest.raises(openai.BadRequestError, match="384") as bad:
            client.embeddings.create(model="minilm", input="a", dimensions=dimensions)
        assert bad.value.param == "dimensions"
        assert bad.value.type
        assert bad.value.request_id == bad.value.response.json()["request_id"]
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.embeddings.create(model="minilm", input=[])
    with pytest.raises(openai.UnprocessableEntityError, match="48"):
        client.embeddings.create(model="prompts", input=LONG, extra_body={"truncate": False})
    with pytest.raises(openai.BadRequestError, match="30522"):
        client.embeddings.create(model="minilm", input=[[101, 99_999, 102]])


def test_the_asynchronous_client(server: Server, oracles: Oracles) -> None:
    async def embed() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            calls = (client.embeddings.create(model="minilm", input=[text]) for text in TEXTS * 4)
            return [vectors(response)[0] for response in await asyncio.gather(*calls)]

    assert_near(asyncio.run(embed()), np.tile(oracles.vectors("minilm", TEXTS), (4, 1)))
