"""OpenAI's routes: embeddings, and the list of models."""

from __future__ import annotations

from typing import Literal

import msgspec

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.replies import Parts, Reply, json_reply
from bothways.server.routes.base import (
    EmbedFields,
    Input,
    Route,
    embed,
    embed_options,
    ranges_of,
    read_input,
    stored,
    vectors,
)
from bothways.server.service import Service

__all__ = ["ROUTES", "Usage"]


class EmbeddingsRequest(EmbedFields, kw_only=True):
    """Texts, or this model's token ids, to embed; OpenAI's own fields, and those of other APIs."""

    input: Input
    user: str | None = None


class Usage(msgspec.Struct):
    """Tokens that were computed, special ones included."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """One text's vector; in base64 the bytes of little-endian numbers."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(msgspec.Struct):
    """The vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(msgspec.Struct):
    """A model that is served."""

    id: str
    created: int
    tasks: list[str]
    object: Literal["model"] = "model"
    owned_by: str = "bothways"


class ModelList(msgspec.Struct):
    """The models that are served."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


async def embeddings(service: Service, call: Call, request: EmbeddingsRequest) -> Reply:
    """Answer POST /v1/embeddings."""
    model = service.find(call, request.model, "embed")
    items, _ = read_input(service, request.input, "input")
    ranges = ranges_of(model, request.precision, request.dimensions, "precision")
    render = stored(vectors(request.encoding_format), request.precision, ranges)
    results = await embed(service, call, model, items, render, **embed_options(service, model, request))
    after = msgspec.json.encode({"model": model.name, "usage": Usage(results.tokens, results.tokens)})
    # Piece by piece: to copy megabytes of vectors would stop the event loop.
    parts: Parts = [b'{"object":"list","data":[']
    for n, vector in enumerate(results.each):
        parts += (b',{"object":"embedding","embedding":' if n else b'{"object":"embedding","embedding":', vector)
        parts.append(b',"index":%d}' % n)
    return Reply([*parts, b"]," + after[1:]])


def _card(model: Model) -> ModelCard:
    return ModelCard(model.name, model.created, list(model.encoder.tasks))


async def models(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /v1/models, and with a name behind it."""
    name = call.path_rest
    if name:
        return json_reply(_card(service.models.named(name)))
    return json_reply(ModelList([_card(model) for model in service.models]))


ROUTES = (
    Route(
        ("/v1/embeddings", "/embeddings"),
        embeddings,
        "Embed texts, as OpenAI's API does.",
        EmbeddingsRequest,
        EmbeddingsResponse,
        envelope="openai",
        family="OpenAI",
    ),
    Route(
        ("/v1/models", "/models"),
        models,
        "List the models.",
        None,
        ModelList,
        envelope="openai",
        family="OpenAI",
        method="GET",
        inference=False,
    ),
    Route(
        ("/v1/models/{rest:path}", "/models/{rest:path}"),
        models,
        "Describe a model.",
        None,
        ModelCard,
        envelope="openai",
        family="OpenAI",
        method="GET",
        inference=False,
    ),
)
