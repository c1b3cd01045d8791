"""The routes of Text Embeddings Inference, with its bodies and answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from bothways.server.calls import Call
from bothways.server.problems import Problem
from bothways.server.replies import Parts, Reply, floats, listed
from bothways.server.routes.base import (
    Body,
    Direction,
    EmbedFields,
    Input,
    Route,
    embed,
    embed_options,
    given,
    npy_reply,
    npy_row,
    ranges_of,
    read_input,
    similarities,
    stored,
    truncation_of,
    vectors,
)
from bothways.server.service import Service
from bothways.tasks.prompts import choose_prompt

__all__ = [
    "ROUTES",
    "EmbedRequest",
    "Prediction",
    "PredictRequest",
    "SimilarityRequest",
    "embed_texts",
    "predict",
    "predictions",
    "similarity",
]


# Bytes of a number in JSON.
_DIGITS = 12


class EmbedRequest(EmbedFields, kw_only=True):
    """Texts, or this model's token ids, to embed; TEI's own fields, and those of other APIs."""

    inputs: Input


class EmbedAllRequest(Body):
    """Texts whose tokens are all embedded, without pooling."""

    inputs: str | list[str]
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None


class SparseValue(msgspec.Struct):
    """A term of the vocabulary and its weight."""

    index: int
    value: float


class PredictRequest(Body):
    """What to classify: a text, ["first", "second"] as one pair, ["text"], or a list of such lists."""

    inputs: str | list[str | list[str]]
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool | None = None


class Prediction(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class SimilarityInputs(msgspec.Struct):
    """A sentence, and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct):
    """How sentences are embedded."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None


class SimilarityRequest(Body):
    """Sentences to compare with one."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: str | None = None


async def embed_texts(service: Service, call: Call, request: EmbedRequest) -> Reply:
    """Answer POST /embed."""
    model = service.find(call, request.model, "embed")
    items, _ = read_input(service, request.inputs, "inputs")
    binary = call.accepts(b"application/x-npy")
    ranges = ranges_of(model, request.precision, request.dimensions, "precision")
    render = stored(npy_row if binary else vectors(request.encoding_format), request.precision, ranges)
    results = await embed(service, call, model, items, render, **embed_options(service, model, request))
    return npy_reply(results.each) if binary else Reply(listed(b"", results.each, b""))


async def embed_all(service: Service, call: Call, request: EmbedAllRequest) -> Reply:
    """Answer POST /embed_all."""
    model = service.find(call, request.model, "embed")
    items, _ = read_input(service, request.inputs, "inputs")
    prompt = choose_prompt(model.encoder.spec.embed, None, request.prompt_name)
    options = truncation_of(service, request.truncate, request.truncation_direction)
    plan = service.plan(model, "encode", max_length=model.embed_limit, **options)
    texts = [prompt + text for text in items]
    size = model.encoder.spec.hidden_size
    results = await service.run(
        call, model, plan, texts, lambda text: floats(text.rows), foretell=lambda lengths: _DIGITS * size * sum(lengths)
    )
    return Reply(listed(b"", results.each, b""))


async def embed_sparse(service: Service, call: Call, request: EmbedAllRequest) -> Reply:
    """Answer POST /embed_sparse."""
    model = service.find(call, request.model, "embed")
    items, _ = read_input(service, request.inputs, "inputs")
    options = truncation_of(service, request.truncate, request.truncation_direction)
    plan = service.plan(model, "embed", sparse=True, **options, **given(prompt_name=request.prompt_name))
    results = await service.run(call, model, plan, items, _sparse_values)
    return Reply(listed(b"", results.each, b""))


def _sparse_values(embedding: Any) -> bytes:
    order = np.argsort(embedding.ids)
    pairs = zip(embedding.ids[order].tolist(), embedding.weights[order].tolist(), strict=True)
    return msgspec.json.encode([SparseValue(index, value) for index, value in pairs])


