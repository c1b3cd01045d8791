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

# A list with so many commas has items that are small: to cut it into them would take longer than to read it.
_COMMAS = 200_000

# Bytes of a list's items that are read between two looks at other requests.
_STEP = 300_000

_PATH = re.compile(r" - at `\$\.?([^`]*)`")

_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[_T]) -> msgspec.json.Decoder[_T]:
    """The decoder of a kind, made once."""
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


async def decode(body: bytes, kind: type[_T]) -> _T:
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


async def _decode_large(body: bytes) -> Any:
    """Read an object field by field, and a long list item by item."""
    fields: dict[str, Any] = {}
    for name, raw in _decode_fields(body).items():
        await asyncio.sleep(0)
        text = bytes(raw)
        fields[name] = await _decode_list(text) if len(text) > _STEP and text[:1] == b"[" else msgspec.json.decode(text)
    return fields


async def _decode_list(text: bytes) -> list[Any]:
    items: list[Any] = []
    if text.count(b",") > _COMMAS:
        if b'"' not in text and text.count(b"[") == 1:
            return await _decode_numbers(text)
        items = msgspec.json.decode(text)
        return items
    read = 0
    for item in _decode_items(text):
        items.append(msgspec.json.decode(item))
        read += len(bytes(item))
        if read >= _STEP:
            read = 0
            await asyncio.sleep(0)
    return items


async def _decode_numbers(text: bytes) -> list[Any]:
    """Read a list of nothing but numbers, in which any comma is the end of one."""
    numbers: list[Any] = []
    begin = 1
    while begin < len(text):
        end = text.find(b",", begin + _STEP)
        end = end if end >= 0 else len(text) - 1
        numbers += msgspec.json.decode(b"[%b]" % text[begin:end])
        begin = end + 1
        await asyncio.sleep(0)
    return numbers


def _wrong_shape(error: msgspec.ValidationError) -> Problem:
    message = str(error)
    place = _PATH.search(message)
    field = place[1].split("[")[0].split(".")[0] if place else ""
    said = _PATH.sub("", message)
    where = f"`{place[1]}`" if place and place[1] else "the body"
    return Problem(422, f"{where} can't be used: {said[0].lower()}{said[1:]}", "invalid_field", param=field or None)
