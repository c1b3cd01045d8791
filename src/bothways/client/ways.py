"""A call is described once, by a function; here it becomes a method of both clients, typed for each.

`Client` returns results, `AsyncClient` coroutines of the same results and async iterators.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from bothways.client.call import Call

__all__ = ["each", "each_awaited", "method", "whole", "whole_awaited"]

_In = TypeVar("_In")
_In_contra = TypeVar("_In_contra", contravariant=True)
_Out = TypeVar("_Out")
_All = TypeVar("_All")
_Out_co = TypeVar("_Out_co", covariant=True)
_All_co = TypeVar("_All_co", covariant=True)
_P = ParamSpec("_P")
_T = TypeVar("_T")

#: What describes a call that has one result, at once or in steps.
_Makes: TypeAlias = Callable[Concatenate[Any, _P], Call[Any, _All] | Generator[Any, Any, _All]]
_Stream: TypeAlias = Iterator[_T] | AsyncIterator[_T]


class _EachWay(Protocol[_In_contra, _P, _Out_co, _All_co]):
    """A method of `Client` that takes a text, a list of texts or an iterator."""

    @overload
    def __call__(self, texts: Iterator[_In_contra], *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_Out_co]: ...
    @overload
    def __call__(self, texts: _In_contra | Collection[_In_contra], *args: _P.args, **kwargs: _P.kwargs) -> _All_co: ...


class _EachWayAwaited(Protocol[_In_contra, _P, _Out_co, _All_co]):
    """The same of `AsyncClient`, which takes async iterators too."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # no text is itself an iterator
        self, texts: _Stream[_In_contra], *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncIterator[_Out_co]: ...
    @overload
    def __call__(
        self, texts: _In_contra | Collection[_In_contra], *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _All_co]: ...


class _Each(Protocol[_In_contra, _P, _Out_co, _All_co]):
    def __get__(self, instance: object, owner: type | None = None) -> _EachWay[_In_contra, _P, _Out_co, _All_co]: ...


class _EachAwaited(Protocol[_In_contra, _P, _Out_co, _All_co]):
    def __get__(
        self, instance: object, owner: type | None = None
    ) -> _EachWayAwaited[_In_contra, _P, _Out_co, _All_co]: ...


class _Whole(Protocol[_P, _All_co]):
    def __get__(self, instance: object, owner: type | None = None) -> Callable[_P, _All_co]: ...


class _WholeAwaited(Protocol[_P, _All_co]):
    def __get__(self, instance: object, owner: type | None = None) -> Callable[_P, Coroutine[Any, Any, _All_co]]: ...


def each(make: Callable[Concatenate[Any, Iterator[_In], _P], Call[_Out, _All]]) -> _Each[_In, _P, _Out, _All]:
    """A method of `Client` whose results are those of its texts."""
    return cast("_Each[_In, _P, _Out, _All]", method(make))


def each_awaited(
    make: Callable[Concatenate[Any, Iterator[_In], _P], Call[_Out, _All]],
) -> _EachAwaited[_In, _P, _Out, _All]:
    """The same of `AsyncClient`."""
    return cast("_EachAwaited[_In, _P, _Out, _All]", method(make))


def whole(make: _Makes[_P, _All]) -> _Whole[_P, _All]:
    """A method of `Client` that has one result."""
    return cast("_Whole[_P, _All]", method(make))


def whole_awaited(make: _Makes[_P, _All]) -> _WholeAwaited[_P, _All]:
    """The same of `AsyncClient`."""
    return cast("_WholeAwaited[_P, _All]", method(make))


def method(make: Callable[..., Any]) -> Any:
    """A method that makes a call, or its steps, and runs it; it is called and documented as `make` is."""

    @functools.wraps(make)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._run(make(self._target, *args, **kwargs))

    signature = inspect.signature(make)
    _, *others = signature.parameters.values()
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *others]
    result = inspect.Signature.empty  # it depends on what is given
    # What inspect.signature looks at first; typeshed knows no such attribute of a function.
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=result)  # type: ignore[attr-defined]
    run.__doc__ = (make.__doc__ or "").replace("        target: Where to.\n", "")
    return run
