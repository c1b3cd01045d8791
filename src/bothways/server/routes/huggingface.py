"""The shapes of Hugging Face's inference endpoints, a route for each task; and `POST /`, which tells them apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from bothways.server.calls import Call
from bothways.server.limits import label_count
from bothways.server.problems import Problem
from bothways.server.replies import Reply, listed
from bothways.server.results import Results
from bothways.server.routes.base import (
    Body,
    Direction,
    Handler,
    Route,
    check_fills,
    cut_advice,
    given,
    read_input,
    truncation_of,
)
from bothways.server.routes.rerank import AnyRequest, DocumentsRequest, TextsRequest, rerank_any
from bothways.server.routes.tei import (
    EmbedRequest,
    PredictRequest,
    SimilarityRequest,
    embed_texts,
    predict,
    predictions,
    similarity,
)
from bothways.server.service import Service
from bothways.server.wire import convert

__all__ = ["ROUTES", "answer_root"]

_Aggregation = Literal["none", "simple", "first", "average", "max", "word"]
_FUNCTIONS = {"softmax": "softmax", "sigmoid": "sigmoid", "none": "identity"}


class ClassifyParameters(msgspec.Struct):
    """How texts are labelled."""

    top_k: int | None = None
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    truncate: bool | None = None


class ClassifyRequest(Body):
    """A text, or texts, to label."""

    inputs: str | list[str]
    parameters: ClassifyParameters | None = None
    model: str | None = None


class TagParameters(msgspec.Struct):
    """How spans are found."""

    aggregation_strategy: _Aggregation | None = None
    ignore_labels: list[str] | None = None
    stride: int | None = None


class TagRequest(Body):
    """A text, or texts, in which spans are found."""

    inputs: str | list[str]
    parameters: TagParameters | None = None
    model: str | None = None


class Entity(msgspec.Struct, omit_defaults=True):
    """A labelled span: `entity` of a single token, `entity_group` of several; places are in characters."""

    word: str
    score: float
    start: int
    end: int
    entity: str | None = None
    entity_group: str | None = None


class ZeroShotParameters(msgspec.Struct):
    """The labels, and the sentence that each makes."""

    candidate_labels: list[str] | str
    multi_label: bool | None = None
    hypothesis_template: str | None = None


class ZeroShotRequest(Body):
    """A text, or texts, and labels of your choice."""

    inputs: str | list[str]
    parameters: ZeroShotParameters
    model: str | None = None


class LabelScore(msgspec.Struct):
    """A label and its score."""

    label: str
    score: float


class FillMaskParameters(msgspec.Struct):
    """Which tokens are offered."""

    top_k: int | None = None
    targets: list[str] | None = None


class FillMaskRequest(Body):
    """A text, or texts, with a mask in each."""

    inputs: Annotated[str | list[str], msgspec.Meta(examples=["Paris is the [MASK] of France."])]
    parameters: FillMaskParameters | None = None
    model: str | None = None


class Filled(msgspec.Struct):
    """A token that fits, and the text with it."""

    score: float
    token: int
    token_str: str
    sequence: str


class Question(msgspec.Struct):
    """A question and the text that answers it."""

    question: str
    context: str


class AnswerParameters(msgspec.Struct):
    """How answers are found."""

    top_k: int | None = None
    max_answer_len: int | None = None
    max_seq_len: int | None = None
    doc_stride: int | None = None
    handle_impossible_answer: bool | None = None
    align_to_words: bool | None = None


class AnswerRequest(Body):
    """A question with its context, or several."""

    inputs: Question | list[Question]
    parameters: AnswerParameters | None = None
    model: str | None = None


class Answered(msgspec.Struct):
    """A piece of the context."""

    answer: str
    score: float
    start: int
    end: int


class RootRequest(Body):
    """The body of any task: `inputs` and, mostly, `parameters`; or a query and texts, or documents."""

    inputs: Any = None
    parameters: dict[str, Any] | None = None
    query: str | None = None
    texts: list[str] | None = None
    documents: list[str | dict[str, Any]] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: int | None = None
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    precision: str | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


def _reply(results: Results, alone: bool, *, nested: bool = False) -> Reply:
    """One text's result by itself, or a list of all."""
    return Reply(results.each[0]) if alone and not nested else Reply(listed(b"", results.each, b""))


