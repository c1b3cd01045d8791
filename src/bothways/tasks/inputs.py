"""Tells the ways of giving texts apart: one, many, or a stream; strings alone, or strings and pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Literal

import numpy as np

from bothways.errors import InputError
from bothways.tokens import Cut, Text

__all__ = [
    "Truncation",
    "flag",
    "natural",
    "one_of",
    "one_string",
    "read_cut",
    "read_truncation",
    "shown",
    "string_list",
    "string_set",
    "strings",
    "text_list",
    "texts_and_pairs",
    "texts_or_words",
    "texts_or_words_list",
    "whole_number",
]

#: Cut what is too long, refuse it, or read it piece by piece; "left" cuts its beginning.
Truncation = Literal[True, False, "left", "window"]


def string_list(texts: Any) -> list[str]:
    """Read one string, or a collection of them, as a list."""
    if isinstance(texts, str):
        return [texts]
    return list(strings(_collection(texts, "a string, a list of them or an iterator")))


def one_string(value: Any, name: str) -> str:
    """Read an option that is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}; it must be a string")
    return value


def text_list(texts: Any) -> list[Text]:
    """Read one text, one pair (a tuple of two strings), or a collection of either, as a list."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, tuple) and _is_pair(texts):
        return [(texts[0], texts[1])]
    if isinstance(texts, tuple) and any(isinstance(text, str) for text in texts):
        raise InputError(f"a tuple is a pair of two texts, and this one has {len(texts)}; pass several texts as a list")
    return list(texts_and_pairs(_collection(texts, "a string, a pair, a list of them or an iterator")))


def strings(texts: Iterable[Any]) -> Iterator[str]:
    """Pass strings on, refusing anything else."""
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {n} is {shown(text)}; it must be a string")
        yield text


def texts_and_pairs(texts: Iterable[Any]) -> Iterator[Text]:
    """Pass strings and pairs (a tuple or list of two strings) on, refusing anything else."""
    for n, text in enumerate(texts):
        if isinstance(text, str):
            yield text
        elif _is_pair(text):
            yield (text[0], text[1])
        else:
            raise InputError(f"text {n} is {shown(text)}; it must be a string or a pair of strings")


def texts_or_words_list(texts: Any) -> list[str | tuple[str, ...]]:
    """Read one text, or a collection of texts and lists of words, as a list."""
    if isinstance(texts, str):
        return [texts]
    return list(texts_or_words(_collection(texts, "a string, a list of strings or of lists of words, or an iterator")))


def texts_or_words(texts: Iterable[Any]) -> Iterator[str | tuple[str, ...]]:
    """Pass strings and lists of words on, refusing anything else."""
    for n, text in enumerate(texts):
        if isinstance(text, str):
            yield text
        elif isinstance(text, list | tuple) and all(isinstance(word, str) for word in text):
            yield tuple(text)
        else:
            raise InputError(f"text {n} is {shown(text)}; it must be a string or a list of words")


def read_truncation(value: Any) -> Truncation:
    """Read how long texts are taken, where windows make sense."""
    if isinstance(value, str) and value == "window":
        return "window"
    return read_cut(value, 'True, False (too long is an error), "left" or "window"')


def read_cut(value: Any, allowed: str = 'True, False (too long is an error) or "left"') -> Cut:
    """Read how long texts are taken, where windows make no sense."""
    return "left" if isinstance(value, str) and value == "left" else flag(value, "truncation", allowed)


def flag(value: Any, name: str, allowed: str = "True or False") -> bool:
    """Read an option that is on or off."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {shown(value)}; use {allowed}")
    return bool(value)


def whole_number(value: Any, name: str) -> int | None:
    """Read an option that is a number above zero, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {shown(value)}; it must be a whole number above zero, or None")
    return int(value)


def natural(value: Any, name: str) -> int | None:
    """Read an option that is a number of 0 or more, or None."""
    return 0 if isinstance(value, int) and not isinstance(value, bool) and value == 0 else whole_number(value, name)


def one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """Read an option that is one of some words."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {shown(value)}; use {', '.join(allowed)}")
    return value


def string_set(values: Any, name: str) -> frozenset[str]:
    """Read an option that is a collection of strings."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {shown(values)}; pass a list of strings")
    found = list(values)
    if not all(isinstance(value, str) for value in found):
        raise InputError(f"{name} is {shown(found)}; pass a list of strings")
    return frozenset(found)


def _collection(texts: Any, allowed: str) -> Iterable[Any]:
    # A mapping would give its keys and a set its own order: both are more likely slips than meant.
    if isinstance(texts, bytes | bytearray | Mapping | Set) or not isinstance(texts, Iterable):
        raise InputError(f"texts is {shown(texts)}; pass {allowed}")
    return texts


def _is_pair(text: Any) -> bool:
    return isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)


def shown(value: Any) -> str:
    """A value as a message quotes it: its repr, cut to a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
