"""One rule for every task that gives a result a text: a list in gives a list out, an iterator in gives an iterator out.

A task's method is written once, for an iterator; `each` makes it answer the other ways of giving texts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

__all__ = ["Each", "each"]

_T = TypeVar("_T")
_In = TypeVar("_In")
_In_contra = TypeVar("_In_contra", contravariant=True)
_Out = TypeVar("_Out")
_P = ParamSpec("_P")

#: In the signature of a method under `each`: one text alone, a list of them or an iterator; results likewise.
Each: TypeAlias = Iterator[_T]


class _EachWay(Protocol[_In_contra, _P, _Out]):
    """What a caller of such a method sees."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # no text is itself an iterator
        self, texts: Iterator[_In_contra], *args: _P.args, **kwargs: _P.kwargs
    ) -> Iterator[_Out]: ...
    @overload
    def __call__(
        self, texts: _In_contra | Collection[_In_contra], *args: _P.args, **kwargs: _P.kwargs
    ) -> list[_Out]: ...


class _Method(Protocol[_In_contra, _P, _Out]):
    def __get__(self, instance: object, owner: type | None = None) -> _EachWay[_In_contra, _P, _Out]: ...


def each(
    listed: Callable[[Any], list[_In]], checked: Callable[[Iterable[Any]], Iterator[_In]]
) -> Callable[[Callable[Concatenate[Any, Iterator[_In], _P], Iterator[_Out]]], _Method[_In, _P, _Out]]:
    """Let a method that takes an iterator be called with one text alone, a list or an iterator.

    Args:
        listed: Reads one text or a collection of them, as a list.
        checked: Passes on an iterator's texts, refusing what is none.
    """

    def decorate(method: Callable[Concatenate[Any, Iterator[_In], _P], Iterator[_Out]]) -> _Method[_In, _P, _Out]:
        @functools.wraps(method)
        def call(self: Any, texts: Any, *args: _P.args, **kwargs: _P.kwargs) -> Any:
            if isinstance(texts, Iterator):
                return method(self, checked(texts), *args, **kwargs)
            return list(method(self, iter(listed(texts)), *args, **kwargs))

        return cast("_Method[_In, _P, _Out]", call)

    return decorate
