"""The pieces of a SentencePiece model file, read without protobuf or sentencepiece.

The file is a protocol buffer, `ModelProto` in sentencepiece_model.proto. Three of its fields matter here:
1 pieces {1 text, 2 score, 3 type}, 2 trainer_spec {3 model_type}, 3 normalizer_spec {2 precompiled_charsmap}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bothways.errors import CheckpointError

__all__ = ["Model", "read_model"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UNIGRAM = 1
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of pieces

_Value = int | bytes


class Model(NamedTuple):
    """What a SentencePiece model file holds.

    Attributes:
        pieces: The pieces with their scores, in the order of their ids.
        charsmap: The precompiled character map of its normaliser; may be empty.
        controls: The pieces that no text has, such as the ends of a sentence.
        user_defined: The pieces that are found in a text before anything else is.
    """

    pieces: list[tuple[str, float]]
    charsmap: bytes
    controls: list[str]
    user_defined: list[str]


def read_model(path: Path) -> Model:
    """Read a SentencePiece model.

    Raises:
        CheckpointError: The file is damaged, or holds another kind of model than Unigram.
    """
    model = Model([], b"", [], [])
    try:
        for field, value in _fields(path.read_bytes()):
            if field == 1:
                _add_piece(model, dict(_fields(_bytes(value))))
            elif field == 2 and dict(_fields(_bytes(value))).get(3, _UNIGRAM) != _UNIGRAM:
                raise CheckpointError(
                    f"{path} is not a Unigram model; make tokenizer.json with transformers: "
                    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                )
            elif field == 3:
                model = model._replace(charsmap=_bytes(dict(_fields(_bytes(value))).get(2, b"")))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise CheckpointError(f"{path} is not a SentencePiece model: {error}; fetch the checkpoint again") from error
    return model


def _add_piece(model: Model, piece: dict[int, _Value]) -> None:
    text = _bytes(piece[1]).decode()
    model.pieces.append((text, struct.unpack("<f", _bytes(piece[2]))[0]))
    kind = piece.get(3, _NORMAL)
    if kind == _CONTROL:
        model.controls.append(text)
    elif kind == _USER_DEFINED:
        model.user_defined.append(text)


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
