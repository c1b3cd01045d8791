"""The pieces of a SentencePiece model file, read without protobuf or sentencepiece.

The file is a protocol buffer, `ModelProto` in sentencepiece_model.proto. Three of its fields matter here:
1 pieces {1 text, 2 score}, 2 trainer_spec {3 model_type}, 3 normalizer_spec {2 precompiled_charsmap}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from bothways.errors import CheckpointError

__all__ = ["read_pieces"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UNIGRAM = 1

_Value = int | bytes


def read_pieces(path: Path) -> tuple[list[tuple[str, float]], bytes]:
    """Read a SentencePiece model.

    Returns:
        The pieces with their scores, in the order of their ids, and the precompiled character map (may be empty).

    Raises:
        CheckpointError: The file is damaged, or holds another kind of model than Unigram.
    """
    pieces: list[tuple[str, float]] = []
    charsmap = b""
    try:
        for field, value in _fields(path.read_bytes()):
            if field == 1:
                piece = dict(_fields(_bytes(value)))
                pieces.append((_bytes(piece[1]).decode(), struct.unpack("<f", _bytes(piece[2]))[0]))
            elif field == 2 and dict(_fields(_bytes(value))).get(3, _UNIGRAM) != _UNIGRAM:
                raise CheckpointError(
                    f"{path} is not a Unigram model; make tokenizer.json with transformers: "
                    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                )
            elif field == 3:
                charsmap = _bytes(dict(_fields(_bytes(value))).get(2, b""))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise CheckpointError(f"{path} is not a SentencePiece model: {error}; fetch the checkpoint again") from error
    return pieces, charsmap


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    """The fields of a protocol buffer message: number, and an integer or the bytes it holds."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes at byte {at} ends outside its message of {len(data)} bytes")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the integer at `at`, seven bits a byte, low bits first; return it and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError(f"an integer of more than ten bytes before byte {at}")


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return value
