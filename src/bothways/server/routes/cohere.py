"""Cohere's embeddings (v1 and v2); its reranking is in rerank.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy.typing as npt

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Problem
from bothways.server.replies import Parts, Reply, floats, listed
from bothways.server.routes.base import (
    Body,
    Handler,
    Route,
    embed,
    given,
    prompt_of,
    ranges_of,
    read_input,
    stored,
    truncation_of,
    vectors,
)
from bothways.server.service import Service

__all__ = ["ROUTES"]

_Type = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]


class EmbedRequest(Body):
    """Texts to embed, each in one or more forms."""

    texts: list[str]
    model: str | None = None
    input_type: str | None = None
    embedding_types: list[_Type] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    output_dimension: int | None = None
    max_tokens: int | None = None


class EmbedResponse(msgspec.Struct):
    """The vectors by their form, in the order of the texts."""

    id: str
    embeddings: dict[str, list[list[float] | str]] | list[list[float]]
    texts: list[str]
    response_type: str
    meta: dict[str, Any]


def _form(model: Model, kind: str, dimensions: int | None) -> Callable[[npt.NDArray[Any]], bytes]:
    if kind in ("float", "base64"):
        return vectors(kind)
    return stored(floats, kind, ranges_of(model, kind, dimensions, "embedding_types"))


async def embed_v1(service: Service, call: Call, request: EmbedRequest) -> Reply:
    """Answer POST /v1/embed, which gives bare lists where no type is asked for."""
    return await _embed(service, call, request, bare=request.embedding_types is None)


async def embed_v2(service: Service, call: Call, request: EmbedRequest) -> Reply:
    """Answer POST /v2/embed."""
    return await _embed(service, call, request, bare=False)


async def _embed(service: Service, call: Call, request: EmbedRequest, *, bare: bool) -> Reply:
    model = service.find(call, request.model, "embed")
    items, _ = read_input(service, request.texts, "texts")
    kinds = list(dict.fromkeys(request.embedding_types or ["float"]))
    side = None if request.truncate is None else "left" if request.truncate == "START" else "right"
    truncate = None if request.truncate is None else request.truncate != "NONE"
    options = {
        "normalize": True,
        **truncation_of(service, truncate, side),
        **given(dimensions=request.output_dimension, max_length=_limit(model, request.max_tokens)),
        **prompt_of(model, None, None, request.input_type),
    }

    forms = [_form(model, kind, request.output_dimension) for kind in kinds]

    def render(vector: npt.NDArray[Any]) -> list[bytes]:
        return [form(vector) for form in forms]

    results = await embed(service, call, model, items, render, **options)
    kind_of = "embeddings_floats" if bare else "embeddings_by_type"
    about = {"id": call.id, "texts": request.texts, "response_type": kind_of, "meta": _meta(results.tokens)}
    before = msgspec.json.encode(about)[:-1]
    if bare:
        return Reply(listed(before + b',"embeddings":', [each[0] for each in results.each], b"}"))
    body: Parts = [before + b',"embeddings":{']
    for n, kind in enumerate(kinds):
        name = b'%b"%b":' % (b"," if n else b"", kind.encode())
        body += listed(name, [each[n] for each in results.each], b"")
    return Reply([*body, b"}}"])


def _limit(model: Model, tokens: int | None) -> int | None:
    """A limit that a request sets; one past the model's own means the model's own."""
    if tokens is not None and tokens < 1:
        raise Problem(422, f"`max_tokens` is {tokens}; give 1 or more", "invalid_field", param="max_tokens")
    return None if tokens is None else min(tokens, model.embed_limit)


def _meta(tokens: int) -> dict[str, Any]:
    return {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}


def _route(path: str, handler: Handler) -> Route:
    summary = "Embed texts, as Cohere's API does."
    return Route((path,), handler, summary, EmbedRequest, EmbedResponse, envelope="openai", family="Cohere")


ROUTES = (_route("/v2/embed", embed_v2), _route("/v1/embed", embed_v1))
