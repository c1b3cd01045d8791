"""Which tasks a checkpoint can serve, and why it can't serve another."""

from __future__ import annotations

from bothways.errors import TaskError
from bothways.families.heads import HEAD_CLASSES
from bothways.spec import Spec
from bothways.tasks.zero_shot import entailment

__all__ = ["TASKS", "available_tasks", "check_task"]

#: The tasks that need a head, and the head that each needs.
TASKS = {
    "classify": "classification",
    "rerank": "classification",
    "zero_shot": "classification",
    "tag": "token_classification",
    "fill_mask": "masked_lm",
    "answer": "question_answering",
}


def available_tasks(spec: Spec) -> tuple[str, ...]:
    """The names of the `Encoder` methods that a checkpoint can serve."""
    return ("encode", "embed", "similarity", *(task for task in TASKS if not _reason(task, spec)))


def check_task(task: str, spec: Spec, spoken: str = "") -> str:
    """Return the head that a task needs; `spoken` is what a message calls it, where that is not its name.

    Raises:
        TaskError: The checkpoint does not carry it, or it is of another use; the message names what it can do.
    """
    reason = _reason(task, spec)
    if reason:
        able = ", ".join(available_tasks(spec))
        raise TaskError(f"this checkpoint can't {spoken or task}: {reason}; it can {able}")
    return TASKS[task]


def _reason(task: str, spec: Spec) -> str:
    kind = TASKS[task]
    if kind not in spec.heads:
        spoken = kind.replace("_", " ")
        return f"it has no {spoken} head (config.json names no ...{HEAD_CLASSES[kind]}, or its tensors are missing)"
    labels = spec.heads[kind].labels
    if task == "rerank" and len(labels) != 1:
        return f"a reranker's head gives one score, this one gives {len(labels)}"
    if task == "zero_shot" and (len(labels) < 2 or entailment(labels) is None):
        return f"its labels are {', '.join(labels[:10])}, and none starts with 'entail'"
    return ""