async def classify(service: Service, call: Call, request: ClassifyRequest) -> Reply:
    """Answer POST /pipeline/text-classification: always a list for each text."""
    model = service.find(call, request.model, "classify")
    how = request.parameters or ClassifyParameters()
    items, _ = read_input(service, request.inputs, "inputs")
    function = None if how.function_to_apply is None else _FUNCTIONS[how.function_to_apply]
    options = {**truncation_of(service, how.truncate, None), **given(function=function)}
    plan = service.plan(model, "classify", top_k=how.top_k, **options)
    return _reply(await service.run(call, model, plan, items, predictions), True, nested=True)


async def tag(service: Service, call: Call, request: TagRequest) -> Reply:
    """Answer POST /pipeline/token-classification; long texts are read in windows."""
    model = service.find(call, request.model, "tag")
    how = request.parameters or TagParameters()
    items, alone = read_input(service, request.inputs, "inputs")
    aggregation = how.aggregation_strategy or "simple"
    ignored = ("O",) if how.ignore_labels is None else tuple(how.ignore_labels)
    plan = service.plan(model, "tag", aggregation=aggregation, ignore_labels=ignored, **given(stride=how.stride))

    def render(spans: list[Any]) -> bytes:
        kind = "entity" if aggregation == "none" else "entity_group"
        return msgspec.json.encode([Entity(s.text, s.score, s.start, s.end, **{kind: s.label}) for s in spans])

    return _reply(await service.run(call, model, plan, items, render), alone)


async def zero_shot(service: Service, call: Call, request: ZeroShotRequest) -> Reply:
    """Answer POST /pipeline/zero-shot-classification."""
    model = service.find(call, request.model, "zero_shot")
    how = request.parameters
    items, alone = read_input(service, request.inputs, "inputs")
    given_labels = how.candidate_labels
    labels = given_labels if isinstance(given_labels, str) else tuple(given_labels)
    service.limits.check_items(len(items) * label_count(labels))
    options = given(template=how.hypothesis_template, multi_label=how.multi_label)
    plan = service.plan(model, "zero_shot", labels=labels, truncation=service.settings.truncation, **options)
    return _reply(await service.run(call, model, plan, items, _labels), alone)


def _labels(labels: list[Any]) -> bytes:
    return msgspec.json.encode([LabelScore(label.label, label.score) for label in labels])


async def fill_mask(service: Service, call: Call, request: FillMaskRequest) -> Reply:
    """Answer POST /pipeline/fill-mask: a list for a single mask, a list of lists for several."""
    model = service.find(call, request.model, "fill_mask")
    how = request.parameters or FillMaskParameters()
    items, alone = read_input(service, request.inputs, "inputs")
    check_fills(service, model, items, 5 if how.top_k is None else how.top_k)
    options = given(top_k=how.top_k, targets=None if how.targets is None else tuple(how.targets))
    plan = service.plan(model, "fill_mask", truncation=service.settings.truncation, **options)
    return _reply(await service.run(call, model, plan, items, _filled), alone)


def _filled(fills: list[Any]) -> bytes:
    masks: dict[int, list[Filled]] = {}
    for fill in fills:
        masks.setdefault(fill.mask, []).append(Filled(fill.score, fill.id, fill.token, fill.text))
    each = list(masks.values())
    return msgspec.json.encode(each[0] if len(each) == 1 else each)


