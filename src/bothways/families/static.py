"""Static embeddings: a table of token vectors and nothing else, as sentence-transformers and model2vec save it.

No config.json says how large a table is, so it is asked itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bothways.embed_spec import EmbedSpec
from bothways.errors import CheckpointError
from bothways.families.base import Config, Family, read_flag, read_size
from bothways.safetensors import Tensor
from bothways.spec import Spec

__all__ = ["STATIC"]

# The table's name, and model2vec's for it; there, tokens may share a row and have weights.
_NAME = "embedding.weight"
_MODEL2VEC_NAME = "embeddings"
_MAPPING, _WEIGHTS = "mapping", "weights"

# Stored so, a table is read where it lies.
_AS_STORED = ("F32", "F16", "BF16")

# What model2vec's own code takes where config.json names no max_length.
_MODEL2VEC_TOKENS = 512

# No table of positions ends, but they are counted in 32 bits.
_POSITIONS = 2**31 - 1


def _with_table(spec: Spec, config: Config, raw: Mapping[str, Tensor]) -> tuple[Spec, Mapping[str, Tensor]]:
    """Read the table among a checkpoint's tensors: the network that it is, and the tensors with a row for each token.

    Raises:
        CheckpointError: There is no table, or it and the numbers beside it don't fit together.
    """
    others = dict(raw)
    if _NAME in raw:
        table = others.pop(_NAME)
    elif _MODEL2VEC_NAME in raw:
        table = others.pop(_MODEL2VEC_NAME)
        spec = replace(spec, static="known", embed=_model2vec(config))
    else:
        names = ", ".join(sorted(raw)[:5]) or "none"
        raise CheckpointError(
            f"static embeddings are a tensor {_NAME!r} or {_MODEL2VEC_NAME!r}, but the weights have neither; "
            f"their names: {names}; fetch the checkpoint again"
        )
    table = _unfolded(table, others.pop(_MAPPING, None), others.pop(_WEIGHTS, None))
    rows, columns = table.shape
    return replace(spec, vocab_size=rows, hidden_size=columns), {**others, _NAME: table}


def _unfolded(table: Tensor, mapping: Tensor | None, weights: Tensor | None) -> Tensor:
    """Give every token a row of its own, multiplied by its weight; without either, the table stays where it lies."""
    if len(table.shape) != 2 or not all(table.shape):
        raise CheckpointError(
            f"the table of static embeddings has the shape {table.shape}, it must be (tokens, values); "
            "fetch the checkpoint again"
        )
    if table.dtype in _AS_STORED and mapping is None and weights is None:
        return table
    if not table.is_float and table.dtype != "I8":
        raise CheckpointError(
            f"the table of static embeddings is {table.dtype}; it must be floats or I8: save it again as float32"
        )
    wide = table.float32() if table.is_float else table.array.astype(np.float32)
    if mapping is not None:
        wide = wide[_places(mapping, len(wide))]
    if weights is not None:
        if not weights.is_float or weights.shape != (len(wide),):
            raise CheckpointError(
                f"the tokens' weights are {weights.dtype} of shape {weights.shape}, not floats of shape "
                f"{(len(wide),)}, one for each token; fetch the checkpoint again"
            )
        wide = wide * weights.float32()[:, None]
    return Tensor("F32", np.ascontiguousarray(wide))


def _places(mapping: Tensor, rows: int) -> np.ndarray[Any, Any]:
    """For every token its row of the table."""
    places = mapping.array
    if mapping.dtype not in ("I64", "I32") or places.ndim != 1 or not len(places):
        raise CheckpointError(
            f"the mapping of tokens to rows is {mapping.dtype} of shape {mapping.shape}, not whole numbers, one for "
            "each token; fetch the checkpoint again"
        )
    if places.min() < 0 or places.max() >= rows:
        raise CheckpointError(
            f"the mapping of tokens to rows has {places.min()} to {places.max()}, but the table has {rows} rows; "
            "fetch the checkpoint again"
        )
    return places


def _model2vec(config: Config) -> EmbedSpec:
    """Read what model2vec writes into config.json; a max_length of null is none."""
    config = {"max_length": _MODEL2VEC_TOKENS, **config}
    tokens = None if config["max_length"] is None else read_size(config, "max_length")
    return EmbedSpec(normalize=read_flag(config, "normalize", default=False), max_tokens=tokens)


def _spec(config: Config) -> Spec:
    """All that holds for every table; how large this one is, `_with_table` says."""
    return Spec(
        family="static",
        vocab_size=1,
        hidden_size=1,
        num_layers=0,
        num_heads=1,
        inner_size=1,
        activation="relu",
        norm_eps=0.0,
        num_positions=_POSITIONS,
        embedding_norm=False,
        position_table=False,
        static="all",
    )


STATIC = Family(
    name="static",
    model_types=("model2vec", "static"),
    spec=_spec,
    prefixes=(),
    names={"embeddings.word": _NAME},
    no_pooler="static embeddings have no pooler",
    complete=_with_table,
)
