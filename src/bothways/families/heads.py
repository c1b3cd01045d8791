"""The heads that a family's checkpoints may carry, as data, and which of them a checkpoint does carry.

Heads may have the same tensors, as a classifier of texts and one of tokens do: what tells them apart is the class that
config.json names in `architectures`. The other heads are known by their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from bothways.errors import CheckpointError
from bothways.safetensors import Tensor
from bothways.spec import HeadSpec, Spec, StepSpec

__all__ = ["HEAD_CLASSES", "linear", "norm", "read_heads"]

#: The heads, and what the names of transformers' classes that have them end in.
HEAD_CLASSES = {
    "classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "masked_lm": "ForMaskedLM",
    "question_answering": "ForQuestionAnswering",
}
_CLASSIFIERS = ("classification", "token_classification")

_Problem = Literal["single_label", "multi_label", "regression"]


def linear(name: str, activation: str = "identity", *, bias: bool = True) -> StepSpec:
    """A product, by the name of its layer."""
    return StepSpec(f"{name}.weight", f"{name}.bias" if bias else "", activation)


def norm(name: str, *, bias: bool = True) -> StepSpec:
    """A layer norm, by its name."""
    return StepSpec(f"{name}.weight", f"{name}.bias" if bias else "", norm=True)


def read_heads(
    offered: Mapping[str, HeadSpec],
    stand_ins: Mapping[str, str],
    config: Mapping[str, Any],
    raw: Mapping[str, Tensor],
    spec: Spec,
) -> dict[str, HeadSpec]:
    """Find the heads that a checkpoint carries.

    Args:
        offered: A family's heads.
        stand_ins: Tensor name -> the name of the same one where only that is stored.
        config: config.json.
        raw: The checkpoint's tensors.
        spec: The network.

    Raises:
        CheckpointError: config.json and the tensors of a head contradict each other.
    """
    named = {kind: _named(head, stand_ins, raw, spec) for kind, head in offered.items()}
    complete = {kind: head for kind, head in named.items() if _is_complete(head, raw, spec)}
    own = {kind: {name for step in offered[kind].steps for name in step.tensors if name in raw} for kind in complete}
    chosen = _chosen(own, config)
    return {kind: _checked(kind, head, config, raw, spec) for kind, head in complete.items() if kind in chosen}


def _named(head: HeadSpec, stand_ins: Mapping[str, str], raw: Mapping[str, Tensor], spec: Spec) -> HeadSpec:
    """Give the steps the names that this checkpoint has for their tensors, and the network's own activation."""

    def find(name: str) -> str:
        while name not in raw and name in stand_ins:
            name = stand_ins[name]
        return name

    return replace(
        head,
        steps=tuple(
            replace(
                step,
                weight=find(step.weight),
                bias=find(step.bias),
                activation=spec.activation if step.activation == "network" else step.activation,
            )
            for step in head.steps
        ),
    )


def _is_complete(head: HeadSpec, raw: Mapping[str, Tensor], spec: Spec) -> bool:
    there = all(name in raw for step in head.steps for name in step.tensors)
    return there and (spec.pooler or head.rows != "pooled")


def _chosen(own: Mapping[str, set[str]], config: Mapping[str, Any]) -> set[str]:
    """Decide between heads that fit the same tensors; where config.json names no class, the only one that fits.

    `own` are the complete heads, and those of their tensors that no other tensor of the checkpoint stands in for.
    """
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(f"config.json: architectures is {classes!r:.100}, it must be a list of class names")
    unsure = {kind for kind in own if kind in _CLASSIFIERS or own[kind] <= _of_others(kind, own)}
    if any("For" in name for name in classes):
        meant = {kind for kind in unsure if any(name.endswith(HEAD_CLASSES[kind]) for name in classes)}
    else:
        fitting = {kind for kind in unsure if own[kind]}
        meant = fitting if len(fitting) == 1 else set()
    return meant | (own.keys() - unsure)


def _of_others(kind: str, own: Mapping[str, set[str]]) -> set[str]:
    return set().union(*(names for other, names in own.items() if other != kind))


def _checked(kind: str, head: HeadSpec, config: Mapping[str, Any], raw: Mapping[str, Tensor], spec: Spec) -> HeadSpec:
    """Check the tensors' sizes against each other and the network, and read the labels."""
    size = spec.hidden_size
    for step in head.steps:
        bias = step.weight.removesuffix("weight") + "bias"
        if not step.bias and bias in raw:
            raise CheckpointError(
                f"the {_spoken(kind)} head's {bias} is not called for by config.json; correct config.json, or remove "
                "it from the weights"
            )
        out = size if step.norm else next(iter(raw[step.weight].shape), 0)
        shapes = ((size,) if step.norm else (out, size), (out,))
        for name, shape in zip(step.tensors, shapes, strict=False):
            if raw[name].shape != shape or not raw[name].is_float:
                raise CheckpointError(
                    f"the {_spoken(kind)} head's {name} is {raw[name].dtype} of shape {raw[name].shape}, not floats of "
                    f"shape {shape}; the weights and config.json are of two checkpoints: fetch both again"
                )
        size = out
    if kind == "masked_lm":
        _check_size(kind, size, spec.vocab_size, "vocab_size")
        return head
    if kind == "question_answering":
        _check_size(kind, size, 2, "the number of scores (a start's and an end's)")
        return replace(head, labels=("start", "end"))
    return replace(head, labels=_labels(kind, config, size), problem=_problem(config, size))


def _check_size(kind: str, size: int, wanted: int, what: str) -> None:
    if size != wanted:
        raise CheckpointError(
            f"the {_spoken(kind)} head gives {size} scores, but {what} is {wanted}; use the weights that belong to "
            "this config.json"
        )


def _labels(kind: str, config: Mapping[str, Any], size: int) -> tuple[str, ...]:
    """Read `id2label`, whose keys JSON made strings; labels without a name are LABEL_0 and so on."""
    names = config.get("id2label")
    if names is None:
        return tuple(f"LABEL_{n}" for n in range(size))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"config.json: id2label is {names!r:.100}, it must be an object of numbers and names")
    labels = tuple(names.get(str(n)) for n in range(len(names)))
    found = tuple(label for label in labels if label is not None)
    if len(found) != len(names):
        raise CheckpointError(
            f"config.json: id2label has the numbers {', '.join(list(names)[:5])}; they must be 0 to {len(names) - 1}"
        )
    _check_size(kind, size, len(found), "the number of labels in id2label")
    return found


def _problem(config: Mapping[str, Any], size: int) -> _Problem:
    """Read `problem_type`; else a single score is of a label that holds or not, as in transformers' pipeline."""
    problems: dict[Any, _Problem] = {
        None: "single_label" if size > 1 else "multi_label",
        "single_label_classification": "single_label" if size > 1 else "multi_label",
        "multi_label_classification": "multi_label",
        "regression": "regression",
    }
    problem = config.get("problem_type")
    if not isinstance(problem, str | None) or problem not in problems:
        known = ", ".join(name for name in problems if name)
        raise CheckpointError(f"config.json: problem_type is {problem!r:.100}, it must be one of {known}, or left out")
    return problems[problem]


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")
