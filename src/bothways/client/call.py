"""One call of a task: its texts, what each request holds of them, and what is made of the replies.

Nothing here sends: `Client` and `AsyncClient` move a call's pieces to the server, each in its own way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

from bothways.client.failures import unreadable
from bothways.client.pieces import PIECE_BYTES, PIECE_TEXTS, Filler, Piece, Tally, text_bytes
from bothways.client.replies import Unreadable, Usage, read_results, read_usage
from bothways.client.target import Target
from bothways.client.wire import JSON, Reply, Request, posting
from bothways.errors import InputError
from bothways.tasks.report import Progress

__all__ = ["CUT", "CUT_OR_WINDOW", "Answered", "Call", "each_result", "joined_lists", "is_stream"]

_Out = TypeVar("_Out")
_All = TypeVar("_All")

#: What is logged where texts were cut.
CUT = "%d of %d texts were longer than the model takes and were cut; pass truncation=False to make this an error"
CUT_OR_WINDOW = CUT.replace("pass ", 'pass truncation="window" to read all of them, or ')


@dataclass(frozen=True)
class Answered:
    """What one request came to: its results in the form of the call, and how many texts it was for."""

    block: Any
    texts: int
    usage: Usage


@dataclass(frozen=True)
class Call(Generic[_Out, _All]):
    """A call, checked as far as that goes without the model.

    Attributes:
        task: The name of the `Encoder` method.
        items: What is parted into pieces: texts, pairs or documents; a list or a stream.
        streamed: Whether results come out one by one; else all together.
        body: A piece's items -> the fields that hold them.
        options: The other fields.
        read: (reply, piece) -> its results, in whatever form `join` and `each` take.
        join: The results of all pieces, at least one -> what the call returns.
        each: A piece's results -> one by one.
        checked: Passes a stream's items on, refusing what is none.
        accept: The form of replies.
        size: The bytes of an item's text.
        most: The items of a piece.
        most_bytes: Their bytes.
        weight: How many texts an item is.
        message: What to log where texts were cut; None logs nothing.
    """

    target: Target
    task: str
    items: Iterable[Any] | AsyncIterator[Any]
    streamed: bool
    body: Callable[[list[Any]], Mapping[str, Any]]
    options: Mapping[str, Any]
    read: Callable[[Reply, Piece[Any]], Any]
    join: Callable[[list[Any]], _All]
    each: Callable[[Any], Iterable[_Out]] = iter
    checked: Callable[[Iterable[Any]], Iterator[Any]] = iter
    accept: str = JSON
    size: Callable[[Any], int] = text_bytes
    most: int = PIECE_TEXTS
    most_bytes: int = PIECE_BYTES
    weight: int = 1
    progress: Progress | None = None
    message: str | None = CUT

    def filler(self) -> Filler[Any]:
        """What parts the items."""
        return Filler(self.size, self.most, self.most_bytes)

    def pieces(self) -> Iterator[Piece[Any]] | list[Piece[Any]]:
        """All pieces: of a list as a list, at least one; of an iterator as they come."""
        if isinstance(self.items, AsyncIterator):
            raise InputError("an async iterator is for AsyncClient; pass a list or an iterator here")
        if isinstance(self.items, Iterator):
            return self.filler().all(self.checked(self.items))
        return self.filler().all_of_list(self.items)

    def tally(self) -> Tally:
        """What counts the texts."""
        return Tally(self.progress, self.message)

    def request(self, piece: Piece[Any]) -> Request:
        """The request of a piece.

        Raises:
            InputError: A text has a lone surrogate.
        """
        last = piece.first + len(piece.items) - 1
        part = f"texts {piece.first} to {last} of the call, numbered from 0 in the request" if piece.first else ""
        body = {"model": self.target.model, **self.body(piece.items), **self.options}
        try:
            return posting(f"/tasks/{self.task}", body, self.accept, part)
        except UnicodeEncodeError as error:
            raise _surrogate(piece, error, numbered=self.weight == 1) from None

    def answered(self, request: Request, reply: Reply, piece: Piece[Any]) -> Answered:
        """Read a piece's reply.

        Raises:
            ServerError: It is not what was asked for.
        """
        try:
            return Answered(self.read(reply, piece), self.weight * len(piece.items), read_usage(reply))
        except Unreadable as error:
            raise unreadable(self.target, request, reply, str(error)) from None


def is_stream(texts: Any) -> bool:
    """Whether results for these come out one by one."""
    return isinstance(texts, Iterator | AsyncIterator)


def each_result(read: Callable[[Any], _Out]) -> Callable[[Reply, Piece[Any]], list[_Out]]:
    """The reader of JSON with a result for every item."""
    return lambda reply, piece: read_results(reply, len(piece.items), read)


def joined_lists(blocks: list[list[_Out]]) -> list[_Out]:
    """The results of all pieces as one list."""
    return list(chain.from_iterable(blocks))


def _surrogate(piece: Piece[Any], error: UnicodeEncodeError, *, numbered: bool) -> InputError:
    number = next((n for n, item in enumerate(piece.items, piece.first) if not _encodable(item)), None)
    where = "an option" if number is None else f"text {number}" if numbered else "a text"
    found = ord(error.object[error.start])
    return InputError(
        f"{where} has a lone surrogate U+{found:04X}, which no encoding can carry; replace it first, e.g. "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    )


def _encodable(item: Any) -> bool:
    if not isinstance(item, str):
        return all(map(_encodable, item))
    try:
        item.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
