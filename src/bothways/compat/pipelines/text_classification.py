"""The pipeline "text-classification", also known as "sentiment-analysis"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.compat.pipelines.base import Pipeline, read_lengths
from bothways.heads import activation, softmax
from bothways.spec import HeadSpec
from bothways.tasks.classify import label_scores
from bothways.tasks.inputs import shown
from bothways.tokens import Text

__all__ = ["TextClassificationPipeline"]

_UNSET: Any = ""


class TextClassificationPipeline(Pipeline):
    """Texts and pairs to labels.

    A text is a string, a pair {"text": ..., "text_pair": ...}. Where `top_k` is never given, the result of a list is a
    dict for each, and that of a single string a list with its dict; otherwise each has a list of dicts. `top_k=None`
    gives all labels. `function_to_apply` is "softmax", "sigmoid" or "none", by the checkpoint's kind if not given.
    """

    task = "text-classification"

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Label a text, a list of texts, or a stream."""
        result = super().__call__(inputs, **options)
        # As there: a single text's result is put into a list even where it is one, unless the call itself has top_k.
        return [result] if isinstance(inputs, str) and "top_k" not in options else result

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        top_k: int | None = _UNSET,
        function_to_apply: Any = None,
        truncation: Any = None,
        max_length: int | None = None,
        padding: Any = None,
    ) -> Iterator[Any]:
        scorer = self.model._scorer("classify")
        cut, limit = read_lengths(self.model, truncation, max_length, padding)
        function = _read_function(function_to_apply)
        if top_k != _UNSET and top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int)):
            raise ValueError(f"top_k is {shown(top_k)}; it must be a whole number, or None for all labels")
        plan = scorer.texts(self.model._limits(cut, limit))
        for logits in self.model._carry_out(plan, map(_read_text, inputs), None):
            scores = _scores(logits, scorer.spec, function)
            order = np.argsort(-scores, kind="stable")
            labels = [{"label": scorer.spec.labels[n], "score": float(scores[n])} for n in order]
            yield labels[0] if top_k == _UNSET else labels[:top_k]


def _scores(logits: FloatArray, spec: HeadSpec, function: str | None) -> npt.NDArray[Any]:
    if function is None:
        return label_scores(logits, spec)
    return softmax(logits) if function == "softmax" else activation(function)(logits)


def _read_function(value: Any) -> str | None:
    names = {"softmax": "softmax", "sigmoid": "sigmoid", "none": "identity", "default": None}
    name = getattr(value, "value", value)
    if name is None:
        return None
    if not isinstance(name, str) or name.lower() not in names:
        raise ValueError(f"function_to_apply is {shown(value)}; use {', '.join(names)}")
    return names[name.lower()]


def _read_text(given: Any) -> Text:
    if isinstance(given, str):
        return given
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], list) and len(given[0]) == 2:
        given = {"text": given[0][0], "text_pair": given[0][1]}  # the way before dicts
    if isinstance(given, dict) and "text" in given and set(given) <= {"text", "text_pair"}:
        pair = given["text"], given.get("text_pair")
        if isinstance(pair[0], str) and isinstance(pair[1], str | None):
            return pair[0] if pair[1] is None else (pair[0], pair[1])
    raise ValueError(
        f"{shown(given)} is no text; send a string, or for a pair a dictionary "
        '{"text": "My text", "text_pair": "My pair"}'
    )
