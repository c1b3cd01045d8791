"""The types of methods that have more than one form of result: `embed` and `answer`, of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, overload

import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.tasks.answer import Answer
from bothways.tasks.inputs import Truncation
from bothways.tasks.report import Progress
from bothways.tasks.sparse import SparseEmbedding
from bothways.tokens import Cut

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AnswerAwaited", "EmbedAwaited", "EmbedWay"]

_T = TypeVar("_T")

_Texts: TypeAlias = str | Collection[str]
_Stream: TypeAlias = Iterator[_T] | AsyncIterator[_T]
_Later: TypeAlias = Coroutine[Any, Any, _T]
_Vectors: TypeAlias = npt.NDArray[Any]


class _Usual(TypedDict, total=False):
    """Options of every kind of embedding; see `Encoder.embed`."""

    prompt: str | None
    prompt_name: str | None
    max_length: int | None
    progress: Progress | None


class _Sparse(_Usual, total=False):
    truncation: Cut


class _Tokens(_Usual, total=False):
    truncation: Cut
    normalize: bool | None


class _Dense(_Usual, total=False):
    truncation: Truncation
    normalize: bool | None
    pooling: str | Iterable[str] | None
    dimensions: int | None
    precision: str
    ranges: npt.ArrayLike | None


class _EmbedWay(Protocol):
    @overload
    def __call__(
        self,
        texts: Iterator[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[_Dense],
    ) -> Iterator[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[False] = ..., tokens: Literal[False] = ..., **how: Unpack[_Dense]
    ) -> _Vectors: ...
    @overload
    def __call__(
        self, texts: Iterator[str], *, sparse: Literal[True], **how: Unpack[_Sparse]
    ) -> Iterator[SparseEmbedding]: ...
    @overload
    def __call__(self, texts: _Texts, *, sparse: Literal[True], **how: Unpack[_Sparse]) -> list[SparseEmbedding]: ...
    @overload
    def __call__(
        self, texts: Iterator[str], *, tokens: Literal[True], **how: Unpack[_Tokens]
    ) -> Iterator[FloatArray]: ...
    @overload
    def __call__(self, texts: _Texts, *, tokens: Literal[True], **how: Unpack[_Tokens]) -> list[FloatArray]: ...


class _EmbedAwaited(Protocol):
    @overload
    def __call__(
        self,
        texts: _Stream[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[_Dense],
    ) -> AsyncIterator[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[False] = ..., tokens: Literal[False] = ..., **how: Unpack[_Dense]
    ) -> _Later[_Vectors]: ...
    @overload
    def __call__(
        self, texts: _Stream[str], *, sparse: Literal[True], **how: Unpack[_Sparse]
    ) -> AsyncIterator[SparseEmbedding]: ...
    @overload
    def __call__(
        self, texts: _Texts, *, sparse: Literal[True], **how: Unpack[_Sparse]
    ) -> _Later[list[SparseEmbedding]]: ...
    @overload
    def __call__(
        self, texts: _Stream[str], *, tokens: Literal[True], **how: Unpack[_Tokens]
    ) -> AsyncIterator[FloatArray]: ...
    @overload
    def __call__(self, texts: _Texts, *, tokens: Literal[True], **how: Unpack[_Tokens]) -> _Later[list[FloatArray]]: ...


class _How(TypedDict, total=False):
    """Options of `Encoder.answer`."""

    top_k: int
    max_answer_tokens: int
    impossible: bool
    whole_words: bool
    stride: int | None
    truncation: Truncation
    max_length: int | None
    progress: Progress | None


class _AnswerAwaited(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is a collection of strings too
        self, question: str, context: str, **how: Unpack[_How]
    ) -> _Later[Answer]: ...
    @overload
    def __call__(self, question: _Texts, context: _Texts, **how: Unpack[_How]) -> _Later[list[Answer]]: ...
    @overload
    def __call__(
        self, question: _Stream[str], context: str | Iterable[str] | AsyncIterator[str], **how: Unpack[_How]
    ) -> AsyncIterator[Answer]: ...
    @overload
    def __call__(self, question: _Texts, context: _Stream[str], **how: Unpack[_How]) -> AsyncIterator[Answer]: ...


class EmbedWay(Protocol):
    """`Client.embed`."""

    def __get__(self, instance: object, owner: type | None = None) -> _EmbedWay: ...


class EmbedAwaited(Protocol):
    """`AsyncClient.embed`."""

    def __get__(self, instance: object, owner: type | None = None) -> _EmbedAwaited: ...


class AnswerAwaited(Protocol):
    """`AsyncClient.answer`."""

    def __get__(self, instance: object, owner: type | None = None) -> _AnswerAwaited: ...
