"""The calls that every checkpoint serves, token vectors and embeddings; see head_tasks.py.

B texts, D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.client.call import CUT, CUT_OR_WINDOW, Call, each_result, is_stream, joined_lists
from bothways.client.encoded import RemoteEncoded, joined, one_by_one, read_encoded
from bothways.client.head_tasks import texts_field
from bothways.client.pieces import PIECE_BYTES, PIECE_TEXTS, Piece
from bothways.client.replies import Unreadable, read_array, read_sparse, read_token_vectors
from bothways.client.target import Target
from bothways.client.wire import JSON, NPY, NPZ, Reply
from bothways.errors import InputError
from bothways.precision import check_precision, quantize
from bothways.tasks import inputs
from bothways.tasks.each import Each
from bothways.tasks.report import Progress
from bothways.tokens import Cut, Text

__all__ = ["embed", "encode"]

_DTYPES = {"float32": np.float32, "int8": np.int8, "uint8": np.uint8, "binary": np.int8, "ubinary": np.uint8}

#: Bytes of text in a request whose reply has vectors for every token, some thousand bytes each; and its texts.
_TOKEN_BYTES = 64_000
_TOKEN_TEXTS = 64


def encode(
    target: Target,
    texts: Each[Text],
    *,
    max_length: int | None = None,
    truncation: Cut = True,
    hidden_states: bool = False,
    attentions: bool = False,
) -> Call[RemoteEncoded, RemoteEncoded]:
    """Compute the vector of every token, as `Encoder.encode` does: a result with the attributes of `Encoded`.

    Args:
        target: Where to.
        texts: A text, a pair of texts as a tuple, a list of either, or an iterator of either, which gives an
            iterator of results of one text each.
        max_length: Tokens of a sequence, special tokens included; None takes what the network can read.
        truncation: Cut longer texts (`truncated` says by how much), with "left" their beginning; False makes them
            an InputError.
        hidden_states: Also get every layer's output.
        attentions: Also get every layer's attention probabilities.
    """
    streamed = is_stream(texts)
    options = {
        "max_length": inputs.whole_number(max_length, "max_length"),
        "truncation": inputs.read_cut(truncation),
        "hidden_states": inputs.flag(hidden_states, "hidden_states"),
        "attentions": inputs.flag(attentions, "attentions"),
    }
    return Call(
        target,
        "encode",
        texts if streamed else inputs.text_list(texts),
        streamed,
        texts_field,
        options,
        lambda reply, piece: read_encoded(reply, len(piece.items)),
        joined,
        each=one_by_one,
        checked=inputs.texts_and_pairs,
        accept=NPZ,
        most=1 if attentions else 4 if hidden_states else _TOKEN_TEXTS,
        most_bytes=_TOKEN_BYTES,
        message=None,
    )


def embed(
    target: Target,
    texts: str | Iterable[str],
    *,
    sparse: bool = False,
    tokens: bool = False,
    pooling: str | Iterable[str] | None = None,
    normalize: bool | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dimensions: int | None = None,
    precision: str = "float32",
    ranges: npt.ArrayLike | None = None,
    truncation: inputs.Truncation = True,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[Any, Any]:
    """Compute one vector per text, as `Encoder.embed` does: (B, D); an iterator gives an iterator of (D,).

    With `sparse` or `tokens` a text has another kind of embedding, and a list or an iterator of these comes out.
    Whatever is None is as the checkpoint's sentence-transformers files say.

    Args:
        target: Where to.
        texts: A text, a list of texts, or an iterator of texts.
        sparse: Give each text's weighted terms, a `SparseEmbedding`.
        tokens: Give each text's token vectors, (n, D).
        pooling: One or more of `bothways.embed_spec.POOLINGS`; several are concatenated in that order.
        normalize: Scale every vector to length 1.
        prompt: Put in front of every text; wins over `prompt_name`.
        prompt_name: The name of one of the checkpoint's prompts.
        dimensions: Keep the first so many values.
        precision: "float32", "int8", "uint8", "binary" or "ubinary"; see `bothways.precision.quantize`.
        ranges: (2, D), the smallest and largest values for "int8" and "uint8"; without it those of the texts.
        truncation: True cuts longer texts, counted in `progress` or else logged, and "left" their beginning; False
            makes them an InputError; "window" embeds a long text piece by piece and averages the pooled pieces,
            weighted by tokens.
        max_length: Tokens of a sequence, special tokens included.
        progress: Called after each request with the texts done, tokens computed and texts cut so far.
    """
    sparse, tokens = inputs.flag(sparse, "sparse"), inputs.flag(tokens, "tokens")
    if sparse and tokens:
        raise InputError("sparse=True and tokens=True are two kinds of embedding; ask for one at a time")
    check_precision(precision)
    streamed = is_stream(texts)
    # Ranges are those of all texts, which no single request has: vectors are fetched whole, and made small here.
    later = precision in ("int8", "uint8") and ranges is None and not sparse and not tokens
    if later and streamed:
        raise InputError(
            f"precision {precision!r} takes its ranges from all embeddings, which a stream does not have; pass "
            "ranges=(2, D), or a list of texts"
        )
    options = {
        "sparse": sparse,
        "tokens": tokens,
        "pooling": pooling if isinstance(pooling, str | None) else inputs.string_list(pooling),
        "normalize": None if normalize is None else inputs.flag(normalize, "normalize", "True, False or None"),
        "prompt": None if prompt is None else inputs.one_string(prompt, "prompt"),
        "prompt_name": None if prompt_name is None else inputs.one_string(prompt_name, "prompt_name"),
        "dimensions": inputs.whole_number(dimensions, "dimensions"),
        "precision": "float32" if later else precision,
        "ranges": None if ranges is None else _ranges(ranges),
        "truncation": inputs.read_truncation(truncation),
        "max_length": inputs.whole_number(max_length, "max_length"),
    }
    form = _SPARSE if sparse else _TOKENS if tokens else _dense(precision, later)
    return Call(
        target,
        "embed",
        texts if streamed else inputs.string_list(texts),
        streamed,
        texts_field,
        options,
        form.read,
        form.join,
        checked=inputs.strings,
        accept=form.accept,
        most=_TOKEN_TEXTS if tokens else PIECE_TEXTS,
        most_bytes=_TOKEN_BYTES if tokens else PIECE_BYTES,
        progress=progress,
        message=CUT if sparse or tokens else CUT_OR_WINDOW,
    )


@dataclass(frozen=True)
class _Form:
    """How embeddings of one kind come; see `Call`."""

    accept: str
    read: Any
    join: Any


_SPARSE = _Form(JSON, each_result(read_sparse), joined_lists)
_TOKENS = _Form(NPZ, lambda reply, piece: read_token_vectors(reply, len(piece.items)), joined_lists)


def _dense(precision: str, later: bool) -> _Form:
    """Arrays (B, D); with `later` they come as float32 and are made small when all are there."""
    dtype = np.dtype(np.float32 if later else _DTYPES[precision])

    def read(reply: Reply, piece: Piece[str]) -> npt.NDArray[Any]:
        vectors = read_array(reply, (len(piece.items), None))
        if (vectors.dtype.kind, vectors.dtype.itemsize) != (dtype.kind, dtype.itemsize):
            raise Unreadable(f"it holds numbers of type {vectors.dtype}, where {dtype} is due")
        return vectors.astype(dtype, copy=False)

    def join(blocks: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        sizes = {block.shape[1] for block in blocks}
        if len(sizes) > 1:
            raise InputError(
                f"some texts have embeddings of {min(sizes)} values and some of {max(sizes)}; the model behind the "
                "address was changed meanwhile: embed all texts again"
            )
        vectors = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        return quantize(vectors, precision) if later else vectors

    return _Form(NPY, read, join)


def _ranges(given: npt.ArrayLike) -> list[list[float]]:
    """Ranges as lists; the server knows D."""
    try:
        ranges = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"ranges can't be read as numbers ({error}); pass an array of shape (2, D)") from None
    if ranges.ndim != 2 or len(ranges) != 2:
        raise InputError(f"ranges has the shape {ranges.shape}; it must be (2, D): smallest and largest values")
    if not np.isfinite(ranges).all():
        raise InputError("ranges holds values that are not finite; it must hold the smallest and largest values")
    found: list[list[float]] = ranges.tolist()
    return found
