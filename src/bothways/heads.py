"""What turns vectors into others, or into scores, behind the network: heads, the pooler, sentence-transformers' Dense.

The products and their activations are the engine's, whose rows are independent of each other; so are a norm's sums,
which NumPy makes row by row. B vectors, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.checkpoint import Checkpoint
from bothways.embed_spec import DenseSpec
from bothways.engines.base import Engine
from bothways.errors import CheckpointError
from bothways.safetensors import read
from bothways.spec import ACTIVATIONS, HeadSpec, StepSpec

__all__ = ["Head", "activation", "dense", "head", "pooler", "softmax"]

# Rows that are normed at once: few enough that their float64 copies stay in a cache.
_NORM_ROWS = 64

#: (B, in) -> (B, out)
Head = Callable[[FloatArray], FloatArray]


def pooler(engine: Engine, checkpoint: Checkpoint) -> Head | None:
    """The checkpoint's pooler, first rows (B, H) -> (B, H), or None where it has none."""
    if not checkpoint.spec.pooler:
        return None
    weight, bias = (checkpoint.tensors[f"pooler.{name}"].float32() for name in ("weight", "bias"))
    return engine.linear(weight, bias, "tanh")


def head(engine: Engine, checkpoint: Checkpoint, spec: HeadSpec) -> Head:
    """One of the checkpoint's heads, (B, H) -> (B, scores); of rows "pooled" it takes the first rows themselves."""
    steps = [_step(engine, checkpoint, step) for step in spec.steps]
    first = pooler(engine, checkpoint) if spec.rows == "pooled" else None
    if first is not None:
        steps.insert(0, first)

    def apply(vectors: FloatArray) -> FloatArray:
        for step in steps:
            vectors = step(vectors)
        return vectors

    return apply


def _step(engine: Engine, checkpoint: Checkpoint, step: StepSpec) -> Head:
    weight = checkpoint.raw[step.weight].float32()
    bias = checkpoint.raw[step.bias].float32() if step.bias else None
    if step.norm:
        return _norm(weight, bias, checkpoint.spec.norm_eps)
    return engine.linear(weight, bias, step.activation)


def _norm(weight: FloatArray, bias: FloatArray | None, eps: float) -> Head:
    offset = np.zeros_like(weight) if bias is None else bias

    def apply(vectors: FloatArray) -> FloatArray:
        normed = np.empty_like(vectors)  # (B, H)
        for begin in range(0, len(vectors), _NORM_ROWS):
            block = slice(begin, begin + _NORM_ROWS)
            centred = vectors[block].astype(np.float64)
            centred -= _mean(centred)
            normed[block] = centred / np.sqrt(_mean(np.square(centred)) + eps) * weight + offset
        return normed

    return apply


def _mean(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B, H) -> (B, 1); along whole rows, each is added up in an order that depends on its length only."""
    mean: npt.NDArray[np.float64] = np.add.reduce(rows, axis=1, keepdims=True) / rows.shape[1]
    return mean


def activation(name: str) -> Head:
    """The activation of one text's scores, (n,) -> (n,): "identity", "sigmoid" or one of `spec.ACTIVATIONS`."""
    return _ACTIVATIONS[name]


def softmax(row: FloatArray) -> npt.NDArray[np.float64]:
    """Logits to probabilities along the last axis, in float64 whatever comes in."""
    powers = np.exp(row.astype(np.float64) - row.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / np.add.reduce(powers, axis=-1, keepdims=True)
    return shares


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
    if spec.residual and spec.in_features != spec.out_features:
        shapes["residual.weight"] = (spec.out_features, spec.in_features)
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != shape:
            raise CheckpointError(f"{path} has {name!r} with shape {found}; its config.json asks for {shape}")
    bias = tensors["linear.bias"].float32() if spec.bias else None
    weight, name = tensors["linear.weight"].float32(), spec.activation
    if name in ("identity", *ACTIVATIONS):
        layer = engine.linear(weight, bias, name)
    else:
        layer = _by_row(engine.linear(weight, bias), activation(name))
    if not spec.residual:
        return layer
    if "residual.weight" not in shapes:
        return lambda vectors: layer(vectors) + vectors
    residual = engine.linear(tensors["residual.weight"].float32(), None)
    return lambda vectors: layer(vectors) + residual(vectors)


def _by_row(linear: Head, activation: Head) -> Head:
    """Apply what is no network's activation, and so none of the engine's, to a row at a time."""

    def apply(vectors: FloatArray) -> FloatArray:
        products = linear(vectors)  # (B, out)
        for n in range(len(products)):
            products[n] = activation(products[n])
        return products

    return apply


def _gelu(row: FloatArray) -> FloatArray:
    # NumPy has no erf; a row is one text's scores.
    shares: FloatArray = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in row.tolist()], np.float32)
    return row * shares


def _gelu_tanh(row: FloatArray) -> FloatArray:
    result: FloatArray = np.float32(0.5) * row * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * _bent(row)))
    return result


def _gelu_fast(row: FloatArray) -> FloatArray:
    # The same with the root cut to ten digits, which is how checkpoints name it.
    result: FloatArray = np.float32(0.5) * row * (1 + np.tanh(np.float32(0.7978845608) * _bent(row)))
    return result


def _bent(row: FloatArray) -> FloatArray:
    bent: FloatArray = row + np.float32(0.044715) * row * row * row
    return bent


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
    "gelu_tanh": _gelu_tanh,
    "gelu_fast": _gelu_fast,
    "quick_gelu": lambda row: row * _sigmoid(np.float32(1.702) * row),
    "silu": lambda row: row * _sigmoid(row),
    "sigmoid": _sigmoid,
}
