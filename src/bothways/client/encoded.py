"""The result of `Client.encode`: the attributes of `bothways.Encoded`, from arrays that a server sent.

B texts, S longest sequence, n one sequence's tokens, H hidden, N heads, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.client.replies import Arrays, Unreadable, read_arrays, read_cells
from bothways.client.wire import Reply
from bothways.tasks.encode import padded

__all__ = ["RemoteEncoded", "RemoteRows", "joined", "one_by_one", "read_encoded"]

_NO_POOLER = "the server sent none, as the checkpoint has no trained pooler"


@dataclass(frozen=True, eq=False)
class RemoteRows:
    """What was computed for one text, unpadded.

    Attributes:
        ids: (n,) token ids.
        tokens: The tokens as strings.
        offsets: (n, 2) where each token starts and ends in its text.
        truncated: How many tokens of the text were cut off.
        rows: (n, H).
        pooled: (H,) the pooler's output, or None without a pooler.
        layers: L + 1 arrays (n, H), if asked for.
        attentions: L arrays (N, n, n), if asked for.
    """

    ids: npt.NDArray[np.int64]
    tokens: list[str]
    offsets: npt.NDArray[np.int64]
    truncated: int
    rows: FloatArray
    pooled: FloatArray | None
    layers: list[FloatArray] | None
    attentions: list[FloatArray] | None


@dataclass(frozen=True, eq=False)
class RemoteEncoded:
    """The token vectors of B texts. Padded arrays are made when first read; padding is zeros on the right.

    Attributes:
        texts: The unpadded results, one per text.
        hidden_size: H.
        pooler: Whether the checkpoint has a trained pooler.
        padding_id: The token id that fills `input_ids`; 0 where no reply had to fill any.
    """

    texts: tuple[RemoteRows, ...]
    hidden_size: int
    pooler: bool
    padding_id: int

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.texts)

    def __repr__(self) -> str:
        """The sizes, not the numbers."""
        tokens = sum(len(text.ids) for text in self.texts)
        return f"RemoteEncoded({len(self)} texts, {tokens} tokens, hidden size {self.hidden_size})"

    @cached_property
    def input_ids(self) -> npt.NDArray[np.int64]:
        """(B, S) token ids."""
        ids = padded([text.ids for text in self.texts], (), np.int64)
        ids[self.attention_mask == 0] = self.padding_id
        return ids

    @cached_property
    def attention_mask(self) -> npt.NDArray[np.int64]:
        """(B, S), 1 at tokens and 0 at padding."""
        return padded([np.ones(len(text.ids)) for text in self.texts], (), np.int64)

    @cached_property
    def last_hidden_state(self) -> FloatArray:
        """(B, S, H) token vectors."""
        return padded([text.rows for text in self.texts], (self.hidden_size,), np.float32)

    @cached_property
    def pooler_output(self) -> FloatArray | None:
        """(B, H), or None where the checkpoint has no trained pooler: `pooler_reason` says why."""
        if not self.pooler:
            return None
        rows = [text.pooled for text in self.texts if text.pooled is not None]
        return np.stack(rows) if rows else np.zeros((0, self.hidden_size), np.float32)

    @property
    def pooler_reason(self) -> str:
        """Why `pooler_output` is None, or ""."""
        return "" if self.pooler else _NO_POOLER

    @property
    def tokens(self) -> list[list[str]]:
        """Each text's tokens as strings."""
        return [text.tokens for text in self.texts]

    @property
    def offsets(self) -> list[npt.NDArray[Any]]:
        """For each text (n, 2): where each token starts and ends in it, in characters; (0, 0) for special tokens."""
        return [text.offsets for text in self.texts]

    @property
    def truncated(self) -> list[int]:
        """How many tokens of each text were cut off; 0 where it is whole."""
        return [text.truncated for text in self.texts]

    @cached_property
    def hidden_states(self) -> tuple[FloatArray, ...] | None:
        """L + 1 arrays (B, S, H): the embeddings and every layer's output; None unless asked for."""
        layers = [text.layers for text in self.texts if text.layers is not None]
        if not layers:
            return None
        return tuple(padded(list(rows), (self.hidden_size,), np.float32) for rows in zip(*layers, strict=True))

    @cached_property
    def attentions(self) -> tuple[FloatArray, ...] | None:
        """L arrays (B, N, S, S) of probabilities, zero at padding; None unless asked for."""
        given = [text.attentions for text in self.texts if text.attentions is not None]
        if not given:
            return None
        return tuple(_squares(list(layer)) for layer in zip(*given, strict=True))


def _squares(parts: list[FloatArray]) -> FloatArray:
    """Stack arrays (N, n, n) into (B, N, S, S)."""
    longest = max(part.shape[-1] for part in parts)
    padded = np.zeros((len(parts), len(parts[0]), longest, longest), np.float32)  # (B, N, S, S)
    for n, part in enumerate(parts):
        padded[n, :, : part.shape[-1], : part.shape[-1]] = part
    return padded


def one_by_one(encoded: RemoteEncoded) -> Iterator[RemoteEncoded]:
    """Each text's result by itself."""
    return (replace(encoded, texts=(text,)) for text in encoded.texts)


def joined(parts: list[RemoteEncoded]) -> RemoteEncoded:
    """The results of all parts, at least one, as one."""
    texts = tuple(text for part in parts for text in part.texts)
    return replace(parts[0], texts=texts, padding_id=max(part.padding_id for part in parts))


def read_encoded(reply: Reply, count: int) -> RemoteEncoded:
    """Read a reply's padded arrays. Texts' arrays are their own, not slices of the reply's."""
    arrays = read_arrays(reply)
    try:
        return _encoded(arrays, count)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Unreadable(f"its arrays don't fit together ({type(error).__name__}: {error})") from None


def _encoded(arrays: Arrays, count: int) -> RemoteEncoded:
    ids, mask, hidden = arrays["input_ids"], arrays["attention_mask"], arrays["last_hidden_state"]
    if not len(ids) == len(mask) == len(hidden) == len(arrays["truncated"]) == count:
        raise Unreadable(f"it holds {len(hidden)} results where {count} are due")
    padding = ids[mask == 0]
    offsets, tokens = (read_cells(arrays[name], arrays, count) for name in ("offsets", "tokens"))
    layers, attentions = _numbered(arrays, "hidden_state_"), _numbered(arrays, "attention_")
    pooled = arrays.get("pooler_output")
    texts = tuple(
        RemoteRows(
            ids=ids[n, :length].astype(np.int64),
            tokens=[str(token) for token in tokens[n]],
            offsets=offsets[n].astype(np.int64).reshape(length, 2),
            truncated=int(arrays["truncated"][n]),
            rows=_floats(hidden[n, :length]),
            pooled=None if pooled is None else _floats(pooled[n]),
            layers=[_floats(layer[n, :length]) for layer in layers] or None,
            attentions=[_floats(layer[n, :, :length, :length]) for layer in attentions] or None,
        )
        for n, length in enumerate(mask.sum(axis=1).tolist())
    )
    return RemoteEncoded(texts, hidden.shape[2], pooled is not None, int(padding[0]) if padding.size else 0)


def _floats(array: npt.NDArray[Any]) -> FloatArray:
    return array.astype(np.float32)


def _numbered(arrays: Arrays, name: str) -> list[npt.NDArray[Any]]:
    """The arrays `name`0, `name`1 and so on."""
    found: list[npt.NDArray[Any]] = []
    while f"{name}{len(found)}" in arrays:
        found.append(arrays[f"{name}{len(found)}"])
    return found
