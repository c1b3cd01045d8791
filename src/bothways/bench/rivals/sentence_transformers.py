"""sentence-transformers on torch, as its users call it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.rivals.recipe import Recipe

__all__ = ["load"]

_BATCH = 32


def load(recipe: Recipe) -> Callable[[list[str]], FloatArray]:
    """Open the checkpoint."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(recipe.threads)
    model = SentenceTransformer(str(recipe.folder), device="cpu", model_kwargs={"dtype": getattr(torch, recipe.dtype)})

    def embed(texts: list[str]) -> FloatArray:
        rows = model.encode(texts, batch_size=_BATCH, convert_to_tensor=True, convert_to_numpy=False)
        return np.asarray(rows.float().numpy(), np.float32)

    return embed
