"""Cohere's embeddings (v2), and Infinity's classification; their reranking is in rerank.py."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy.typing as npt

from bothways.precision import quantize
from bothways.server.calls import Call
from bothways.server.problems import Problem
from bothways.server.replies import Reply, floats, listed
from bothways.server.routes.base import Body, Route, embed, encoded, given, prompt_of, read_input, truncation_of
from bothways.server.routes.openai import Usage
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


class EmbedResponse(msgspec.Struct):
    """The vectors by their form, in the order of the texts."""

    id: str
    embeddings: dict[str, list[list[float] | str]]
    texts: list[str]
    meta: dict[str, Any]


class ClassifyRequest(Body):
    """Texts to classify, as Infinity has it."""

    input: list[str]
    model: str | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None


class Score(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class ClassifyResponse(msgspec.Struct):
    """Every text's labels, the best first."""

    object: Literal["classify"]
    data: list[list[Score]]
    model: str
    usage: Usage
    id: str
    created: int


def _form(kind: str, vector: npt.NDArray[Any]) -> bytes:
    if kind == "float":
        return floats(vector)
    if kind == "base64":
        return encoded(vector)
    return floats(quantize(vector[None], kind, None)[0])


async def cohere_embed(service: Service, call: Call, request: EmbedRequest) -> Reply:
    """Answer POST /v2/embed."""
    model = service.find(call, request.model, "embed")
    items, _ = read_input(request.texts, "texts", refuse_empty=service.settings.refuse_empty)
    kinds = list(dict.fromkeys(request.embedding_types or ["float"]))
    if {"int8", "uint8"} & set(kinds):
        raise Problem(
            400,
            "embedding_types int8 and uint8 need the range of every value, which one request does not know; ask for "
            "float, base64, binary or ubinary",
            "invalid_value",
            param="embedding_types",
        )
    side = None if request.truncate is None else "left" if request.truncate == "START" else "right"
    truncate = None if request.truncate is None else request.truncate != "NONE"
    options = {
        "normalize": True,
        **truncation_of(service, truncate, side),
        **given(dimensions=request.output_dimension),
        **prompt_of(model, None, None, request.input_type),
    }

    def render(vector: npt.NDArray[Any]) -> list[bytes]:
        return [_form(kind, vector) for kind in kinds]

    results = await embed(service, call, model, items, render, **options)
    before = msgspec.json.encode({"id": call.id, "texts": request.texts, "meta": _meta(results.tokens)})[:-1]
    body = [before + b',"embeddings":{']
    for n, kind in enumerate(kinds):
        body += listed(b',"%b":' % kind.encode() if n else b'"%b":' % kind.encode(), [r[n] for r in results.each], b"")
    return Reply([*body, b"}}"])


def _meta(tokens: int) -> dict[str, Any]:
    return {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}


async def classify(service: Service, call: Call, request: ClassifyRequest) -> Reply:
    """Answer POST /classify."""
    model = service.find(call, request.model, "classify")
    items, _ = read_input(request.input, "input", refuse_empty=service.settings.refuse_empty)
    options = truncation_of(service, request.truncate, None)
    if request.raw_scores:
        options["function"] = "identity"
    plan = model.plan("classify", top_k=None, **options)
    results = await service.run(call, model, plan, items, _scores)
    usage = Usage(results.tokens, results.tokens)
    after = {"model": model.name, "usage": usage, "id": call.id, "created": model.created}
    return Reply(listed(b'{"object":"classify","data":', results.each, b"," + msgspec.json.encode(after)[1:]))


def _scores(labels: list[Any]) -> bytes:
    return msgspec.json.encode([Score(label.score, label.label) for label in labels])


ROUTES = (
    Route(
        ("/v2/embed",),
        cohere_embed,
        "Embed texts, as Cohere's API does.",
        EmbedRequest,
        EmbedResponse,
        envelope="openai",
        family="Cohere",
    ),
    Route(
        ("/classify",),
        classify,
        "Classify texts, as Infinity does.",
        ClassifyRequest,
        ClassifyResponse,
        envelope="openai",
        family="Infinity",
    ),
)
