"""The pipeline "zero-shot-classification"."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from bothways.compat.pipelines.base import Pipeline
from bothways.errors import InputError
from bothways.tasks.inputs import shown
from bothways.tasks.zero_shot import read_template

__all__ = ["ZeroShotClassificationPipeline"]


class ZeroShotClassificationPipeline(Pipeline):
    """Texts to labels of the caller's choice, with a model that was trained on entailment.

    `candidate_labels` are a list, or a string with commas; `hypothesis_template` says where a label goes by {};
    `multi_label` scores every label by itself.
    """

    task = "zero-shot-classification"

    def __call__(self, sequences: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]  # as named there
        """Label a text, a list of texts, or a stream; the labels may be the second argument."""
        if args and (len(args) > 1 or "candidate_labels" in options):
            raise ValueError(f"Unable to understand extra arguments {args}")
        return super().__call__(sequences, **(options | ({"candidate_labels": args[0]} if args else {})))

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        candidate_labels: str | Sequence[str] = (),
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
    ) -> Iterator[Any]:
        labels = _read_labels(candidate_labels)
        try:
            read_template(hypothesis_template)
        except InputError as error:
            raise ValueError(f"hypothesis_{error}") from None
        ahead: deque[str] = deque()  # texts are read before their results come

        def read() -> Iterator[str]:
            for text in inputs:
                ahead.append(_read_text(text))
                yield ahead[-1]

        results = self.model.zero_shot(read(), labels, template=hypothesis_template, multi_label=bool(multi_label))
        for found in results:
            yield {
                "sequence": ahead.popleft(),
                "labels": [label.label for label in found],
                "scores": [label.score for label in found],
            }


def _read_labels(given: Any) -> list[str]:
    labels = [label.strip() for label in given.split(",")] if isinstance(given, str) else list(given)
    labels = list(filter(None, labels)) if isinstance(given, str) else labels
    if not labels:
        raise ValueError("You must include at least one label and at least one sequence.")
    return labels


def _read_text(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{shown(given)} is no text; send a string")
    if not given:
        raise ValueError("You must include at least one label and at least one sequence.")
    return given
