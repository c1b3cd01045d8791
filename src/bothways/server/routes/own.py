"""Our own routes: the methods of `Encoder` over HTTP, which `bothways.Client` speaks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bothways.embed_spec import EmbedSpec
from bothways.server.calls import Call
from bothways.server.limits import label_count
from bothways.server.models import Model
from bothways.server.problems import Problem
from bothways.server.replies import Reply, check_finite, floats, json_reply, listed
from bothways.server.results import Results
from bothways.server.routes.base import (
    Body,
    Route,
    check_fills,
    given,
    npy_reply,
    npy_row,
    ranges_of,
    similarities,
    stored,
)
from bothways.server.routes.openai import Usage
from bothways.server.routes.own_requests import (
    AnswerRequest,
    ClassifyRequest,
    EmbedRequest,
    EncodeRequest,
    FillMaskRequest,
    RerankRequest,
    SimilarityRequest,
    TagRequest,
    ZeroShotRequest,
)
from bothways.server.service import Service
from bothways.tasks.answer import Answer
from bothways.tasks.classify import Label
from bothways.tasks.encode import Encoded
from bothways.tasks.fill_mask import Fill
from bothways.tasks.plan import Plan
from bothways.tasks.rerank import Ranked
from bothways.tasks.spans import Span

__all__ = ["ROUTES"]


class Answers(msgspec.Struct):
    """Results in the order of the texts."""

    model: str
    results: list[Any]
    usage: Usage
    truncated: int


def _options(service: Service, request: Body, *taken: str) -> dict[str, Any]:
    """What a request says, but for the fields that are `taken`; lists as tuples, so that plans can be looked up."""
    fields = msgspec.structs.asdict(request)
    # Where texts are read in windows unless a request says otherwise, nothing is cut.
    if fields.get("truncation", True) is None and not isinstance(request, TagRequest | AnswerRequest):
        fields["truncation"] = service.settings.truncation
    return {
        name: tuple(value) if isinstance(value, list) and name != "ranges" else value
        for name, value in fields.items()
        if name not in ("model", *taken) and value is not msgspec.UNSET and (value is not None or name == "top_k")
    }


def _texts(service: Service, value: Any) -> list[Any]:
    """Texts, pairs and lists of words: a str or a tuple each."""
    if isinstance(value, str):
        return [value]
    service.limits.check_items(len(value))
    return [tuple(item) if isinstance(item, list) else item for item in value]


def _answers(results: Results, call: Call, each: list[bytes] | None = None) -> Reply:
    after = {
        "usage": Usage(results.tokens, results.tokens),
        "truncated": sum(results.truncated),
    }
    items = results.each if each is None else each
    before = b'{"model":%b,"results":' % msgspec.json.encode(call.model)
    return Reply(listed(before, items, b"," + msgspec.json.encode(after)[1:]))


def _headers(results: Results) -> list[tuple[bytes, bytes]]:
    return [(b"x-usage-tokens", b"%d" % results.tokens)]


async def embed(service: Service, call: Call, request: EmbedRequest) -> Reply:
    """Answer POST /tasks/embed."""
    model = service.find(call, request.model, "embed")
    options = _options(service, request, "texts")
    if request.ranges is None and model.ranges is not None:
        options |= given(ranges=ranges_of(model, request.precision, request.dimensions, "precision"))
    texts = _texts(service, request.texts)
    plan = service.plan(model, "embed", **options)
    if request.sparse:
        return _answers(await service.run(call, model, plan, texts, _sparse), call)
    if request.tokens:
        return await _embed_tokens(service, call, model, plan, texts)
    binary = call.accepts(b"application/x-npy")
    # Checked with all options; what is stored in fewer bits is made so after a look at the vector itself.
    precision, ranges = options.pop("precision", None), options.pop("ranges", None)
    render = stored(npy_row if binary else floats, precision, ranges)
    results = await service.run(call, model, service.plan(model, "embed", **options), texts, render)
    if not binary:
        return _answers(results, call)
    none = None if texts else model.encoder.embed([], **options)  # no vectors, but of the right size
    return npy_reply(results.each, _headers(results), none)


def _sparse(embedding: Any) -> bytes:
    return msgspec.json.encode(
        {"ids": embedding.ids.tolist(), "weights": msgspec.Raw(floats(embedding.weights)), "terms": embedding.terms}
    )


async def _embed_tokens(service: Service, call: Call, model: Model, plan: Plan[Any, Any], texts: list[str]) -> Reply:
    binary = call.accepts(b"application/x-npz")
    size = model.encoder.spec.hidden_size * (4 if binary else 12)
    results = await service.run(
        call, model, plan, texts, npy_row if binary else floats, foretell=lambda lengths: size * sum(lengths)
    )
    return await call.outside(None, lambda: _token_vectors(results)) if binary else _answers(results, call)


def _token_vectors(results: Results) -> Reply:
    rows: list[npt.NDArray[Any]] = results.each
    starts = np.cumsum([0, *map(len, rows)])
    vectors = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    return _npz({"vectors": vectors, "starts": starts}, _headers(results))


def _npz(arrays: dict[str, npt.NDArray[Any]], headers: list[tuple[bytes, bytes]]) -> Reply:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return Reply(file.getvalue(), content_type="application/x-npz", headers=headers)


async def encode(service: Service, call: Call, request: EncodeRequest) -> Reply:
    """Answer POST /tasks/encode: a .npz file, as there are too many numbers for JSON."""
    if not call.accepts(b"application/x-npz"):
        raise Problem(
            406,
            "encode answers with a .npz file alone; ask for it with the header Accept: application/x-npz",
            "npz_only",
        )
    model = service.find(call, request.model, "encode")
    plan = service.plan(model, "encode", **_options(service, request, "texts"))
    spec = model.encoder.spec

    def foretell(lengths: list[int]) -> int:
        # Padded to the longest: token vectors of one or of all layers, and where asked for every token's view of each.
        count, longest = len(lengths), max(lengths, default=0)
        layers = 1 + (spec.num_layers + 1 if request.hidden_states else 0)
        seen = spec.num_layers * spec.num_heads * longest if request.attentions else 0
        return 4 * count * longest * (layers * spec.hidden_size + seen)

    texts = _texts(service, request.texts)
    results = await service.run(call, model, plan, texts, lambda text: text, foretell=foretell)
    return await call.outside(None, lambda: _encoded(model.encoder.encoded(results.each), _headers(results)))


def _encoded(encoded: Encoded, headers: list[tuple[bytes, bytes]]) -> Reply:
    check_finite(encoded.last_hidden_state)
    arrays: dict[str, npt.NDArray[Any]] = {
        "input_ids": encoded.input_ids,
        "attention_mask": encoded.attention_mask,
        "last_hidden_state": encoded.last_hidden_state,
        "offsets": np.concatenate(encoded.offsets) if encoded.offsets else np.zeros((0, 2), np.int64),
        "starts": np.cumsum([0, *map(len, encoded.tokens)]),
        "truncated": np.array(encoded.truncated, np.int64),
        "tokens": np.array([token for tokens in encoded.tokens for token in tokens], np.str_),
    }
    if encoded.pooler_output is not None:
        arrays["pooler_output"] = encoded.pooler_output
    for name, layers in (("hidden_state", encoded.hidden_states), ("attention", encoded.attentions)):
        for n, layer in enumerate(layers or ()):
            arrays[f"{name}_{n}"] = layer
    return _npz(arrays, headers)


async def similarity(service: Service, call: Call, request: SimilarityRequest) -> Reply:
    """Answer POST /tasks/similarity."""
    model = service.find(call, request.model, "embed")
    embed = model.encoder.spec.embed
    if embed.splade is not None or embed.late is not None:
        raise Problem(
            424,
            "this checkpoint's texts have no dense vectors to compare; embed them (sparse or tokens) and compare those",
            "task_not_supported",
        )
    a, b = _texts(service, request.a), _texts(service, request.b)
    service.limits.check_answer(12 * len(a) * len(b))
    results = await service.run(call, model, service.plan(model, "embed"), [*a, *b], np.asarray)
    scores = np.zeros((len(a), len(b)), np.float32)
    if a and b:
        scores = await similarities(call, model, results.each[: len(a)], results.each[len(a) :], embed.similarity)
    if call.accepts(b"application/x-npy"):
        return npy_reply(list(scores), _headers(results))
    rows = await call.outside(None, lambda: [floats(row) for row in scores])
    return _answers(results, call, rows)


async def rerank(service: Service, call: Call, request: RerankRequest) -> Reply:
    """Answer POST /tasks/rerank."""
    model = service.find(call, request.model, "rerank")
    top_k = None if isinstance(request.top_k, msgspec.UnsetType) else request.top_k
    if top_k is not None and top_k < 1:
        raise Problem(
            400, f"top_k is {top_k}; it must be a whole number above zero, or null", "invalid_value", param="top_k"
        )
    plan = service.plan(model, "rerank", **_options(service, request, "documents", "top_k"))
    results = await service.run(call, model, plan, request.documents, float)
    order = sorted(range(len(request.documents)), key=lambda n: -results.each[n])[:top_k]
    return _answers(results, call, [msgspec.json.encode(Ranked(n, results.each[n])) for n in order])


async def answer(service: Service, call: Call, request: AnswerRequest) -> Reply:
    """Answer POST /tasks/answer."""
    model = service.find(call, request.model, "answer")
    plan = service.plan(model, "answer", **_options(service, request, "question", "context"))
    questions, contexts = _texts(service, request.question), _texts(service, request.context)
    if len(questions) != len(contexts) and 1 not in (len(questions), len(contexts)):
        raise Problem(
            400,
            f"there are {len(questions)} questions and {len(contexts)} contexts; give as many of both, or one",
            "invalid_value",
            param="question",
        )
    count = max(len(questions), len(contexts)) if questions and contexts else 0
    pairs = [(questions[n % len(questions)], contexts[n % len(contexts)]) for n in range(count)]
    return _answers(await service.run(call, model, plan, pairs, msgspec.json.encode), call)


def _plain(task: str) -> Callable[[Service, Call, Any], Any]:
    """What answers a task whose results are lists of small objects."""

    async def handler(service: Service, call: Call, request: Any) -> Reply:
        model = service.find(call, request.model, task)
        texts = _texts(service, request.texts)
        if isinstance(request, ZeroShotRequest):
            service.limits.check_items(len(texts) * label_count(request.labels))
        if isinstance(request, FillMaskRequest):
            top_k = 5 if isinstance(request.top_k, msgspec.UnsetType) else request.top_k
            check_fills(service, model, texts, top_k)
        plan = service.plan(model, task, **_options(service, request, "texts"))
        return _answers(await service.run(call, model, plan, texts, msgspec.json.encode), call)

    return handler


async def tasks(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /tasks."""
    return json_reply({"models": [_described(model) for model in service.models]})


