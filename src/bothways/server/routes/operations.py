"""Routes for those who run a server: health, metrics, and what it is."""

from __future__ import annotations

from typing import Any

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Problem, problem_body
from bothways.server.replies import Reply, json_reply
from bothways.server.routes.base import Route
from bothways.server.service import Service

__all__ = ["ROUTES"]


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
                    "max_answer_bytes",
                    "max_queue_requests",
                    "max_queue_tokens",
                    "max_queue_bytes",
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
    """Answer GET /livez, /health and /ping: the process answers, whatever the queue."""
    return Reply(b"", content_type="text/plain")


async def front(service: Service, call: Call, _: None) -> Reply:
    """Answer GET /: a browser is led to /docs, and others are told what /health tells."""
    if call.accepts(b"text/html"):
        return Reply(b"", 307, "text/plain", [(b"location", b"docs")])
    return await alive(service, call, None)


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
    _get("/info", handler=info, summary="What is served, and the limits.", answers=dict[str, Any], open=False),
    _get("/health", "/livez", "/ping", handler=alive, summary="The process lives."),
    _get("/", handler=front, summary="The process lives; a browser is led to /docs."),
    _get("/readyz", handler=ready, summary="Requests may come.", answers=dict[str, Any]),
    _get("/metrics", handler=metrics, summary="Figures for Prometheus.", protectable=True),
)
