"""From replies to results: JSON, .npy and .npz, read without trust in any of them.

B texts of a request, D values of an embedding, T tokens of all texts.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.client.wire import NPY, NPZ, Reply
from bothways.tasks.answer import Answer
from bothways.tasks.classify import Label
from bothways.tasks.fill_mask import Fill
from bothways.tasks.rerank import Ranked
from bothways.tasks.spans import Span
from bothways.tasks.sparse import SparseEmbedding

__all__ = [
    "Arrays",
    "Unreadable",
    "Usage",
    "json_object",
    "read_answer",
    "read_array",
    "read_arrays",
    "read_cells",
    "read_fill",
    "read_label",
    "read_ranked",
    "read_results",
    "read_span",
    "read_sparse",
    "read_token_vectors",
    "read_usage",
]

_T = TypeVar("_T")

Arrays = dict[str, npt.NDArray[Any]]


class Unreadable(Exception):
    """A reply is not what it should be; the message says in what."""


@dataclass(frozen=True)
class Usage:
    """What a reply says besides its results: the tokens computed, and how many texts were cut."""

    tokens: int
    truncated: int


def read_results(reply: Reply, count: int, read: Callable[[Any], _T]) -> list[_T]:
    """Read as many results as there were texts."""
    results = json_object(reply).get("results")
    if not isinstance(results, list):
        raise Unreadable("it holds no list of results")
    _check_count(len(results), count)
    return _made(lambda: [read(result) for result in results])


def read_array(reply: Reply, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """Read a .npy file; None stands for any size."""
    if reply.media_type != NPY:
        raise Unreadable(f"{NPY} was asked for")
    array = _loaded(reply.body)
    if not isinstance(array, np.ndarray):
        raise Unreadable("it holds no array")
    _check_shape("the array", array, shape)
    return array


def read_arrays(reply: Reply) -> Arrays:
    """Read a .npz file."""
    if reply.media_type != NPZ:
        raise Unreadable(f"{NPZ} was asked for")
    arrays = _loaded(reply.body)
    if not isinstance(arrays, dict):
        raise Unreadable("it holds one array where several are due")
    return arrays


def read_token_vectors(reply: Reply, count: int) -> list[FloatArray]:
    """Read every text's token vectors (n, D)."""
    arrays = read_arrays(reply)
    if "vectors" not in arrays:
        raise Unreadable("it holds no vectors")
    _check_shape("vectors", arrays["vectors"], (None, None))
    # Copies: a slice would keep all of a request's vectors in memory.
    return [part.astype(np.float32, copy=True) for part in read_cells(arrays["vectors"], arrays, count)]


def read_cells(values: npt.NDArray[Any], arrays: Arrays, count: int) -> list[npt.NDArray[Any]]:
    """Part what all texts have end to end (T, ...) by the array `starts` (B + 1,)."""
    starts = arrays.get("starts")
    if starts is None or starts.ndim != 1 or starts.dtype.kind not in "iu":
        raise Unreadable("it does not say where texts start")
    _check_count(len(starts) - 1, count)
    if starts[0] != 0 or starts[-1] != len(values) or (starts[1:] < starts[:-1]).any():
        raise Unreadable("it says that texts start where they can't")
    return [values[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]


def _loaded(body: bytes) -> Any:
    """Read a .npy or .npz file, whose arrays can't hold anything but numbers and strings."""
    try:
        found = np.load(io.BytesIO(body), allow_pickle=False)
        return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (ValueError, EOFError, OSError, KeyError, SyntaxError, MemoryError, zipfile.BadZipFile) as error:
        raise Unreadable(f"it can't be read ({error})") from None


def read_usage(reply: Reply) -> Usage:
    """Read what a reply costs: of JSON from its body, of arrays from headers."""
    if reply.media_type in (NPY, NPZ):
        tokens, truncated = (reply.headers.get(f"x-{name}", "0") for name in ("usage-tokens", "truncated"))
        return _made(lambda: Usage(int(tokens), int(truncated)))
    body = json_object(reply)
    return _made(lambda: Usage(int(body["usage"]["total_tokens"]), int(body["truncated"])))


def json_object(reply: Reply) -> dict[str, Any]:
    """Read a body that is a JSON object."""
    try:
        body = reply.parsed
    except ValueError:
        raise Unreadable("it is no JSON") from None
    if not isinstance(body, dict):
        raise Unreadable("it is no JSON object")
    return body


def read_label(given: Any) -> list[Label]:
    """A text's labels."""
    return [Label(str(one["label"]), float(one["score"])) for one in given]


def read_span(given: Any) -> list[Span]:
    """A text's spans."""
    return [Span(*_label(one), int(one["start"]), int(one["end"]), str(one["text"])) for one in given]


def read_fill(given: Any) -> list[Fill]:
    """A text's fills."""
    return [
        Fill(str(one["token"]), float(one["score"]), int(one["id"]), int(one["mask"]), str(one["text"]))
        for one in given
    ]


def read_answer(given: Any) -> Answer:
    """A question's answer, and the next best."""
    others = tuple(map(read_answer, given.get("others", ())))
    return Answer(str(given["text"]), float(given["score"]), int(given["start"]), int(given["end"]), others)


def read_ranked(given: Any) -> Ranked:
    """A document's place."""
    return Ranked(int(given["index"]), float(given["score"]))


def read_sparse(given: Any) -> SparseEmbedding:
    """A text's terms."""
    ids, weights = np.array(given["ids"], np.int32), np.array(given["weights"], np.float32)
    terms = tuple(map(str, given["terms"]))
    if ids.shape != weights.shape or ids.shape != (len(terms),):
        raise ValueError("terms, ids and weights differ in number")
    return SparseEmbedding(ids, weights, terms)


def _label(given: Any) -> tuple[str, float]:
    return str(given["label"]), float(given["score"])


def _made(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"its results are of another form ({type(error).__name__}: {error})") from None


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise Unreadable(f"it holds {found} results where {expected} are due")


def _check_shape(name: str, array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    if not fits:
        raise Unreadable(f"{name} has the shape {array.shape}, where {shape} is due".replace("None", "any"))
