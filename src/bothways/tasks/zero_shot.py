"""The task `zero_shot`: labels that a checkpoint was never trained on, by asking whether a text entails them.

For every text and label the network reads a pair, the text and the label's sentence. L labels, C logits of a pair.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError
from bothways.heads import softmax
from bothways.tasks.classify import Label
from bothways.tasks.inputs import shown
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.scores import Limits, Scorer
from bothways.tokens import Sequence

__all__ = ["TEMPLATE", "entailment", "read_labels", "read_template", "sentences", "zero_shot"]

#: The sentence that a label makes, where nothing else is said.
TEMPLATE = "This example is {}."

#: Where a label goes in a template.
_PLACE = "{}"


def zero_shot(
    labels: list[str], template: str, scorer: Scorer, limits: Limits, *, multi_label: bool
) -> Plan[str, list[Label]]:
    """Plan to give every text its labels, the best first; equal scores keep the labels' order.

    Too long a text is cut so that the label's sentence stays whole.
    """
    many = len(labels)
    around = many * (len(template) - len(_PLACE)) + sum(map(len, labels))

    def tokenize(texts: list[str], first: int) -> list[list[Sequence]]:
        # Made only here, when a text's weight is known: together they are as long as labels times the template.
        hypotheses = sentences(template, labels)
        pairs = scorer.tokenizer.tokenize(
            [(text, hypothesis) for text in texts for hypothesis in hypotheses],
            max_length=limits.max_tokens,
            truncation=limits.truncation,
            first=first * many,
            each=many,
            spans=False,
            keep_second=True,
        )
        return [pairs[n : n + many] for n in range(0, len(pairs), many)]

    def finish(text: Computed[str]) -> list[Label]:
        scores = label_scores(np.stack(text.rows), scorer.spec.labels, multi_label=multi_label)  # (L,)
        return [Label(labels[n], float(scores[n])) for n in np.argsort(-scores, kind="stable")]

    # A text weighs what all its pairs do, so that many labels take no more memory than many texts.
    return scorer.plan(tokenize, finish, limits.max_tokens, weight=lambda text: many * len(text) + around)


def label_scores(logits: FloatArray, names: tuple[str, ...], *, multi_label: bool) -> npt.NDArray[np.float64]:
    """Turn the logits of one text's pairs (L, C) into its labels' scores (L,).

    Labels that exclude each other share a softmax over their entailment; with `multi_label`, or a single label, each
    has one of its own over contradiction and entailment (transformers 5.23, ZeroShotClassificationPipeline).
    """
    entails = entailment(names) or 0
    if not multi_label and len(logits) > 1:
        return softmax(logits[:, entails])
    return softmax(logits[:, [_contradiction(names, entails), entails]])[:, 1]


def entailment(names: tuple[str, ...]) -> int | None:
    """Find the first label of a checkpoint that starts with "entail", in whatever case."""
    return next((n for n, name in enumerate(names) if name.lower().startswith("entail")), None)


def _contradiction(names: tuple[str, ...], entails: int) -> int:
    """Find the label that starts with "contra"; else the first one, or the last where the first is entailment.

    transformers has the second rule alone, so it takes "neutral" for contradiction where that label comes first.
    """
    named = (n for n, name in enumerate(names) if name.lower().startswith("contra"))
    return next(named, len(names) - 1 if entails == 0 else 0)


def read_labels(labels: Any) -> list[str]:
    """Read labels: a collection of strings, or one string with commas between them."""
    found = labels.split(",") if isinstance(labels, str) else labels
    if not isinstance(found, Collection) or not all(isinstance(label, str) for label in found):
        raise InputError(f"labels is {shown(labels)}; pass a list of strings, or a string with commas between labels")
    found = [label.strip() for label in found] if isinstance(labels, str) else list(found)
    if not found or not all(found):
        raise InputError(f"labels is {shown(labels)}; pass at least one label, and none that is empty")
    return found


def read_template(template: Any) -> str:
    """Read the sentence that a label makes: its {} says where, and no other braces are in it.

    It is no format string: those can reach into objects and ask for any amount of memory.
    """
    if isinstance(template, str) and template.count(_PLACE) == template.count("{") == template.count("}") == 1:
        return template
    raise InputError(
        f"template is {shown(template)}; it must be a string with one {{}} where the label goes, and no other braces"
    )


def sentences(template: Any, labels: list[str]) -> list[str]:
    """Put every label into the template, whose {} says where."""
    before, after = read_template(template).split(_PLACE)
    return [before + label + after for label in labels]
