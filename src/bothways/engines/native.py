"""The native engine: the C++ core (csrc/) behind the `Engine` seam."""

from __future__ import annotations

import os
from collections.abc import Callable

import bothways._native as _native
from bothways.arrays import FloatArray
from bothways.batch import TokenBatch
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Hidden, Rows
from bothways.engines.threads import default_threads
from bothways.errors import DeviceError
from bothways.safetensors import Tensor

__all__ = ["NativeEngine", "level_in_force"]

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
        return _native.Model(
            {name: (tensor.array, tensor.dtype) for name, tensor in tensors.items()},
            vocabulary=spec.vocab_size,
            positions=spec.num_positions,
            token_types=spec.num_token_types,
            hidden=spec.hidden_size,
            layers=spec.num_layers,
            heads=spec.num_heads,
            inner=spec.inner_size,
            activation=spec.activation,
            eps=spec.norm_eps,
            level=self.level,
            dtype=self.dtype,
            threads=self.threads,
        )

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
            rows=rows,
            hidden_states=hidden_states,
            attentions=attentions,
        )
        return Hidden(result, None if layers is None else list(layers), probabilities)

    def linear(self, weight: FloatArray, bias: FloatArray | None) -> Callable[[FloatArray], FloatArray]:
        """Prepare x -> x @ weight.T + bias, each row computed independently of the others."""
        return _native.Head(weight, bias, level=self.level)
