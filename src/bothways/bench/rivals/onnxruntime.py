"""ONNX Runtime on the exported network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bothways.arrays import FloatArray
from bothways.bench.rivals.recipe import Recipe

__all__ = ["load"]

_BATCH = 32


def load(recipe: Recipe) -> Callable[[list[str]], FloatArray]:
    """Export the checkpoint to ONNX (in a temporary folder) and open it."""
    import onnxruntime
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in range(3))
    axes = {name: {0: "batch", 1: "tokens"} for name in ("ids", "mask", "types")}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            recipe.module(), example, path, input_names=list(axes), dynamic_axes=axes, dynamo=False, opset_version=17
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = recipe.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]

    def embed(texts: list[str]) -> FloatArray:
        def compute(batch: tuple[object, ...]) -> FloatArray:
            given = dict(zip(axes, batch, strict=True))
            rows: FloatArray = session.run(None, {name: given[name] for name in inputs})[0]
            return rows

        return recipe.run(texts, _BATCH, compute)

    return embed