async def answer(service: Service, call: Call, request: AnswerRequest) -> Reply:
    """Answer POST /pipeline/question-answering: an object, or a list where top_k is more than 1."""
    model = service.find(call, request.model, "answer")
    how = request.parameters or AnswerParameters()
    alone = isinstance(request.inputs, Question)
    inputs = [request.inputs] if isinstance(request.inputs, Question) else request.inputs
    if not inputs:
        raise Problem(400, "`inputs` is an empty list; give at least one question", "empty_input", param="inputs")
    options = given(
        top_k=how.top_k,
        max_answer_tokens=how.max_answer_len,
        max_length=how.max_seq_len,
        stride=how.doc_stride,
        impossible=how.handle_impossible_answer,
        whole_words=how.align_to_words,
    )
    plan = service.plan(model, "answer", **options)

    def render(found: Any) -> bytes:
        each = [Answered(a.text, a.score, a.start, a.end) for a in (found, *found.others)]
        return msgspec.json.encode(each[0] if (how.top_k or 1) == 1 else each)

    pairs = [(each.question, each.context) for each in inputs]
    return _reply(await service.run(call, model, plan, pairs, render), alone)


#: What the path of a task says, and what answers it.
_TASKS: dict[str, tuple[Handler, type[Body]]] = {
    "feature-extraction": (embed_texts, EmbedRequest),
    "sentence-similarity": (similarity, SimilarityRequest),
    "text-classification": (classify, ClassifyRequest),
    "token-classification": (tag, TagRequest),
    "zero-shot-classification": (zero_shot, ZeroShotRequest),
    "fill-mask": (fill_mask, FillMaskRequest),
    "question-answering": (answer, AnswerRequest),
}

_BY_USE = {
    "tag": "token-classification",
    "fill_mask": "fill-mask",
    "answer": "question-answering",
    "embed": "feature-extraction",
}


async def root(service: Service, call: Call, request: RootRequest) -> Reply:
    """Answer POST /: what is asked for, the body's shape says, and else what the model is for."""
    fields = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    return await answer_root(service, call, fields)


async def answer_root(service: Service, call: Call, fields: dict[str, Any]) -> Reply:
    """Answer a body of any task."""
    handler, kind = _told_apart(service, call, fields)
    call.cut_advice = cut_advice(kind)
    return await handler(service, call, convert(fields, kind))


def _told_apart(service: Service, call: Call, fields: dict[str, Any]) -> tuple[Handler, type[Body]]:
    inputs, parameters = fields.get("inputs"), fields.get("parameters") or {}
    if "query" in fields:
        return rerank_any, AnyRequest
    if inputs is None:
        raise Problem(
            422,
            "the body has neither `inputs` nor `query` and `texts` (or `documents`); give one",
            "invalid_field",
            param="inputs",
        )
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    if isinstance(first, dict):
        return _TASKS["sentence-similarity" if "source_sentence" in first else "question-answering"]
    if isinstance(parameters, dict) and "candidate_labels" in parameters:
        return _TASKS["zero-shot-classification"]
    use = service.find(call, fields.get("model")).usual_task
    if use in _BY_USE:
        return _TASKS[_BY_USE[use]]
    # Hugging Face's clients send `parameters` and take lists of lists; TEI's send neither.
    if "parameters" in fields and not isinstance(first, list):
        return _TASKS["text-classification"]
    return predict, PredictRequest


def _route(task: str) -> Route:
    handler, request = _TASKS[task]
    answers = {
        "feature-extraction": list[list[float] | str],
        "sentence-similarity": list[float],
        "text-classification": list[list[LabelScore]],
        "token-classification": (list[Entity], list[list[Entity]]),
        "zero-shot-classification": (list[LabelScore], list[list[LabelScore]]),
        "fill-mask": (list[Filled], list[list[Filled]]),
        "question-answering": (Answered, list[Answered]),
    }[task]
    summary = f"{task.replace('-', ' ').capitalize()}, as Hugging Face's inference endpoints do."
    return Route((f"/pipeline/{task}",), handler, summary, request, answers, family="Hugging Face")


ROUTES = (
    Route(
        ("/", "/invocations"),
        root,
        "Whatever the model is for, by the shape of the body.",
        RootRequest,
        Any,
        family="Hugging Face",
        requests=(*(request for _, request in _TASKS.values()), PredictRequest, TextsRequest, DocumentsRequest),
    ),
    *map(_route, _TASKS),
)
