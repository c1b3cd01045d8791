"""The task `classify`: the labels of texts and pairs, with the scores of transformers' text-classification pipeline.

C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.heads import activation, softmax
from bothways.spec import HeadSpec
from bothways.tasks.plan import Plan
from bothways.tasks.scores import Limits, Scorer
from bothways.tokens import Text

__all__ = ["FUNCTIONS", "Label", "classify", "label_scores"]

#: What may make scores of logits, whatever the checkpoint says; "identity" leaves them as they are.
FUNCTIONS = ("softmax", "sigmoid", "identity")


@dataclass(frozen=True)
class Label:
    """A label and its score: a probability, or for a regression the value itself."""

    label: str
    score: float


def classify(
    scorer: Scorer, limits: Limits, top_k: int | None, function: str | None = None
) -> Plan[Text, list[Label]]:
    """Plan to give every text its `top_k` labels, the best first; equal ones keep the checkpoint's order.

    `function` makes scores of logits, one of `FUNCTIONS`; None for what the checkpoint's `problem_type` says.
    """
    spec = scorer.spec

    def labels(logits: FloatArray) -> list[Label]:
        scores = label_scores(logits, spec, function)  # (C,)
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [Label(spec.labels[n], float(scores[n])) for n in best]

    return scorer.texts(limits).then(labels)


def label_scores(logits: FloatArray, spec: HeadSpec, function: str | None = None) -> npt.NDArray[np.floating]:
    """Turn logits (C,) into scores (C,), by a function or else as the checkpoint's `problem_type` says.

    A softmax over labels that exclude each other, a sigmoid for those that hold or not, a regression's values as they
    are (transformers 5.23, TextClassificationPipeline.postprocess).
    """
    if function is not None:
        return softmax(logits) if function == "softmax" else activation(function)(logits)
    if spec.problem == "single_label":
        return softmax(logits)
    return activation("sigmoid")(logits) if spec.problem == "multi_label" else logits
