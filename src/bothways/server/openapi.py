"""The OpenAPI 3.1 document, made from the routes and the types that their bodies are read as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bothways.server.fields import EXAMPLES, MEANINGS
from bothways.server.routes import Route

__all__ = ["document"]

# What can go wrong with any request, beside what only some have.
_ERRORS = {
    400: "A value can't be used: bad JSON, an empty input, an unknown prompt or dimension.",
    401: "The API key is missing or wrong.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body, a text or the number of texts or tokens is past a limit.",
    415: "The body is no JSON.",
    422: "The body has another shape, or a text is too long and not to be cut.",
    424: "The model can't do this task.",
    429: "Too much is under way; Retry-After says when to come again.",
    500: "The server failed on this request.",
    503: "The server is not ready or shutting down.",
    504: "The request's time was over.",
}

_TEI_ERROR = {
    "type": "object",
    "required": ["error", "error_type", "code", "request_id"],
    "properties": {
        "error": {"type": "string"},
        "error_type": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
    },
}

_OPENAI_ERROR = {
    "type": "object",
    "required": ["error", "message", "request_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        },
        "message": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Describe all routes, with every status that they may answer with."""
    routes = list(routes)
    kinds = [kind for route in routes for kind in _kinds(route)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    known = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    asked: list[Any] = []
    for route in routes:
        own = [next(known) for _ in _kinds(route)]
        asked += own[: len(_requests(route))]
        for path in route.paths:
            described = _operation(route, own, path)
            paths.setdefault(path.replace("{rest:path}", "{model}"), {})[route.method.lower()] = described
    _explain(asked, components, set())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bothways",
            "version": version,
            "description": "Encoder models: embeddings, labels, spans, scores. Every path may also be asked behind "
            "/models/NAME, for clients whose bodies name no model. Unknown fields are passed over, and null stands "
            "for a field that is left out.",
        },
        "tags": [{"name": name} for name in dict.fromkeys(route.family for route in routes)],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _TEI_ERROR, "OpenAIError": _OPENAI_ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _explain(schema: Any, components: dict[str, Any], seen: set[str]) -> None:
    """Say what the fields of requests mean, wherever they don't say it themselves."""
    if isinstance(schema, list):
        for each in schema:
            _explain(each, components, seen)
    if not isinstance(schema, dict):
        return
    name = schema.get("$ref", "").rpartition("/")[2]
    if name and name not in seen:
        seen.add(name)
        _explain(components[name], components, seen)
    for name, field in schema.get("properties", {}).items():
        if name in MEANINGS:
            field.setdefault("description", MEANINGS[name])
        if name in EXAMPLES and "$ref" not in str(field):  # objects have examples of their own
            field.setdefault("examples", [EXAMPLES[name]])
        _explain(field, components, seen)
    for key in ("anyOf", "items"):
        _explain(schema.get(key), components, seen)


def _requests(route: Route) -> tuple[Any, ...]:
    return route.requests or ((route.request,) if route.request is not None else ())


def _answers(route: Route) -> tuple[Any, ...]:
    if isinstance(route.answers, tuple):
        return route.answers
    return () if route.answers is None else (route.answers,)


def _kinds(route: Route) -> list[Any]:
    return [*_requests(route), *_answers(route)]


def _any(schemas: list[Any]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _operation(route: Route, schemas: list[Any], path: str) -> dict[str, Any]:
    count = len(_requests(route))
    described: dict[str, Any] = {
        "tags": [route.family],
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{path.replace('/', '_').replace('{rest:path}', 'model')}",
        "responses": _responses(route, schemas[count:]),
    }
    if count:
        content = {"application/json": {"schema": _any(schemas[:count])}}
        described["requestBody"] = {"required": True, "content": content}
    parameters = [_HEADERS["x-request-id"]]
    if route.inference:
        parameters.append(_HEADERS["x-request-timeout"])
    if "{rest:path}" in path:
        parameters.append({"name": "model", "in": "path", "required": True, "schema": {"type": "string"}})
    described["parameters"] = parameters
    return described


_HEADERS = {
    "x-request-id": {
        "name": "x-request-id",
        "in": "header",
        "required": False,
        "description": "What the request is called in the answer and in the log.",
        "schema": {"type": "string"},
    },
    "x-request-timeout": {
        "name": "x-request-timeout",
        "in": "header",
        "required": False,
        "description": "After so many seconds the request is given up with 504.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9},
    },
}

# The content types of answers that are no JSON.
_OTHER = {
    "/metrics": "text/plain",
    "/health": "text/plain",
    "/": "text/plain",
    "/tasks/encode": "application/x-npz",
}


def _responses(route: Route, answers: list[Any]) -> dict[str, Any]:
    if answers:
        content = {"application/json": {"schema": _any(answers)}}
        if route.paths[0] in ("/embed", "/tasks/embed", "/tasks/similarity"):
            content["application/x-npy"] = {"schema": {"type": "string", "format": "binary"}}
        if route.paths[0] == "/tasks/embed":
            content["application/x-npz"] = {"schema": {"type": "string", "format": "binary"}}
    else:
        content = {_OTHER[route.paths[0]]: {"schema": {"type": "string"}}}
    responses: dict[str, Any] = {"200": {"description": "The answer.", "content": content}}
    names = ["OpenAIError" if route.envelope == "openai" else "Error"]
    if route.paths[0] == "/rerank":  # its errors look as those of the dialect that is spoken
        names = ["Error", "OpenAIError"]
    if route.paths[0] == "/" and route.method == "GET":
        responses["307"] = {"description": "A browser is led to /docs."}
    schema = _any([{"$ref": f"#/components/schemas/{name}"} for name in names])
    for status, meaning in _errors(route):
        responses[str(status)] = {"description": meaning, "content": {"application/json": {"schema": schema}}}
    return responses


def _errors(route: Route) -> Iterable[tuple[int, str]]:
    if route.inference:
        for status, meaning in _ERRORS.items():
            if not (status == 424 and route.envelope == "openai"):
                yield status, meaning
        if route.paths[0] == "/tasks/encode":
            yield 406, "The answer is a .npz file alone."
        return
    yield 400, _ERRORS[400]
    if not route.open or route.protectable:
        yield 401, _ERRORS[401]
    if "{rest:path}" in route.paths[0]:
        yield 404, _ERRORS[404]
    if route.paths[0] == "/readyz":
        yield 503, _ERRORS[503]
