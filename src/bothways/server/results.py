"""What came of a request's texts, of which equal ones are computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bothways.server.calls import Call

__all__ = ["Results", "counted", "unique"]


@dataclass(frozen=True)
class Results:
    """What came of a request's texts.

    Attributes:
        each: For each text what was rendered of its result.
        lengths: For each text the tokens that were computed of it.
        truncated: For each text whether it was cut.
    """

    each: list[Any]
    lengths: list[int]
    truncated: list[bool]

    def at(self, places: list[int]) -> Results:
        """The results of texts of which these are the different ones."""
        if len(places) == len(self.each):
            return self
        return Results(
            [self.each[n] for n in places], [self.lengths[n] for n in places], [self.truncated[n] for n in places]
        )

    @property
    def tokens(self) -> int:
        """The tokens of all texts, special ones included."""
        return sum(self.lengths)


def counted(call: Call, results: Results) -> Results:
    """Count a request's texts, equal ones each time."""
    call.texts += len(results.lengths)
    call.truncated += sum(results.truncated)
    return results


def unique(texts: list[Any], key: Callable[[Any], Any] = lambda text: text) -> tuple[list[Any], list[int]]:
    """The different ones among texts, told apart by their keys, and for every text its place among these."""
    places: dict[Any, int] = {}
    found = [places.setdefault(key(text), len(places)) for text in texts]
    each: list[Any] = [None] * len(places)
    for place, text in zip(found, texts, strict=True):
        each[place] = text
    return each, found
