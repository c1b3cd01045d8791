"""What turns vectors into other vectors behind the network: the pooler and sentence-transformers' Dense modules.

The products are the engine's, whose rows are independent of each other; the activations are applied row
by row for the same reason. B vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bothways.arrays import FloatArray
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Engine
from bothways.errors import CheckpointError
from bothways.safetensors import read
from bothways.spec import DenseSpec

__all__ = ["Head", "dense", "pooler"]

#: (B, in) -> (B, out)
Head = Callable[[FloatArray], FloatArray]


def pooler(engine: Engine, checkpoint: Checkpoint) -> Head | None:
    """The checkpoint's pooler, first rows (B, H) -> (B, H), or None where it has none."""
    if not checkpoint.spec.pooler:
        return None
    weight, bias = (checkpoint.tensors[f"pooler.{name}"].float32() for name in ("weight", "bias"))
    return _head(engine.linear(weight, bias), _ACTIVATIONS["tanh"])


def dense(engine: Engine, folder: Path, spec: DenseSpec) -> Head:
    """Load a Dense module's weights from its folder below the checkpoint's."""
    path = folder / spec.folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; an old pytorch_model.bin is never read: load the model with "
            "sentence-transformers and save it again with save_pretrained()"
        )
    tensors = read(path)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (spec.out_features, spec.in_features)}
    if spec.bias:
        shapes["linear.bias"] = (spec.out_features,)
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != shape:
            raise CheckpointError(f"{path} has {name!r} with shape {found}; its config.json asks for {shape}")
    bias = tensors["linear.bias"].float32() if spec.bias else None
    return _head(engine.linear(tensors["linear.weight"].float32(), bias), _ACTIVATIONS[spec.activation])


def _head(linear: Head, activation: Head) -> Head:
    def apply(vectors: FloatArray) -> FloatArray:
        products = linear(vectors)  # (B, out)
        for n in range(len(products)):
            products[n] = activation(products[n])
        return products

    return apply


def _gelu(row: FloatArray) -> FloatArray:
    # NumPy has no erf; these rows are few and short.
    shares: FloatArray = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in row.tolist()], np.float32)
    return row * shares


def _sigmoid(row: FloatArray) -> FloatArray:
    # By tanh: exp would overflow for large negative values.
    result: FloatArray = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * row))
    return result


def _tanh(row: FloatArray) -> FloatArray:
    result: FloatArray = np.tanh(row)
    return result


_ACTIVATIONS: dict[str, Head] = {
    "identity": lambda row: row,
    "tanh": _tanh,
    "relu": lambda row: np.maximum(row, np.float32(0)),
    "gelu": _gelu,
    "silu": lambda row: row * _sigmoid(row),
    "sigmoid": _sigmoid,
}
