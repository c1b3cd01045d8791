"""Tells texts from pairs and from what is neither, and why a text can't be tokenized."""

from __future__ import annotations

import re
from typing import TypeGuard

from bothways.errors import BothwaysError, CheckpointError, InputError

__all__ = ["encode_error", "is_pair", "kind"]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_error(text: str | tuple[str, str], number: int, error: BaseException) -> BothwaysError:
    """Say why the tokenizer refused a text: almost always a lone surrogate, which UTF-8 has no bytes for."""
    for part in (text,) if isinstance(text, str) else text:
        found = _LONE_SURROGATE.search(part)
        if found:
            return InputError(
                f"text {number} has a lone surrogate U+{ord(found[0]):04X} at character {found.start()}, which no "
                "encoding can carry; replace it first, e.g. text.encode('utf-16', 'surrogatepass')"
                ".decode('utf-16', 'replace')"
            )
    return CheckpointError(
        f"the checkpoint's tokenizer fails on text {number}: {error}; fetch the checkpoint again, or make its "
        "tokenizer.json anew with transformers"
    )


def is_pair(text: object) -> TypeGuard[tuple[str, str]]:
    """Whether it is two texts that are read together."""
    return isinstance(text, tuple) and len(text) == 2 and isinstance(text[0], str) and isinstance(text[1], str)


def kind(text: object) -> str:
    """What something is that was given for a text, for messages."""
    if isinstance(text, (tuple, list)):
        return f"a {type(text).__name__} of ({', '.join(type(part).__name__ for part in text[:4])})"
    return f"a {type(text).__name__}"
