"""The pipeline "feature-extraction"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bothways.compat.pipelines.base import Pipeline, read_lengths
from bothways.compat.tensors import to_tensor

__all__ = ["FeatureExtractionPipeline"]


class FeatureExtractionPipeline(Pipeline):
    """Texts to the vectors of all their tokens, special ones included: lists [1][n][H].

    `return_tensors` gives torch tensors (1, n, H).
    """

    task = "feature-extraction"

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        truncation: Any = None,
        tokenize_kwargs: Mapping[str, Any] | None = None,
        return_tensors: bool | None = None,
    ) -> Iterator[Any]:
        settings = dict(tokenize_kwargs or {})
        if truncation is not None and "truncation" in settings:
            raise ValueError("truncation is given twice: as an argument, and in tokenize_kwargs")
        cut, limit = read_lengths(self.model, **{"truncation": truncation, **settings})
        for encoded in self.model.encode(inputs, max_length=limit, truncation=cut):
            vectors = encoded.last_hidden_state  # (1, n, H)
            yield to_tensor(vectors, "return_tensors=True") if return_tensors else vectors.tolist()
