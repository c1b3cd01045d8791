"""The task `encode`: texts to token vectors, with everything a reader of the network may want to see.

Letters: B texts, S longest sequence, n one sequence's tokens, H hidden, N heads, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.batch import pack
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Engine
from bothways.heads import pooler
from bothways.spec import Spec
from bothways.tasks.plan import Plan
from bothways.tokens import Cut, Sequence, Text, Tokenizer

__all__ = ["EncodeOptions", "Encoded", "Reader", "TextRows", "padded"]


@dataclass(frozen=True, eq=False)
class TextRows:
    """What was computed for one text, unpadded.

    Attributes:
        sequence: The text's tokens.
        rows: (n, H).
        pooled: (H,) the pooler's output, or None without a pooler.
        layers: L + 1 arrays (n, H), if asked for.
        attentions: (L, N, n, n), if asked for.
    """

    sequence: Sequence
    rows: FloatArray
    pooled: FloatArray | None
    layers: list[FloatArray] | None
    attentions: FloatArray | None

    def alone(self) -> TextRows:
        """The same with arrays of its own: those of a batch's texts are slices, which keep all of it in memory."""
        return TextRows(
            self.sequence,
            self.rows.copy(),
            None if self.pooled is None else self.pooled.copy(),
            None if self.layers is None else [layer.copy() for layer in self.layers],
            None if self.attentions is None else self.attentions.copy(),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """The token vectors of B texts. Padded arrays are made when first read; padding is zeros on the right.

    Attributes:
        texts: The unpadded results, one per text.
        spec: The network that computed them.
        padding_id: The token id that fills `input_ids`.
    """

    texts: tuple[TextRows, ...]
    spec: Spec
    padding_id: int

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.texts)

    def __repr__(self) -> str:
        """The sizes, not the numbers."""
        tokens = sum(len(text.sequence) for text in self.texts)
        return f"Encoded({len(self)} texts, {tokens} tokens, hidden size {self.spec.hidden_size})"

    @cached_property
    def input_ids(self) -> npt.NDArray[np.int64]:
        """(B, S) token ids."""
        ids = padded([text.sequence.ids for text in self.texts], (), np.int64)
        ids[self.attention_mask == 0] = self.padding_id
        return ids

    @cached_property
    def attention_mask(self) -> npt.NDArray[np.int64]:
        """(B, S), 1 at tokens and 0 at padding."""
        return padded([np.ones(len(text.sequence)) for text in self.texts], (), np.int64)

    @cached_property
    def last_hidden_state(self) -> FloatArray:
        """(B, S, H) token vectors."""
        return padded([text.rows for text in self.texts], (self.spec.hidden_size,), np.float32)

    @cached_property
    def pooler_output(self) -> FloatArray | None:
        """(B, H), or None where the checkpoint has no trained pooler: `pooler_reason` says why."""
        if not self.spec.pooler:
            return None
        rows = [text.pooled for text in self.texts if text.pooled is not None]
        return np.stack(rows) if rows else np.zeros((0, self.spec.hidden_size), np.float32)

    @property
    def pooler_reason(self) -> str:
        """Why `pooler_output` is None, or ""."""
        return self.spec.pooler_reason

    @property
    def tokens(self) -> list[list[str]]:
        """Each text's tokens as strings."""
        return [text.sequence.tokens for text in self.texts]

    @property
    def offsets(self) -> list[npt.NDArray[Any]]:
        """For each text (n, 2): where each token starts and ends in it, in characters; (0, 0) for special tokens."""
        return [text.sequence.offsets for text in self.texts]

    @property
    def truncated(self) -> list[int]:
        """How many tokens of each text were cut off; 0 where it is whole."""
        return [text.sequence.truncated for text in self.texts]

    @cached_property
    def hidden_states(self) -> tuple[FloatArray, ...] | None:
        """L + 1 arrays (B, S, H): the embeddings and every layer's output; None unless asked for."""
        layers = [text.layers for text in self.texts if text.layers is not None]
        if not layers:
            return None
        width = (self.spec.hidden_size,)
        return tuple(padded(list(rows), width, np.float32) for rows in zip(*layers, strict=True))

    @cached_property
    def attentions(self) -> tuple[FloatArray, ...] | None:
        """L arrays (B, N, S, S) of probabilities, zero at padding; None unless asked for."""
        given = [text.attentions for text in self.texts if text.attentions is not None]
        if not given:
            return None
        longest = max(array.shape[-1] for array in given)
        shape = (self.spec.num_layers, len(given), self.spec.num_heads, longest, longest)
        padded = np.zeros(shape, np.float32)  # (L, B, N, S, S)
        for n, array in enumerate(given):
            padded[:, n, :, : array.shape[-1], : array.shape[-1]] = array
        return tuple(padded)


def padded(parts: list[npt.NDArray[Any]], last: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    """Stack arrays (n, *last) into (B, S, *last), with zeros on the right."""
    longest = max(map(len, parts), default=0)
    stacked: npt.NDArray[Any] = np.zeros((len(parts), longest, *last), dtype)  # (B, S, *last)
    for n, part in enumerate(parts):
        stacked[n, : len(part)] = part
    return stacked


@dataclass(frozen=True)
class EncodeOptions:
    """One call's options, checked; `max_length` None is what the network can read."""

    max_length: int | None
    truncation: Cut
    hidden_states: bool
    attentions: bool


class Reader:
    """Computes the token vectors of texts with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine) -> None:
        """Join the parts."""
        self._spec = checkpoint.spec
        self._tokenizer = tokenizer
        self._engine = engine
        self._pooler = pooler(engine, checkpoint)
        padding_id = checkpoint.config.get("pad_token_id")
        self._padding_id = padding_id if isinstance(padding_id, int) else 0

    def plan(self, options: EncodeOptions) -> Plan[Text, TextRows]:
        """Plan to compute every token's vector; a text's arrays are slices of its batch's."""

        def tokenize(texts: list[Text], first: int) -> list[list[Sequence]]:
            found = self._tokenizer.tokenize(
                texts, max_length=options.max_length, truncation=options.truncation, first=first
            )
            return [[sequence] for sequence in found]

        return Plan(
            tokenize=tokenize,
            compute=lambda sequences: self._compute(sequences, options),
            finish=lambda texts: [text.rows[0] for text in texts],
            group=("encode", options.hidden_states, options.attentions),
            max_tokens=options.max_length or self._tokenizer.max_tokens,
        )

    def encoded(self, rows: Iterable[TextRows]) -> Encoded:
        """Put texts together."""
        return Encoded(tuple(rows), self._spec, self._padding_id)

    def _compute(self, sequences: list[Sequence], options: EncodeOptions) -> list[TextRows]:
        batch = pack(sequences, self._spec)
        hidden = self._engine.encode(
            batch, rows="all", hidden_states=options.hidden_states, attentions=options.attentions
        )
        pooled = None if self._pooler is None else self._pooler(hidden.rows[batch.starts[:-1]])  # (B, H)
        cuts = [slice(start, end) for start, end in zip(batch.starts, batch.starts[1:], strict=False)]
        return [
            TextRows(
                sequence,
                hidden.rows[cut],
                None if pooled is None else pooled[n],
                None if hidden.layers is None else [layer[cut] for layer in hidden.layers],
                None if hidden.attentions is None else hidden.attentions[n],
            )
            for n, (sequence, cut) in enumerate(zip(sequences, cuts, strict=True))
        ]
