"""LlamaIndex's interface over `Encoder`: `BothwaysEmbedding`.

Install with `pip install "bothways[llama-index]"`.
"""

from __future__ import annotations

import asyncio
from typing import Any

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
except ModuleNotFoundError as error:
    raise ImportError('this needs llama-index-core; run: pip install "bothways[llama-index]"') from error
from pydantic import Field

from bothways.adaptors.models import EmbedSettings, Vector

__all__ = ["BothwaysEmbedding"]


class BothwaysEmbedding(EmbedSettings, BaseEmbedding):
    """Embeddings for indexes and retrievers, with the checkpoint's prompts for queries and texts.

    Attributes:
        model_name: A folder, a hub name, or "pkg:package/folder".
        embed_batch_size: The texts that LlamaIndex hands over at once; it changes speed, never results.
    """

    model_name: str
    embed_batch_size: int = Field(default=256, gt=0, le=2048)

    def model_post_init(self, context: Any) -> None:
        """Load the model."""
        super().model_post_init(context)
        self._load(self.model_name)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex keeps it by."""
        return "BothwaysEmbedding"

    def _get_query_embedding(self, query: str) -> Vector:
        return self._queries([query])[0]

    def _get_text_embedding(self, text: str) -> Vector:
        return self._documents([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return self._documents(texts)

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
