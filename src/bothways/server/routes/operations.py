"""Routes for those who run a server: health, metrics, what it is; and tokens, without the network."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Problem, problem_body
from bothways.server.replies import Reply, json_reply, listed
from bothways.server.routes.base import Body, Route, read_input
from bothways.server.service import Service
from bothways.tasks.prompts import choose_prompt

__all__ = ["ROUTES"]


class TokenizeRequest(Body):
    """Texts whose tokens are wanted, all of them: nothing is cut."""

    inputs: str | list[str]
    model: str | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


class Token(msgspec.Struct):
    """A token; `start` and `stop` are its place in the text's UTF-8 bytes, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(Body):
    """Ids that spell a text, or lists of ids."""

    ids: list[int | list[int]]
    model: str | None = None
    skip_special_tokens: bool | None = None


async def tokenize(service: Service, call: Call, request: TokenizeRequest) -> Reply:
    """Answer POST /tokenize."""
    model = service.find(call, request.model)
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    if not texts:
        raise Problem(400, "`inputs` is an empty list; give at least one text", "empty_input", param="inputs")
    prompt = choose_prompt(model.encoder.spec.embed, None, request.prompt_name) if request.prompt_name else ""
    service.check_texts(call, texts)
    special = request.add_special_tokens is not False
    found: list[bytes] = []
    total = 0
    for text in texts:
        count, tokens = await call.outside(None, functools.partial(_tokens, model, prompt + text, special))
        found.append(tokens)
        total += count
        service.check_tokens(total)
    return Reply(listed(b"", found, b""))


def _tokens(model: Model, text: str, special: bool) -> tuple[int, bytes]:
    """How many tokens a text has, and they as JSON."""
    tokenizer = model.encoder.tokenizer
    sequence = tokenizer.whole(text, special=special)
    bytes_before = [0]
    for character in text:
        bytes_before.append(bytes_before[-1] + len(character.encode()))
    tokens = []
    rows = zip(sequence.ids.tolist(), sequence.tokens, sequence.offsets.tolist(), sequence.parts.tolist(), strict=True)
    for id, token, (start, end), part in rows:
        around = part < 0
        tokens.append(
            Token(
                id,
                token if around else text[start:end],
                around,
                None if around else bytes_before[start],
                None if around else bytes_before[end],
            )
        )
    return len(tokens), msgspec.json.encode(tokens)


async def decode(service: Service, call: Call, request: DecodeRequest) -> Reply:
    """Answer POST /decode."""
    model = service.find(call, request.model)
    texts, _ = read_input(service, request.ids, "ids")
    return Reply(await call.outside(None, lambda: _decoded(model, texts, request.skip_special_tokens is False)))


def _decoded(model: Model, texts: list[tuple[int, ...]], keep: bool) -> bytes:
    size = model.encoder.spec.vocab_size
    for number in (id for each in texts for id in each):
        if not 0 <= number < size:
            raise Problem(
                400, f"the id {number} is not in this model's vocabulary of {size}", "unknown_token", param="ids"
            )
    vocabulary = model.encoder.tokenizer.vocabulary
    return msgspec.json.encode([vocabulary.text(each, special=keep) for each in texts])


async def info(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /info: what TEI tells, of the model in the path or the first one, and all models beside."""
    model = service.models.named(call.path_model) if call.path_model else service.models.all[0]
    settings = service.settings
    return json_reply(
        {
            "model_id": model.encoder.name,
            "model_sha": model.encoder.revision,
            "model_dtype": model.encoder.engine.dtype,
            "served_model_name": model.name,
            "model_type": _model_type(model),
            "max_concurrent_requests": settings.max_queue_requests,
            "max_input_length": model.embed_limit,
            "max_batch_tokens": service.batch_tokens,
            "tokenization_workers": 1,
            "max_batch_requests": None,
            "max_client_batch_size": settings.max_items,
            "auto_truncate": settings.truncation,
            "version": service.version,
            "sha": None,
            "docker_label": None,
            "engine": model.encoder.engine.name,
            "level": model.encoder.engine.level,
            "threads": model.encoder.engine.threads,
            "models": [each.name for each in service.models],
            "limits": {
                name: getattr(settings, name)
                for name in (
                    "max_body_bytes",
                    "max_items",
                    "max_text_chars",
                    "max_request_tokens",
                    "max_queue_requests",
                    "max_queue_tokens",
                    "request_timeout",
                )
            },
        }
    )


def _model_type(model: Model) -> dict[str, Any]:
    head = model.encoder.spec.heads.get("classification")
    if head is None:
        return {"embedding": {"pooling": "+".join(model.encoder.spec.embed.pooling)}}
    labels = {str(n): label for n, label in enumerate(head.labels)}
    names = {"id2label": labels, "label2id": {label: int(n) for n, label in labels.items()}}
    return {"reranker" if model.can("rerank") else "classifier": names}


async def alive(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /livez, /health and /ping: the process answers, whatever the queue. At / a browser is led to /docs."""
    if call.route == "/" and call.accepts(b"text/html"):
        return Reply(b"", 307, "text/plain", [(b"location", b"docs")])
    return Reply(b"", content_type="text/plain")


async def ready(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /readyz: 503 with the reason while no requests should come."""
    if service.unready:
        problem = Problem(503, service.unready, "not_ready", error_type="Unhealthy")
        return Reply(problem_body(problem, "tei", call.id), status=503)
    # Anybody may ask this; what is served is for those with a key, if there are keys.
    names = {} if service.keys else {"models": [model.name for model in service.models]}
    return json_reply({"status": "ready", **names})


async def metrics(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /metrics."""
    gauges = service.metrics
    gauges.oldest.set(service.scheduler.oldest)
    return Reply(gauges.text(), content_type=gauges.content_type)


def _get(*paths: str, handler: Any, summary: str, answers: Any = None, **more: bool) -> Route:
    kept: dict[str, Any] = {"open": True, **more}
    return Route(paths, handler, summary, None, answers, family="Operations", method="GET", inference=False, **kept)


ROUTES = (
    Route(
        ("/tokenize",),
        tokenize,
        "The tokens of texts.",
        TokenizeRequest,
        list[list[Token]],
        family="Text Embeddings Inference",
    ),
    Route(("/decode",), decode, "The texts of ids.", DecodeRequest, list[str], family="Text Embeddings Inference"),
    _get("/info", handler=info, summary="What is served, and the limits.", answers=dict[str, Any], open=False),
    _get("/health", "/livez", "/ping", "/", handler=alive, summary="The process lives."),
    _get("/readyz", handler=ready, summary="Requests may come.", answers=dict[str, Any]),
    _get("/metrics", handler=metrics, summary="Figures for Prometheus.", protectable=True),
)
