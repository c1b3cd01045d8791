"""Reranking, in two dialects: `texts` and a bare list (TEI), `documents` and an object (Cohere, Jina, Infinity)."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Problem
from bothways.server.replies import Reply, json_reply
from bothways.server.results import Results
from bothways.server.routes.base import Body, Direction, Route, truncation_of
from bothways.server.routes.openai import Usage
from bothways.server.service import Service

__all__ = ["ROUTES", "AnyRequest", "DocumentsRequest", "TextsRequest", "rerank_any"]


class TextsRequest(Body):
    """A query and the texts to order, as TEI has it."""

    query: str
    texts: list[str]
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


class Document(msgspec.Struct):
    """A document's text."""

    text: str


class DocumentsRequest(Body):
    """A query and the documents to order, as Cohere, Jina and Infinity have it."""

    query: str
    documents: list[str | dict[str, Any]]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: int | None = None
    max_chunks_per_doc: int | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None


class AnyRequest(Body):
    """Either of the two: `texts` or `documents`."""

    query: str
    texts: list[str] | None = None
    documents: list[str | dict[str, Any]] | None = None
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: int | None = None
    max_chunks_per_doc: int | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    return_text: bool | None = None


class Ranked(msgspec.Struct, omit_defaults=True):
    """A text's place among those given, and its score."""

    index: int
    score: float
    text: str | None = None


class Result(msgspec.Struct, omit_defaults=True):
    """A document's place among those given, and its score."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankResponse(msgspec.Struct):
    """The documents, the best first."""

    id: str
    object: str
    model: str
    results: list[Result]
    usage: Usage
    meta: dict[str, Any]


async def scores(
    service: Service, call: Call, query: str, texts: list[str], name: str | None, **options: Any
) -> tuple[Results, list[int]]:
    """Score texts, and order them: the best first, equal ones as given."""
    model = service.find(call, name, "rerank")
    plan = service.plan(model, "rerank", query=query, **options)
    results = await service.run(call, model, plan, texts, float)
    return results, sorted(range(len(texts)), key=lambda n: -results.each[n])


async def rerank_texts(service: Service, call: Call, request: TextsRequest) -> Reply:
    """Answer POST /rerank with `texts`."""
    if not request.texts:
        raise Problem(400, "`texts` is empty; give at least one text", "empty_input", param="texts")
    options = truncation_of(service, request.truncate, request.truncation_direction)
    results, order = await scores(
        service, call, request.query, request.texts, request.model, raw_scores=bool(request.raw_scores), **options
    )
    texts = request.texts if request.return_text else [None] * len(order)
    return json_reply([Ranked(n, results.each[n], texts[n]) for n in order])


async def rerank_documents(service: Service, call: Call, request: DocumentsRequest, *, returned: bool = False) -> Reply:
    """Answer POST /v1/rerank, /v2/rerank, and /rerank with `documents`; `returned`: give documents back if unsaid."""
    if request.top_n is not None and request.top_n < 1:
        raise Problem(
            422, f"`top_n` is {request.top_n}; give 1 or more, or leave it out", "invalid_field", param="top_n"
        )
    if not request.documents:
        raise Problem(400, "`documents` is empty; give at least one", "empty_input", param="documents")
    service.limits.check_items(len(request.documents))
    texts = [_text(document, request.rank_fields, n) for n, document in enumerate(request.documents)]
    options = truncation_of(service, request.truncate, request.truncation_direction)
    if request.max_tokens_per_doc is not None:
        model = service.find(call, request.model, "rerank")
        service.plan(model, "rerank", query=request.query)  # before anything is done with the texts
        service.limits.check_texts(texts)
        texts = await _shortened(call, model, request.max_tokens_per_doc, texts)
    results, order = await scores(
        service, call, request.query, texts, request.model, raw_scores=bool(request.raw_scores), **options
    )
    wanted = request.return_documents if request.return_documents is not None else returned
    found = [
        Result(n, results.each[n], Document(texts[n]) if wanted else None) for n in order[: request.top_n or len(order)]
    ]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return json_reply(RerankResponse(call.id, "list", call.model, found, Usage(results.tokens, results.tokens), meta))


async def _shortened(call: Call, model: Model, most: int, texts: list[str]) -> list[str]:
    """Cut documents behind so many tokens, their own ones; a query is left whole."""
    if most < 1:
        raise Problem(
            422, f"`max_tokens_per_doc` is {most}; give 1 or more", "invalid_field", param="max_tokens_per_doc"
        )
    tokenizer = model.encoder.tokenizer

    def cut(text: str) -> str:
        if len(text) <= most:  # a token has a character at least
            return text
        sequence = tokenizer.whole(text, special=False)
        return text if len(sequence) <= most else text[: int(sequence.offsets[most - 1, 1])]

    found = []
    for text in texts:
        found.append(await call.outside(None, functools.partial(cut, text)))
    return found


def _text(document: str | dict[str, Any], fields: list[str] | None, number: int) -> str:
    """A document's text; of one with fields those that are named, or else `text`, a line each."""
    if isinstance(document, str):
        return document
    names = fields or ["text"]
    values = [value for name in names if isinstance(value := document.get(name), str)]
    if len(values) < len(names):
        raise Problem(
            422,
            f"document {number} has no string {' and '.join(names)}; give strings, or objects with `text`",
            "invalid_field",
            param="documents",
        )
    return "\n".join(values)


async def rerank_any(service: Service, call: Call, request: AnyRequest) -> Reply:
    """Answer POST /rerank: which dialect it is, the field with the texts says."""
    fields = msgspec.structs.asdict(request)
    if request.documents is not None:
        return await rerank_documents(service, call, msgspec.convert(fields, DocumentsRequest))
    if request.texts is None:
        raise Problem(422, "give the texts to order as `texts` or as `documents`", "invalid_field", param="texts")
    return await rerank_texts(service, call, msgspec.convert(fields, TextsRequest))


ROUTES = (
    Route(
        ("/rerank",),
        rerank_any,
        "Order texts by how well they answer a query.",
        AnyRequest,
        (list[Ranked], RerankResponse),
        other_envelope="documents",
        family="Reranking",
        requests=(TextsRequest, DocumentsRequest),
    ),
    Route(
        ("/v1/rerank", "/v2/rerank"),
        rerank_documents,
        "Order documents by how well they answer a query.",
        DocumentsRequest,
        RerankResponse,
        envelope="openai",
        family="Reranking",
    ),
)