async def predict(service: Service, call: Call, request: PredictRequest) -> Reply:
    """Answer POST /predict."""
    model = service.find(call, request.model, "classify")
    texts, alone = _predict_inputs(request.inputs)
    options = truncation_of(service, request.truncate, request.truncation_direction)
    if request.raw_scores:
        options["function"] = "identity"
    plan = service.plan(model, "classify", top_k=None, **options)
    results = await service.run(call, model, plan, texts, predictions)
    return Reply(results.each[0]) if alone else Reply(listed(b"", results.each, b""))


def _predict_inputs(inputs: str | list[str | list[str]]) -> tuple[list[Any], bool]:
    """The texts and pairs, and whether it is one alone."""
    if isinstance(inputs, str):
        return [inputs], True
    if not inputs:
        raise Problem(400, "`inputs` is an empty list; give at least one text", "empty_input", param="inputs")
    if all(isinstance(each, str) for each in inputs):
        return [_text_or_pair(inputs, "inputs")], True
    return [_text_or_pair(each, f"inputs[{n}]") for n, each in enumerate(inputs)], False


def _text_or_pair(value: Any, name: str) -> Any:
    if isinstance(value, str) or len(value) not in (1, 2) or not all(isinstance(each, str) for each in value):
        raise Problem(
            422,
            f"`{name}` must be a list of one text, or of the two texts of a pair; give several as a list of lists",
            "invalid_field",
            param="inputs",
        )
    return value[0] if len(value) == 1 else (value[0], value[1])


def predictions(labels: list[Any]) -> bytes:
    """One text's labels as JSON."""
    return msgspec.json.encode([Prediction(label.score, label.label) for label in labels])


async def similarity(service: Service, call: Call, request: SimilarityRequest) -> Reply:
    """Answer POST /similarity."""
    model = service.find(call, request.model, "embed")
    how = request.parameters or SimilarityParameters()
    inputs = request.inputs
    if not inputs.sentences:
        raise Problem(400, "`inputs.sentences` is empty; give at least one sentence", "empty_input", param="inputs")
    options = {
        "normalize": True,
        **truncation_of(service, how.truncate, how.truncation_direction),
        **given(prompt_name=how.prompt_name),
    }
    texts = [inputs.source_sentence, *inputs.sentences]
    results = await embed(service, call, model, texts, np.asarray, **options)
    scores = await similarities(call, model, results.each[:1], results.each[1:], "cosine")
    return Reply(floats(scores[0]))


async def vertex(service: Service, call: Call, request: VertexRequest) -> Reply:
    """Answer POST /vertex: several requests of `POST /` at once, answered in their order."""
    from bothways.server.routes.huggingface import answer_root

    if not request.instances:
        raise Problem(400, "`instances` is an empty list; give at least one", "empty_input", param="instances")
    service.limits.check_items(len(request.instances))
    call.json_only = True
    parts: Parts = []
    size = 0
    for instance in request.instances:
        reply = await answer_root(service, call, instance)
        size += reply.size
        service.limits.check_items(call.texts)
        service.limits.check_answer(size)
        parts += [b",", *([reply.body] if isinstance(reply.body, bytes) else reply.body)]
    return Reply([b'{"predictions":[', *parts[1:], b"]}"])


class VertexRequest(Body):
    """Bodies of `POST /`, such as those of /embed."""

    instances: list[dict[str, Any]]


def _route(path: str, handler: Any, summary: str, request: type[Body], answers: Any) -> Route:
    return Route((path,), handler, summary, request, answers, family="Text Embeddings Inference")


ROUTES = (
    _route("/embed", embed_texts, "Embed texts.", EmbedRequest, list[list[float] | str]),
    _route("/predict", predict, "Classify texts or pairs.", PredictRequest, (list[Prediction], list[list[Prediction]])),
    _route("/embed_all", embed_all, "Embed every token of texts.", EmbedAllRequest, list[list[list[float]]]),
    _route("/embed_sparse", embed_sparse, "Weigh terms (SPLADE).", EmbedAllRequest, list[list[SparseValue]]),
    _route("/similarity", similarity, "Compare sentences with one.", SimilarityRequest, list[float]),
    _route("/vertex", vertex, "Several requests at once.", VertexRequest, dict[str, list[Any]]),
)
