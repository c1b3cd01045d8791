"""OpenVINO in its throughput mode: one stream per thread, requests fed from one queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.rivals.recipe import Recipe

__all__ = ["load"]

_BATCH = 16
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def load(recipe: Recipe) -> Callable[[list[str]], FloatArray]:
    """Convert the checkpoint in memory and compile it for the CPU."""
    import openvino as ov
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in range(3))
    converted = ov.convert_model(recipe.module(), example_input=example)
    compiled = ov.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[recipe.dtype],
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": recipe.threads,
            "INFERENCE_NUM_THREADS": recipe.threads,
        },
    )
    size = compiled.output(0).partial_shape[1].get_length()

    def embed(texts: list[str]) -> FloatArray:
        result = np.empty((len(texts), size), np.float32)

        def store(request: Any, numbers: list[int]) -> None:
            result[numbers] = request.get_output_tensor(0).data

        queue = ov.AsyncInferQueue(compiled, recipe.threads)
        queue.set_callback(store)
        for numbers, batch in recipe.batches(texts, _BATCH):
            queue.start_async(dict(zip(compiled.inputs, batch, strict=False)), numbers)
        queue.wait_all()
        return result

    return embed
