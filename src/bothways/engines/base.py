"""The seam between what computes and everything above it.

An engine turns a `TokenBatch` into float32 arrays. Heads, pooling and tasks work on those arrays and run
unchanged on any engine. Letters: T tokens, B sequences, H hidden, N heads, S a sequence's tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from bothways.arrays import FloatArray
from bothways.batch import TokenBatch

__all__ = ["Engine", "Hidden", "Rows"]

#: Which rows an engine returns: every token's, every sequence's first, or every sequence's mean.
Rows = Literal["all", "first", "mean"]


@dataclass(frozen=True)
class Hidden:
    """What an engine computed for one batch.

    Attributes:
        rows: (T, H) for rows="all", (B, H) for "first" and "mean".
        layers: With hidden_states=True, L + 1 arrays (T, H): the embeddings, then each layer's output.
        attentions: With attentions=True, for every sequence an array (L, N, S, S) of probabilities.
    """

    rows: FloatArray
    layers: list[FloatArray] | None = None
    attentions: list[FloatArray] | None = None


class Engine(Protocol):
    """Computes one checkpoint's network. Safe to call from many threads at once."""

    name: str
    level: str
    dtype: str
    threads: int

    def encode(
        self, batch: TokenBatch, *, rows: Rows = "all", hidden_states: bool = False, attentions: bool = False
    ) -> Hidden:
        """Compute a batch. A sequence's result never depends on what else is in the batch.

        A token sees its sequence's tokens, of which `batch.keys` may say that only the first so many are seen.
        """
        ...

    def linear(
        self, weight: FloatArray, bias: FloatArray | None, activation: str = "identity"
    ) -> Callable[[FloatArray], FloatArray]:
        """Prepare x -> activation(x @ weight.T + bias) for a head, (n, in) -> (n, out).

        Each row is independent of the others; the activation is "identity" or one of `spec.ACTIVATIONS`.
        """
        ...
