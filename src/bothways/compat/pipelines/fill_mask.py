"""The pipeline "fill-mask"."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bothways.compat.pipelines.base import Pipeline, PipelineException, read_lengths
from bothways.errors import InputError
from bothways.tasks.fill_mask import Fill, mask_id, target_ids
from bothways.tasks.inputs import shown, string_list

__all__ = ["FillMaskPipeline"]


class FillMaskPipeline(Pipeline):
    """Texts to the tokens that fit where they have a mask.

    A text with one mask has a list of dicts, one with several a list of such lists. A list of one text has the result
    of that text. `targets` are tokens to choose among.
    """

    task = "fill-mask"

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Fill the masks of a text, a list of texts, or a stream."""
        results = super().__call__(inputs, **options)
        return results[0] if isinstance(inputs, list) and len(inputs) == 1 else results

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        top_k: int | None = None,
        targets: str | Collection[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> Iterator[Any]:
        cut, limit = read_lengths(self.model, **(tokenizer_kwargs or {}))
        try:
            if targets is not None:
                target_ids(string_list(targets), self.tokenizer.vocabulary)
        except InputError as error:
            raise ValueError(str(error)) from error
        texts = self._checked(inputs)
        for fills in self.model.fill_mask(
            texts, top_k=5 if top_k is None else top_k, targets=targets, truncation=cut, max_length=limit
        ):
            masks = [[_result(fill) for fill in fills if fill.mask == n] for n in range(fills[-1].mask + 1)]
            yield masks[0] if len(masks) == 1 else masks

    def _checked(self, inputs: Iterator[Any]) -> Iterator[str]:
        """Pass on texts that have a mask."""
        spelling, _ = mask_id(self.tokenizer.vocabulary)
        for text in inputs:
            if not isinstance(text, str):
                raise ValueError(f"{shown(text)} is no text; send a string")
            if spelling not in text:
                raise PipelineException(self.task, self.model.name, f"No mask_token ({spelling}) found on the input")
            yield text


def _result(fill: Fill) -> dict[str, Any]:
    return {"score": fill.score, "token": fill.id, "token_str": fill.token, "sequence": fill.text}
