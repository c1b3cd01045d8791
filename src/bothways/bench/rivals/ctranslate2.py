"""CTranslate2 on the converted checkpoint; it has no pooling of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.rivals.recipe import Batch, Recipe

__all__ = ["load"]

_BATCH = 32


def load(recipe: Recipe) -> Callable[[list[str]], FloatArray]:
    """Convert the checkpoint (in a temporary folder) and open it."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        TransformersConverter(str(recipe.network)).convert(path)
        encoder = ctranslate2.Encoder(
            path, device="cpu", compute_type=recipe.dtype, inter_threads=1, intra_threads=recipe.threads
        )

    def compute(batch: Batch) -> FloatArray:
        ids, mask, _ = batch
        rows = [row[: int(size)].tolist() for row, size in zip(ids, mask.sum(1), strict=True)]
        hidden = np.asarray(encoder.forward_batch(rows).last_hidden_state)
        return recipe.pool(hidden, mask)

    return lambda texts: recipe.run(texts, _BATCH, compute)
