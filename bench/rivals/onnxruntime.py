"""onnxruntime with every graph optimisation, one session over all threads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rivals.batches import Tokens, in_order, pooled_module

__all__ = ["load"]


def load(folder: Path, *, threads: int, batch_size: int = 32) -> Callable[[list[str]], np.ndarray]:
    """Export the checkpoint to ONNX (in a temporary folder) and open it."""
    import onnxruntime
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in range(3))
    axes = {name: {0: "batch", 1: "tokens"} for name in ("ids", "mask", "types")}
    with tempfile.TemporaryDirectory() as folder_name:
        path = str(Path(folder_name) / "model.onnx")
        torch.onnx.export(
            pooled_module(folder),
            example,
            path,
            input_names=list(axes),
            dynamic_axes=axes,
            dynamo=False,
            opset_version=17,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokens = Tokens(folder, batch_size)

    def embed(texts: list[str]) -> np.ndarray:
        return in_order(tokens, texts, lambda batch: session.run(None, dict(zip(axes, batch, strict=True)))[0])

    return embed