def _described(model: Model) -> dict[str, Any]:
    encoder = model.encoder
    engine = encoder.engine
    return {
        "name": model.name,
        "revision": encoder.revision,
        "family": encoder.spec.family,
        "hidden_size": encoder.spec.hidden_size,
        "max_tokens": model.max_tokens,
        "embed_max_tokens": model.embed_limit,
        "tasks": list(encoder.tasks),
        "labels": {kind: list(head.labels) for kind, head in encoder.spec.heads.items() if head.labels},
        "prompts": dict(encoder.spec.embed.prompts),
        "embedding": _kind(encoder.spec.embed),
        "similarity": encoder.spec.embed.similarity,
        "engine": {"name": engine.name, "level": engine.level, "dtype": engine.dtype, "threads": engine.threads},
    }


def _kind(embed: EmbedSpec) -> str:
    """What a text's embedding is, as the checkpoint was made for it."""
    return "sparse" if embed.splade is not None else "tokens" if embed.late is not None else "dense"


def _route(task: str, handler: Any, request: type[Body], each: Any) -> Route:
    answers = msgspec.defstruct(f"{task.title().replace('_', '')}Answers", [("results", list[each])], bases=(Answers,))
    summary = f"`Encoder.{task}`."
    return Route((f"/tasks/{task}",), handler, summary, request, answers, family="Bothways")


ROUTES = (
    _route("embed", embed, EmbedRequest, Any),
    Route(("/tasks/encode",), encode, "`Encoder.encode`, as a .npz file.", EncodeRequest, None, family="Bothways"),
    _route("similarity", similarity, SimilarityRequest, list[float]),
    _route("classify", _plain("classify"), ClassifyRequest, list[Label]),
    _route("tag", _plain("tag"), TagRequest, list[Span]),
    _route("fill_mask", _plain("fill_mask"), FillMaskRequest, list[Fill]),
    _route("answer", answer, AnswerRequest, Answer),
    _route("rerank", rerank, RerankRequest, Ranked),
    _route("zero_shot", _plain("zero_shot"), ZeroShotRequest, list[Label]),
    Route(
        ("/tasks",),
        tasks,
        "What the models are and can do.",
        None,
        dict[str, list[dict[str, Any]]],
        family="Bothways",
        method="GET",
        inference=False,
    ),
)
