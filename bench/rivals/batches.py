"""What rivals that compute padded batches share: the network with its pooling as one module, and sorted batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

__all__ = ["Batch", "Tokens", "in_order", "pooled_module"]

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, mask, token types: (B, S) int64


class Tokens:
    """The checkpoint's tokenizer, cutting at the 256 tokens that sentence-transformers uses for it."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)
        self._batch_size = batch_size

    def batches(self, texts: list[str]) -> Iterator[tuple[list[int], Batch]]:
        """Yield (numbers of the texts, padded batch), longest texts first."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i].ids))
        for begin in range(0, len(order), self._batch_size):
            numbers = order[begin : begin + self._batch_size]
            rows = [encodings[i].ids for i in numbers]
            ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
            mask = np.zeros_like(ids)
            for row, values in enumerate(rows):
                ids[row, : len(values)] = values
                mask[row, : len(values)] = 1
            yield numbers, (ids, mask, np.zeros_like(ids))


def in_order(tokens: Tokens, texts: list[str], run: Callable[[Batch], np.ndarray]) -> np.ndarray:
    """Embed batch by batch and put the rows back into the order of the texts."""
    result: np.ndarray | None = None
    for numbers, batch in tokens.batches(texts):
        rows = run(batch)
        if result is None:
            result = np.empty((len(texts), rows.shape[1]), np.float32)
        result[numbers] = rows
    assert result is not None
    return result


def pooled_module(folder: Path):  # type: ignore[no-untyped-def]
    """The checkpoint as a torch module from (ids, mask, token types) to normalized mean embeddings."""
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()

        def forward(self, ids, mask, types):  # type: ignore[no-untyped-def]
            hidden = self.encoder(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(mean, dim=1)

    return Pooled().eval()
