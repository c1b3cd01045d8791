"""sentence-transformers on torch, float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["load"]


def load(folder: Path, *, threads: int, batch_size: int = 32) -> Callable[[list[str]], np.ndarray]:
    """Open the checkpoint as its users do."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, batch_size=batch_size)
