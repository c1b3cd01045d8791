"""LangChain's interfaces over `Encoder`: `BothwaysEmbeddings` and `BothwaysCrossEncoder`.

Install with `pip install "bothways[langchain]"`.
"""

from __future__ import annotations

from typing import Any

try:
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.embeddings import Embeddings
except ModuleNotFoundError as error:
    raise ImportError('this needs langchain-core; run: pip install "bothways[langchain]"') from error
from pydantic import ConfigDict

from bothways.adaptors.models import EmbedSettings, LoadSettings, Vector

__all__ = ["BothwaysCrossEncoder", "BothwaysEmbeddings"]


class BothwaysEmbeddings(EmbedSettings, Embeddings):
    """Embeddings for vector stores and retrievers, with the checkpoint's prompts for queries and documents.

    Attributes:
        model: A folder, a hub name, or "pkg:package/folder".
    """

    model_config = ConfigDict(frozen=True)

    model: str

    def model_post_init(self, context: Any) -> None:
        """Load the model."""
        self._load(self.model)

    def embed_documents(self, texts: list[str]) -> list[Vector]:
        """Embed what is searched."""
        return self._documents(texts)

    def embed_query(self, text: str) -> Vector:
        """Embed what is searched for."""
        return self._queries([text])[0]


class BothwaysCrossEncoder(LoadSettings, BaseCrossEncoder):
    """Scores of pairs for rerankers, such as LangChain's CrossEncoderReranker.

    Attributes:
        model: A folder, a hub name, or "pkg:package/folder", of a cross-encoder with one score.
    """

    model_config = ConfigDict(frozen=True)

    model: str

    def model_post_init(self, context: Any) -> None:
        """Load the model."""
        self._load(self.model)

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs of a query and a document, in their order."""
        scores = [0.0] * len(text_pairs)
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(text_pairs):
            places.setdefault(query, []).append(place)
        for query, own in places.items():
            for ranked in self.encoder.rerank(query, [text_pairs[place][1] for place in own]):
                scores[own[ranked.index]] = ranked.score
        return scores
