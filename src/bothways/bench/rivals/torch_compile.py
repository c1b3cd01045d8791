"""torch.compile with the shapes left open, so that it compiles once and not for every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.rivals.recipe import Batch, Recipe

__all__ = ["load"]

_BATCH = 32


def load(recipe: Recipe) -> Callable[[list[str]], FloatArray]:
    """Compile the checkpoint's module in the dtype asked for."""
    import torch

    module: Any = recipe.module().to(getattr(torch, recipe.dtype))
    compiled: Any = torch.compile(module, dynamic=True)

    def compute(batch: Batch) -> FloatArray:
        with torch.inference_mode():
            rows = compiled(*(torch.from_numpy(part) for part in batch))
        return np.asarray(rows.float().numpy(), np.float32)

    return lambda texts: recipe.run(texts, _BATCH, compute)
