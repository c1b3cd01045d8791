"""Infinity's classification; its embeddings are OpenAI's, and its reranking is in rerank.py."""

from __future__ import annotations

from typing import Literal

import msgspec

from bothways.server.calls import Call
from bothways.server.replies import Reply, listed
from bothways.server.routes.base import Body, Route, read_input, truncation_of
from bothways.server.routes.openai import Usage
from bothways.server.routes.tei import Prediction, predictions
from bothways.server.service import Service

__all__ = ["ROUTES"]


class ClassifyRequest(Body):
    """Texts to classify, as Infinity has it."""

    input: list[str]
    model: str | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None


class ClassifyResponse(msgspec.Struct):
    """Every text's labels, the best first."""

    object: Literal["classify"]
    data: list[list[Prediction]]
    model: str
    usage: Usage
    id: str
    created: int


async def classify(service: Service, call: Call, request: ClassifyRequest) -> Reply:
    """Answer POST /classify."""
    model = service.find(call, request.model, "classify")
    items, _ = read_input(service, request.input, "input")
    options = truncation_of(service, request.truncate, None)
    if request.raw_scores:
        options["function"] = "identity"
    plan = service.plan(model, "classify", top_k=None, **options)
    results = await service.run(call, model, plan, items, predictions)
    usage = Usage(results.tokens, results.tokens)
    after = {"model": model.name, "usage": usage, "id": call.id, "created": model.created}
    return Reply(listed(b'{"object":"classify","data":', results.each, b"," + msgspec.json.encode(after)[1:]))


ROUTES = (
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
