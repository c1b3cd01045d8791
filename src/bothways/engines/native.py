"""The native engine: the C++ core (csrc/) behind the `Engine` seam."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

import bothways._native as _native
from bothways.arrays import FloatArray
from bothways.batch import TokenBatch
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Hidden, Rows
from bothways.engines.positions import REACH, alibi_by_distance, bias_by_distance, frequencies, rows_by_distance
from bothways.engines.threads import default_threads
from bothways.errors import DeviceError
from bothways.safetensors import Tensor
from bothways.spec import Rotary, Spec

__all__ = ["NativeEngine", "level_in_force", "maxsim"]

#: What is read where the checkpoint has it.
_TABLES = ("embeddings.word", "embeddings.position", "embeddings.token_type")


def level_in_force() -> str:
    """Return the level that new engines use: BOTHWAYS_LEVEL, or the best that this machine can run.

    Raises:
        DeviceError: BOTHWAYS_LEVEL names a level that is unknown or can't run here.
    """
    wanted = os.environ.get("BOTHWAYS_LEVEL", "")
    try:
        return _native.level(wanted)
    except ValueError as error:
        raise DeviceError(f"BOTHWAYS_LEVEL={wanted}: {error}; unset it to use the best level") from None


def maxsim(
    queries: FloatArray,
    query_starts: npt.NDArray[np.int64],
    documents: FloatArray,
    document_starts: npt.NDArray[np.int64],
    *,
    threads: int | None,
) -> FloatArray:
    """Score texts by their vectors, end to end (T, D) with each one's start and the end: see csrc/maxsim.h."""
    return _native.maxsim(
        queries,
        query_starts,
        documents,
        document_starts,
        level=level_in_force(),
        threads=threads or default_threads()[0],
    )


def _network(spec: Spec) -> _native.Network:
    network = _native.Network()
    network.vocabulary = spec.vocab_size
    network.positions = spec.num_positions
    network.token_types = spec.num_token_types
    network.embedding = spec.embedding_width
    network.hidden = spec.hidden_size
    network.heads = spec.num_heads
    network.inner = spec.inner_size
    network.eps = spec.norm_eps
    network.reach = _reach(spec)
    network.score_terms = spec.score_terms
    network.projection_first = spec.projection_first
    network.pre_norm = spec.pre_norm
    network.rms_norm = spec.rms_norm
    network.gated = spec.gated
    network.key_heads = spec.key_heads
    network.interleaved = spec.rotary_interleaved
    rotaries = _rotaries(spec)
    network.rotary = [rotaries.index(rotary) for rotary in spec.rotary] or [-1] * spec.num_layers
    network.windows = [-1 if window is None else window for window in spec.windows] or [-1] * spec.num_layers
    network.stored_layers = [spec.stored_layer(n) for n in range(spec.num_layers)]
    network.activate(spec.activation)
    if spec.relative_vectors is not None:
        network.vector_rows = rows_by_distance(spec.relative_vectors, spec.num_positions).tolist()
        network.vector_table_rows = spec.relative_vectors.rows
        network.position_keys = spec.relative_vectors.keys
        network.position_queries = spec.relative_vectors.queries
    if spec.convolution is not None:
        network.convolution = spec.convolution.tokens
        network.convolution_groups = spec.convolution.groups
        network.activate_convolution(spec.convolution.activation)
    return network


def _reach(spec: Spec) -> int:
    """How far away a key may be for its distance to count."""
    return spec.num_positions - 1 if spec.alibi else REACH if spec.relative_buckets else 0


def _rotaries(spec: Spec) -> list[Rotary]:
    """The different ones, in the order of their first layer."""
    return list(dict.fromkeys(spec.rotary))


def _add_task_type(tensors: Mapping[str, Tensor]) -> FloatArray:
    """(Y, E): every token has one type and the first task, so the two are one table."""
    types, tasks = (tensors[f"embeddings.{name}"].float32() for name in ("token_type", "task_type"))
    return np.ascontiguousarray(types + tasks[0])


class NativeEngine:
    """Computes a checkpoint on the CPU.

    Args:
        checkpoint: The checkpoint; its embedding tables stay where they are mapped, the rest is packed.
        dtype: The dtype of the arithmetic.
        threads: How many threads may compute at once; by default see `default_threads`.

    Raises:
        DeviceError: BOTHWAYS_LEVEL can't be had here, or so many threads can't be started.
    """

    name = "native"

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "float32", threads: int | None = None) -> None:
        spec = checkpoint.spec
        self.level = level_in_force()
        self.dtype = dtype
        self.threads = threads or default_threads()[0]
        self._checkpoint = checkpoint
        tensors = {name: checkpoint.tensors[name] for name in spec.tensor_shapes() if not name.startswith("pooler.")}
        try:
            self._model = self._load(tensors)
        except RuntimeError as error:
            raise DeviceError(f"{error}; pass a smaller number of threads") from None
        checkpoint.release(_TABLES)  # the rest is packed

    def _load(self, tensors: dict[str, Tensor]) -> _native.Model:
        spec = self._checkpoint.spec
        arrays = {name: (tensor.array, tensor.dtype) for name, tensor in tensors.items()}
        if spec.num_task_types:
            arrays["embeddings.token_type"] = (_add_task_type(tensors), "F32")
        for n, rotary in enumerate(_rotaries(spec)):
            arrays[f"rotary.{n}"] = (frequencies(rotary, spec.head_size), "F32")
        if spec.relative_buckets:
            arrays["relative_bias"] = (bias_by_distance(tensors["relative_bias"].float32()), "F32")
        if spec.alibi:
            arrays["relative_bias"] = (alibi_by_distance(spec.num_heads, _reach(spec)), "F32")
        return _native.Model(arrays, _network(spec), level=self.level, dtype=self.dtype, threads=self.threads)

    def encode(
        self, batch: TokenBatch, *, rows: Rows = "all", hidden_states: bool = False, attentions: bool = False
    ) -> Hidden:
        """Compute a batch; the GIL is released meanwhile, and any number of threads may call at once.

        Raises:
            CheckpointError: The weights file, whose word table is read in place, was overwritten since it was loaded.
        """
        self._checkpoint.check_unchanged()
        result, layers, probabilities = self._model.encode(
            batch.ids,
            batch.positions,
            batch.token_types,
            batch.starts,
            keys=batch.keys,
            rows=rows,
            hidden_states=hidden_states,
            attentions=attentions,
        )
        return Hidden(result, None if layers is None else list(layers), probabilities)

    def linear(
        self, weight: FloatArray, bias: FloatArray | None, activation: str = "identity"
    ) -> Callable[[FloatArray], FloatArray]:
        """Prepare x -> activation(x @ weight.T + bias), each row computed independently of the others."""
        return _native.Head(weight, bias, activation=activation, level=self.level)
