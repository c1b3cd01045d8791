"""What a rival has to compute to give the embeddings that Bothways gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import UnsupportedModel

__all__ = ["Batch", "Recipe"]

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]  # ids, mask, token types: (B, S)


@dataclass(frozen=True)
class Recipe:
    """A checkpoint whose embeddings are its first token's or the mean of its tokens', as they are or of length 1."""

    folder: Path
    network: Path
    max_tokens: int
    pooling: str
    normalize: bool
    dtype: str
    threads: int

    @classmethod
    def read(cls, model: str, *, dtype: str, threads: int) -> Recipe:
        """Read it from a checkpoint.

        Raises:
            UnsupportedModel: The checkpoint's embeddings need more than pooling and normalization.
        """
        from bothways.checkpoint import open_checkpoint
        from bothways.sources import resolve
        from bothways.tasks.embed import token_limit
        from bothways.tokens import Tokenizer

        folder = resolve(model).folder
        checkpoint = open_checkpoint(folder)
        spec, embed = checkpoint.spec, checkpoint.spec.embed
        plain = embed.pooling in (("mean",), ("cls",)) and not (
            embed.dense or embed.dimensions or embed.default_prompt or embed.lower_case
        )
        plain = plain and spec.static is None and embed.splade is None and embed.late is None
        if not plain:
            raise UnsupportedModel(
                f"{model}: rivals are measured on checkpoints with mean or cls pooling alone, and this one has more; "
                "measure it without --against"
            )
        limit = token_limit(spec, Tokenizer.from_folder(checkpoint.network_folder, spec))
        return cls(folder, checkpoint.network_folder, limit, embed.pooling[0], embed.normalize, dtype, threads)

    def batches(self, texts: list[str], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield (numbers of the texts, padded batch), longest texts first."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i].ids))
        for begin in range(0, len(order), size):
            numbers = order[begin : begin + size]
            rows = [encodings[i].ids for i in numbers]
            ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
            mask = np.zeros_like(ids)
            for row, values in enumerate(rows):
                ids[row, : len(values)] = values
                mask[row, : len(values)] = 1
            yield numbers, (ids, mask, np.zeros_like(ids))

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.network / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    def run(self, texts: list[str], size: int, compute: Callable[[Batch], FloatArray]) -> FloatArray:
        """Embed batch by batch and put the rows back into the order of the texts."""
        parts = [(numbers, compute(batch)) for numbers, batch in self.batches(texts, size)]
        result = np.empty((len(texts), parts[0][1].shape[1]), np.float32)
        for numbers, rows in parts:
            result[numbers] = rows
        return result

    def pool(self, hidden: FloatArray, mask: npt.NDArray[np.int64]) -> FloatArray:
        """Pool and normalize (B, S, H) to (B, H), for rivals that have no graph to do it in."""
        if self.pooling == "cls":
            rows = hidden[:, 0]
        else:
            rows = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if self.normalize else rows

    def module(self) -> Any:
        """The checkpoint as a torch module from (ids, mask, token types) to embeddings."""
        import torch
        from transformers import AutoModel

        torch.set_num_threads(self.threads)
        recipe = self

        class Pooled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = AutoModel.from_pretrained(recipe.network, attn_implementation="sdpa").eval()
                self.typed = getattr(self.encoder.config, "type_vocab_size", 0) > 0

            def forward(self, ids: Any, mask: Any, types: Any) -> Any:
                inputs = {"token_type_ids": types} if self.typed else {}
                hidden = self.encoder(input_ids=ids, attention_mask=mask, **inputs).last_hidden_state
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                rows = hidden[:, 0] if recipe.pooling == "cls" else (hidden * weights).sum(1) / weights.sum(1)
                return torch.nn.functional.normalize(rows, dim=1) if recipe.normalize else rows

        return Pooled().eval()
