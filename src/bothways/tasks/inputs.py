"""Tells the ways of giving texts apart: one, many, or a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from bothways.errors import InputError
from bothways.tokens import Text

__all__ = ["checked", "many", "shown"]


def many(texts: Any, *, pairs: bool = False) -> list[Text]:
    """Read one text, or a collection of them, as a list; with `pairs`, a tuple of two strings is one pair."""
    if isinstance(texts, str):
        return [texts]
    if pairs and isinstance(texts, tuple) and _is_pair(texts):
        return [(texts[0], texts[1])]
    # A mapping would give its keys and a set its own order: both are more likely slips than meant.
    if isinstance(texts, bytes | bytearray | Mapping | Set) or not isinstance(texts, Iterable):
        what = "a string, a pair, a list of them or an iterator" if pairs else "a string, a list of them or an iterator"
        raise InputError(f"texts is {shown(texts)}; pass {what}")
    return list(checked(texts, pairs=pairs))


def checked(texts: Iterable[Any], *, pairs: bool = False) -> Iterator[Text]:
    """Pass texts on, checking each; with `pairs`, a list or tuple of two strings is a pair."""
    for n, text in enumerate(texts):
        if isinstance(text, str):
            yield text
        elif pairs and _is_pair(text):
            yield (text[0], text[1])
        else:
            allowed = "a string or a pair of strings" if pairs else "a string"
            raise InputError(f"text {n} is {shown(text)}; it must be {allowed}")


def _is_pair(text: Any) -> bool:
    return isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)


def shown(value: Any) -> str:
    """A value as a message quotes it: its repr, cut to a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
