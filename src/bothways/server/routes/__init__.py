"""The routes of a server, one file for each family of clients.

Those that are asked most stand first, as they are looked through in order.
"""

from bothways.server.routes import cohere, huggingface, infinity, openai, operations, own, rerank, tei, tokenizing
from bothways.server.routes.base import Route

__all__ = ["ROUTES", "Route"]

ROUTES: tuple[Route, ...] = (
    *openai.ROUTES[:1],
    *tei.ROUTES,
    *rerank.ROUTES,
    *own.ROUTES,
    *cohere.ROUTES,
    *infinity.ROUTES,
    *huggingface.ROUTES,
    *tokenizing.ROUTES,
    *operations.ROUTES,
    *openai.ROUTES[1:],
)
