"""What a server tells of itself: the OpenAPI document, and the page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.server.calls import Call
from bothways.server.openapi import document
from bothways.server.problems import Problem
from bothways.server.replies import Reply, json_reply
from bothways.server.routes import ROUTES, Route
from bothways.server.service import Service

__all__ = ["document_routes"]

# The page's files, by what stands behind /docs/.
_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
_PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


def document_routes(version: str) -> list[Route]:
    """The OpenAPI document and the page that shows it."""
    made: list[Reply] = []

    async def openapi(_: Service, call: Call, request: None) -> Reply:
        if not made:
            made.append(await call.outside(None, lambda: json_reply(document(ROUTES, version))))
        return made[0]

    async def page(_: Service, call: Call, request: None) -> Reply:
        if call.path_rest not in _PAGE_FILES:
            raise Problem(404, f"there is no page {call.path_rest!r}; see /docs", "unknown_path")
        name, content_type = _PAGE_FILES[call.path_rest]
        return Reply((_PAGE / name).read_bytes(), content_type=content_type, headers=_PAGE_HEADERS)

    def route(path: str, handler: Any, summary: str, *, protectable: bool = False) -> Route:
        return Route((path,), handler, summary, method="GET", inference=False, open=True, protectable=protectable)

    # A browser can't send a key for a page, which tells nothing of the server; it asks for one, for the document.
    return [
        route("/openapi.json", openapi, "This document.", protectable=True),
        route("/docs", page, "A page that shows the document."),
        route("/docs/{rest}", page, "The page's parts."),
    ]
