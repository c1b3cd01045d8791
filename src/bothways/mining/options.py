"""Options that the functions over vectors share."""

from __future__ import annotations

import math
from typing import Any, Literal

from bothways.engines.compare import Comparer
from bothways.errors import InputError
from bothways.tasks.inputs import one_of, shown, whole_number

__all__ = ["Score", "comparer", "count", "number"]

#: How two vectors are compared: by the cosine of their angle, or by their product as they are.
Score = Literal["cosine", "dot"]


def comparer(score: Any, threads: Any, chunk_size: Any) -> Comparer:
    """What compares, as the caller chose."""
    return Comparer(
        cosine=one_of(score, "score", ("cosine", "dot")) == "cosine",
        threads=whole_number(threads, "threads"),
        chunk_size=whole_number(chunk_size, "chunk_size"),
    )


def count(value: Any, name: str) -> int:
    """A whole number above zero, which can't be left out."""
    number = whole_number(value, name)
    if number is None:
        raise InputError(f"{name} is None; it must be a whole number above zero")
    return number


def number(value: Any, name: str) -> float:
    """A finite number."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result) or isinstance(value, str | bool):
        raise InputError(f"{name} is {shown(value)}; it must be a number")
    return result
