"""The call of `similarity`, in steps: what it needs of the server one after the other, then the comparison.

A step is handed out by the generator, and its result handed in, so that both clients take the same steps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, TypeAlias

import numpy as np

from bothways.arrays import FloatArray
from bothways.client.call import Call
from bothways.client.models import Ask, ask_models, chosen
from bothways.client.pieces import PIECE_BYTES, PIECE_TEXTS, Piece, text_bytes
from bothways.client.replies import read_array
from bothways.client.target import Target
from bothways.client.vectors import embed
from bothways.client.wire import NPY, Reply
from bothways.engines.threads import default_threads
from bothways.errors import InputError, TaskError
from bothways.tasks.inputs import shown
from bothways.tasks.maxsim import late_similarities
from bothways.tasks.similarity import similarities, vectors
from bothways.tasks.sparse import has_sparse, sparse_list, sparse_similarities

__all__ = ["Step", "Steps", "similarity"]

#: A call, a question, or an async iterator to be read as a list.
Step: TypeAlias = Call[Any, Any] | Ask[Any] | AsyncIterator[Any]
Steps: TypeAlias = Generator[Step, Any, FloatArray]

_CUT = (
    "%d of %d texts were longer than the model takes and were cut; embed them first with truncation=False to make this "
    "an error"
)


def similarity(target: Target, a: Any, b: Any) -> Steps:
    """Compare texts or embeddings, each of a with each of b, as `Encoder.similarity` does: (len a, len b).

    The measure is the checkpoint's; distances are negative. What the server does not compare is embedded there and
    compared here: more texts than a request takes, sparse embeddings and token vectors.
    """
    a, b = (yield from _listed(a)), (yield from _listed(b))
    if _fits(a, b):
        try:
            found: FloatArray = yield _compared(target, _texts(a), _texts(b))
            return found
        except TaskError:
            pass  # the server compares dense vectors alone
    measure = chosen((yield ask_models(target)), target)[0].similarity
    threads = default_threads()[0]
    if measure in ("maxsim", "meanmaxsim"):
        a = (yield embed(target, a, tokens=True, prompt_name="query")) if _are_texts(a) else a
        b = (yield embed(target, b, tokens=True, prompt_name="document")) if _are_texts(b) else b
        return late_similarities(a, b, _embedded, measure, threads)
    given, terms = (("a", a), ("b", b)), has_sparse(a) or has_sparse(b)
    if not terms:
        try:
            sides = [values if _are_texts(values) else vectors(values, name, _embedded) for name, values in given]
            first, second = (yield from _dense(target, sides[0])), (yield from _dense(target, sides[1]))
            return similarities(first, second, measure, threads)
        except TaskError:
            pass  # a checkpoint made for terms
    # One that is not made for terms says nothing about how they are compared.
    own = not terms or (yield from _is_made_for_terms(target))
    first, second = (yield from _sparse(target, a)), (yield from _sparse(target, b))
    lists = sparse_list(first, "a", _embedded), sparse_list(second, "b", _embedded)
    return sparse_similarities(*lists, measure if own else "dot")


def _listed(values: Any) -> Generator[Step, Any, Any]:
    if isinstance(values, AsyncIterator):
        return (yield values)
    return list(values) if isinstance(values, Iterator) else values


def _dense(target: Target, values: Any) -> Generator[Step, Any, Any]:
    return (yield embed(target, values)) if _are_texts(values) else values


def _sparse(target: Target, values: Any) -> Generator[Step, Any, Any]:
    return (yield embed(target, values, sparse=True)) if _are_texts(values) else values


def _is_made_for_terms(target: Target) -> Generator[Step, Any, bool]:
    """Whether the checkpoint refuses a dense vector of a text."""
    try:
        yield embed(target, [])
    except TaskError:
        return True
    return False


def _are_texts(values: Any) -> bool:
    return isinstance(values, str) or (
        isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)
    )


def _texts(values: Any) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _fits(a: Any, b: Any) -> bool:
    """Whether both are texts, and few enough for a request."""
    if not _are_texts(a) or not _are_texts(b):
        return False
    for name, values in (("a", a), ("b", b)):
        for n, text in enumerate(_texts(values)):
            if not isinstance(text, str):
                raise InputError(f"{name}: text {n} is {shown(text)}; pass all texts or all vectors")
    texts = [*_texts(a), *_texts(b)]
    return len(texts) <= PIECE_TEXTS and text_bytes(texts) <= PIECE_BYTES


def _compared(target: Target, a: list[str], b: list[str]) -> Call[Any, FloatArray]:
    """The call that leaves everything to the server: one item, both sides."""

    def read(reply: Reply, piece: Piece[Any]) -> FloatArray:
        return read_array(reply, (len(a), len(b))).astype(np.float32, copy=False)

    return Call(
        target,
        "similarity",
        [(a, b)],
        False,
        lambda items: {"a": a, "b": b},
        {},
        read,
        lambda blocks: blocks[0],
        accept=NPY,
        weight=len(a) + len(b),
        message=_CUT,
    )


def _embedded(*_: Any) -> Any:
    """Never called: all texts are embedded before."""
    raise AssertionError("texts are left")
