"""Reading request bodies: JSON of a known shape, large ones bit by bit, so that nobody else waits for it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec

from bothways.server.problems import Problem

__all__ = ["convert", "decode"]

_T = TypeVar("_T")

# A body of so many bytes is read at once: to make its strings takes about a millisecond.
_AT_ONCE = 400_000

# Bytes of a list's items that are read between two looks at other requests.
_STEP = 300_000

# A list is of strings, lists or objects, and cut where one ends; else at any comma. Where this fails so often one after
# the other it is of several kinds, and the rest is read at once.
_FIRST = re.compile(rb"\[\s*(.)")
_ENDS = {b'"': re.compile(rb'"\s*,'), b"[": re.compile(rb"\]\s*,"), b"{": re.compile(rb"\}\s*,")}
_COMMA = re.compile(rb",")
_MISSES = 8

_PATH = re.compile(r" - at `\$\.?([^`]*)`")

_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[_T]) -> msgspec.json.Decoder[_T]:
    """The decoder of a kind, made once."""
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


async def decode(body: bytes | bytearray, kind: type[_T]) -> _T:
    """Read a JSON object of a kind.

    Raises:
        Problem: 400 where it is no JSON, 422 where it is of another shape.
    """
    try:
        if len(body) <= _AT_ONCE:
            return _decoder(kind).decode(body)
        return msgspec.convert(await _decode_large(body), kind)
    except msgspec.ValidationError as error:
        raise _wrong_shape(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if len(body) <= _AT_ONCE and _LONE_SURROGATE.search(body):
            raise Problem(
                400,
                "a text has a lone surrogate (\\ud800 to \\udfff without its other half), which no encoding can carry; "
                "replace it before sending",
                "invalid_json",
            ) from None
        raise Problem(400, f"the request's body is not valid JSON: {error}", "invalid_json") from None
    except RecursionError:
        raise Problem(400, "the request's body is nested too deeply", "invalid_json") from None


def convert(fields: Any, kind: type[_T]) -> _T:
    """Read what was decoded already as a kind.

    Raises:
        Problem: It is of another shape.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise _wrong_shape(error) from None


async def _decode_large(body: bytes | bytearray) -> Any:
    """Read an object field by field, and a long list item by item."""
    fields: dict[str, Any] = {}
    for name, raw in _decode_fields(body).items():
        await asyncio.sleep(0)
        text = memoryview(raw)
        long = len(text) > _STEP and text[0] == ord("[")
        fields[name] = await _decode_list(text) if long else msgspec.json.decode(text)
    return fields


async def _decode_list(text: memoryview) -> list[Any]:
    """Read a list some items at a time.

    It is cut where an item seems to end. Did it not, what stands before the cut would be no list, as a string or a list
    in it would not have ended.
    """
    first = _FIRST.match(text)
    end_of_item = _ENDS.get(first[1] if first else b"", _COMMA)
    items: list[Any] = []
    begin, after, misses = 1, _STEP, 0
    while misses < _MISSES and (end := end_of_item.search(text, after)):
        try:
            items += msgspec.json.decode(b"[" + text[begin : end.end() - 1] + b"]")
        except msgspec.DecodeError:
            after, misses = end.end(), misses + 1
            await asyncio.sleep(0)
            continue
        begin, after, misses = end.end(), end.end() + _STEP, 0
        await asyncio.sleep(0)
    items += msgspec.json.decode(b"[" + text[begin:-1] + b"]")
    return items


def _wrong_shape(error: msgspec.ValidationError) -> Problem:
    message = str(error)
    place = _PATH.search(message)
    field = place[1].split("[")[0].split(".")[0] if place else ""
    said = _PATH.sub("", message)
    where = f"`{place[1]}`" if place and place[1] else "the body"
    return Problem(422, f"{where} can't be used: {said[0].lower()}{said[1:]}", "invalid_field", param=field or None)
