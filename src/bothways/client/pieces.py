"""Long calls in pieces, of which each is a request: how texts are parted, and what is said of the whole call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bothways.tasks.report import Progress

__all__ = ["LIST_AHEAD", "PIECE_BYTES", "PIECE_TEXTS", "STREAM_AHEAD", "Filler", "Piece", "Tally", "text_bytes"]

_T = TypeVar("_T")

#: The most texts of a request, and about the most bytes of their text.
PIECE_TEXTS = 256
PIECE_BYTES = 1_000_000

#: Requests under way at once, of a list and of an iterator. Of an iterator as few as keep a server busy: its first
#: results wait until so many pieces are read.
LIST_AHEAD = 4
STREAM_AHEAD = 2


@dataclass(frozen=True)
class Piece(Generic[_T]):
    """What one request holds of a call's items; `first` is the number of the first."""

    items: list[_T]
    first: int


class Filler(Generic[_T]):
    """Fills pieces with items, one after the other."""

    def __init__(self, size: Callable[[_T], int], most: int = PIECE_TEXTS, most_bytes: int = PIECE_BYTES) -> None:
        """`size` is an item's bytes of text; `most` the items of a piece, `most_bytes` their bytes."""
        self._size = size
        self._most = most
        self._most_bytes = most_bytes
        self._items: list[_T] = []
        self._bytes = self._first = 0

    def add(self, item: _T) -> Iterator[Piece[_T]]:
        """Add an item; yield what is full now. An item alone may be larger than a piece is meant to be."""
        size = self._size(item)
        if self._bytes + size > self._most_bytes:
            yield from self.rest()
        self._items.append(item)
        self._bytes += size
        if len(self._items) == self._most:
            yield from self.rest()

    def rest(self) -> Iterator[Piece[_T]]:
        """Yield what is left, if anything is."""
        if self._items:
            yield self._taken()

    def all(self, items: Iterable[_T]) -> Iterator[Piece[_T]]:
        """Part items as they come."""
        for item in items:
            yield from self.add(item)
        yield from self.rest()

    def all_of_list(self, items: Iterable[_T]) -> list[Piece[_T]]:
        """Part items that are all there; nothing at all is one empty piece, so that the server is asked in any case."""
        return list(self.all(items)) or [self._taken()]

    def _taken(self) -> Piece[_T]:
        piece = Piece(self._items, self._first)
        self._first += len(self._items)
        self._items, self._bytes = [], 0
        return piece


def text_bytes(text: Any) -> int:
    """How many bytes the text takes, or those of a pair or of words together."""
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return sum(map(text_bytes, text))


class Tally:
    """Counts a call's texts; calls `progress` after every piece or, without one, logs in the end what was cut."""

    def __init__(self, progress: Progress | None, message: str | None) -> None:
        """Begin at nothing; `message` is logged with two numbers, texts cut and texts in all. None logs nothing."""
        self._progress = progress
        self._message = message
        self._texts = self._tokens = self._truncated = 0

    def add(self, texts: int, tokens: int, truncated: int) -> None:
        """Count a piece."""
        self._texts += texts
        self._tokens += tokens
        self._truncated += truncated
        if self._progress is not None:
            self._progress(self._texts, self._tokens, self._truncated)

    def close(self) -> None:
        """Say what was cut where nobody was told meanwhile."""
        if not self._truncated or self._progress is not None or self._message is None:
            return
        import logging

        logging.getLogger("bothways").warning(self._message, self._truncated, self._texts)
