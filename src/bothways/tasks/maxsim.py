"""Late interaction: how alike texts are by the vectors of their tokens (Khattab and Zaharia, ColBERT, 2020).

n one text's vectors, D values of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError
from bothways.tasks.inputs import shown, whole_number

__all__ = ["late_similarities", "maxsim"]


def maxsim(
    queries: Iterable[npt.ArrayLike], documents: Iterable[npt.ArrayLike], *, threads: int | None = None
) -> FloatArray:
    """Score every query with every document by their token vectors: (len queries, len documents), larger is more alike.

    A score is the sum, over the query's vectors, of the largest dot product with one of the document's. It is the same
    bits in any company. A document without vectors scores minus infinity, a query without any 0.

    Args:
        queries: For each its vectors (n, D), as `Encoder.embed(..., tokens=True, prompt_name="query")` gives them; one
            array (n, D) is one query.
        documents: The same of documents.
        threads: How many to compute with; None takes what the process may use.

    Raises:
        InputError: Something is no array (n, D) of finite numbers, or sizes differ.
    """
    from bothways.engines.native import maxsim as compute

    first, second = _arrays(queries, "queries"), _arrays(documents, "documents")
    sizes = {array.shape[1] for array in (*first, *second)}
    if len(sizes) > 1:
        raise InputError(
            f"vectors have {min(sizes)} values here and {max(sizes)} there; embed all texts with one model"
        )
    if not first or not second or 0 in sizes:
        return np.zeros((len(first), len(second)), np.float32)
    return compute(*_joined(first), *_joined(second), threads=whole_number(threads, "threads"))


def late_similarities(
    a: Any, b: Any, embed: Callable[[Any, str], list[FloatArray]], measure: str, threads: int
) -> FloatArray:
    """Compare token vectors, or texts: those of a as queries, those of b as documents; (len a, len b).

    "meanmaxsim" is `maxsim` over the number of the query's vectors.
    """
    queries, documents = (
        embed(values, side) if _are_texts(values) else _arrays(values, name)
        for values, name, side in ((a, "a", "query"), (b, "b", "document"))
    )
    scores = maxsim(queries, documents, threads=threads)
    if measure == "meanmaxsim":
        scores /= np.array([max(len(query), 1) for query in queries], np.float32)[:, None]
    return scores


def _are_texts(values: Any) -> bool:
    return isinstance(values, str) or (
        isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)
    )


def _arrays(values: Any, name: str) -> list[FloatArray]:
    """Read texts' vectors, each (n, D) float32."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = [values]
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {shown(values)}; pass a list of arrays (n, D), a text's token vectors each")
    return [_array(value, f"{name}[{n}]") for n, value in enumerate(values)]


def _array(value: Any, name: str) -> FloatArray:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        array = np.zeros(0, np.float32)
    if array.ndim != 2:
        raise InputError(f"{name} is {shown(value)}; it must be an array (n, D), a text's token vectors")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values; embed the text again, and look at the model's weights")
    return array


def _joined(arrays: list[FloatArray]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """All vectors end to end, and where each text's begin."""
    starts = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(array) for array in arrays], out=starts[1:])
    return np.ascontiguousarray(np.concatenate(arrays)), starts
