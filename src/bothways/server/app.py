"""The ASGI application: routes, the model in a path, what is said of unknown paths, start and end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from bothways.server.calls import Call, Receive, Scope, Send, request_id
from bothways.server.documents import document_routes
from bothways.server.endpoint import Endpoint, write_access
from bothways.server.problems import Envelope, Problem, problem_body
from bothways.server.routes import ROUTES
from bothways.server.service import Service

__all__ = ["make_app"]


def make_app(service: Service) -> Any:
    """Put a server's application together."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for route in (*ROUTES, *document_routes(service.version)):
        endpoint = Endpoint(service, route)
        for path in route.paths:
            paths.setdefault(path, {})[route.method] = endpoint

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    origins = list(service.settings.cors_origins)
    middleware = []
    if origins:
        middleware.append(
            Middleware(
                _Cors,
                allow_origins=origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],  # clients send many of their own, and no cookie is read here
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    app = Starlette(
        routes=[StarletteRoute(path, _ByMethod(ways), methods=list(ways)) for path, ways in paths.items()],
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={404: _UnknownPath(service), 405: _UnknownPath(service)},
    )
    app.router.redirect_slashes = False
    return _ModelInPath(app, service)


class _Cors(CORSMiddleware):
    """Lets pages of some origins call; what others are told is JSON, as any error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether a page may call."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        origin = request_headers.get("origin", "")
        problem = Problem(403, f"pages of {origin} may not call here (server option --cors-origin)", "cors_refused")
        kept = {
            name: value for name, value in response.headers.items() if name not in ("content-length", "content-type")
        }
        body = problem_body(problem, "tei", request_id(None))
        return Response(body, problem.status, {**kept, "content-type": "application/json"})


class _ByMethod:
    """Answers one path, each method by its own endpoint. HEAD is GET, whose body the server leaves out."""

    def __init__(self, ways: dict[str, Endpoint]) -> None:
        self._ways = {**ways, **({"HEAD": ways["GET"]} if "GET" in ways else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._ways[scope["method"]](scope, receive, send)


class _ModelInPath:
    """Takes /models/NAME/embed as /embed of that model, for clients whose bodies name none."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app = app
        names = sorted((model.name for model in service.models), key=len, reverse=True)
        self._prefixes = {f"/models/{name}": name for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/models/"):
            scope = self._rewritten(scope)
        await self._app(scope, receive, send)

    def _rewritten(self, scope: Scope) -> Scope:
        path = scope["path"]
        for prefix, name in self._prefixes.items():
            rest = path[len(prefix) :]
            if path.startswith(prefix) and (rest.startswith("/") or (not rest and scope["method"] == "POST")):
                return {**scope, "path": rest or "/", "bothways.model": name}
        return scope


class _UnknownPath:
    """Says what is wrong with a path or a method, as the routes around it say it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # What is served is for those with a key, if there are keys.
        names = "the name of one" if service.keys else ", ".join(model.name for model in service.models)
        self._models = names

    async def __call__(self, request: Request, error: Exception) -> Response:
        """Answer a request."""
        allowed = error.headers.get("Allow", "") if isinstance(error, HTTPException) and error.headers else ""
        problem, envelope = self._problem(request.url.path, request.method, allowed)
        call = Call(request.scope, request.receive, self._service.settings, envelope)
        self._service.metrics.unknown(problem.status)
        write_access(call, problem.status, f"{problem.code}: {problem.message}")
        headers = {"content-type": "application/json", "x-request-id": call.id, **problem.headers}
        return Response(problem_body(problem, envelope, call.id), problem.status, headers)

    def _problem(self, path: str, method: str, allowed: str) -> tuple[Problem, Envelope]:
        """What is wrong; `allowed` are the methods that the path has, if there is such a path."""
        in_model = path.startswith("/models/")
        if allowed and not (in_model and method == "POST"):
            message = f"{path} takes {allowed}, not {method}"
            problem = Problem(405, message, "method_not_allowed", headers={"allow": allowed})
        elif in_model:
            message = f"there is no model at {path}; use /models/NAME with {self._models}"
            problem = Problem(404, message, "model_not_found", param="model")
        else:
            problem = Problem(404, f"there is nothing at {path}; GET /openapi.json lists what is", "unknown_path")
        return problem, _envelope_of(path)


def _envelope_of(path: str) -> Envelope:
    if path.startswith("/models/"):  # the route behind a model's name that is unknown
        path = max((p for route in ROUTES for p in route.paths if p != "/" and path.endswith(p)), key=len, default="/")
    if path.startswith(("/v1/", "/v2/", "/embeddings", "/classify", "/models")):
        return "openai"
    return "tei"
