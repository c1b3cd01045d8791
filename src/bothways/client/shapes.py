"""The types of methods that have more than one form of result: `embed` and `answer`, of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, overload

import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.tasks.answer import Answer, AnswerArguments
from bothways.tasks.sparse import SparseEmbedding

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bothways.vectors import DenseOptions, SparseOptions, TokensOptions

__all__ = ["AnswerAwaited", "EmbedAwaited", "EmbedWay"]

_T = TypeVar("_T")

_Texts: TypeAlias = str | Collection[str]
_Stream: TypeAlias = Iterator[_T] | AsyncIterator[_T]
_Later: TypeAlias = Coroutine[Any, Any, _T]
_Vectors: TypeAlias = npt.NDArray[Any]


class _EmbedWay(Protocol):
    @overload
    def __call__(
        self,
        texts: Iterator[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[DenseOptions],
    ) -> Iterator[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[False] = ..., tokens: Literal[False] = ..., **how: Unpack[DenseOptions]
    ) -> _Vectors: ...
    @overload
    def __call__(
        self, texts: Iterator[str], *, sparse: Literal[True], **how: Unpack[SparseOptions]
    ) -> Iterator[SparseEmbedding]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[True], **how: Unpack[SparseOptions]
    ) -> list[SparseEmbedding]: ...
    @overload
    def __call__(
        self, texts: Iterator[str], *, tokens: Literal[True], **how: Unpack[TokensOptions]
    ) -> Iterator[FloatArray]: ...
    @overload
    def __call__(self, texts: _Texts, *, tokens: Literal[True], **how: Unpack[TokensOptions]) -> list[FloatArray]: ...


class _EmbedAwaited(Protocol):
    @overload
    def __call__(
        self,
        texts: _Stream[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[DenseOptions],
    ) -> AsyncIterator[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[False] = ..., tokens: Literal[False] = ..., **how: Unpack[DenseOptions]
    ) -> _Later[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Stream[str], *, sparse: Literal[True], **how: Unpack[SparseOptions]
    ) -> AsyncIterator[SparseEmbedding]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[True], **how: Unpack[SparseOptions]
    ) -> _Later[list[SparseEmbedding]]: ...
    @overload
    def __call__(
        self, texts: _Stream[str], *, tokens: Literal[True], **how: Unpack[TokensOptions]
    ) -> AsyncIterator[FloatArray]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, tokens: Literal[True], **how: Unpack[TokensOptions]
    ) -> _Later[list[FloatArray]]: ...


class _AnswerAwaited(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is a collection of strings too
        self, question: str, context: str, **how: Unpack[AnswerArguments]
    ) -> _Later[Answer]: ...
    @overload
    def __call__(self, question: _Texts, context: _Texts, **how: Unpack[AnswerArguments]) -> _Later[list[Answer]]: ...
    @overload
    def __call__(
        self, question: _Stream[str], context: str | Iterable[str] | AsyncIterator[str], **how: Unpack[AnswerArguments]
    ) -> AsyncIterator[Answer]: ...
    @overload
    def __call__(
        self, question: _Texts, context: _Stream[str], **how: Unpack[AnswerArguments]
    ) -> AsyncIterator[Answer]: ...


class EmbedWay(Protocol):
    """`Client.embed`."""

    def __get__(self, instance: object, owner: type | None = None) -> _EmbedWay: ...


class EmbedAwaited(Protocol):
    """`AsyncClient.embed`."""

    def __get__(self, instance: object, owner: type | None = None) -> _EmbedAwaited: ...


class AnswerAwaited(Protocol):
    """`AsyncClient.answer`."""

    def __get__(self, instance: object, owner: type | None = None) -> _AnswerAwaited: ...
