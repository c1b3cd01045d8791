"""OpenVINO in its throughput mode: one stream per thread, requests fed from one queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rivals.batches import Tokens, pooled_module

__all__ = ["load"]


def load(
    folder: Path, *, threads: int, precision: str = "f32", batch_size: int = 16
) -> Callable[[list[str]], np.ndarray]:
    """Convert the checkpoint in memory and compile it for the CPU with the given precision hint."""
    import openvino as ov
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in range(3))
    converted = ov.convert_model(pooled_module(folder), example_input=example)
    compiled = ov.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    tokens = Tokens(folder, batch_size)
    size = compiled.output(0).partial_shape[1].get_length()

    def embed(texts: list[str]) -> np.ndarray:
        result = np.empty((len(texts), size), np.float32)

        def store(request, numbers) -> None:  # type: ignore[no-untyped-def]
            result[numbers] = request.get_output_tensor(0).data

        queue = ov.AsyncInferQueue(compiled, threads)
        queue.set_callback(store)
        for numbers, batch in tokens.batches(texts):
            queue.start_async(dict(enumerate(batch)), numbers)
        queue.wait_all()
        return result

    return embed
