"""MPNet: BERT without token types, with T5's relative position bias besides the position table."""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.base import Config, Family, read_size, with_bias
from bothways.families.bert import NAMES, read_spec
from bothways.families.roberta import HEAD_STAND_INS, HEADS
from bothways.spec import Spec

__all__ = ["MPNET"]

# transformers fixes both in code, whatever config.json says: the padding id that positions count from, and the buckets.
_PADDING_ID = 1
_BUCKETS = 32


def _spec(config: Config) -> Spec:
    key = "relative_attention_num_buckets"
    buckets = read_size({key: _BUCKETS, **config}, key)
    if buckets != _BUCKETS:
        raise UnsupportedModel(f"config.json: {key} is {buckets}, but MPNet is computed with {_BUCKETS} only")
    spec = read_spec({"type_vocab_size": 1, **config}, "mpnet")
    spec = replace(
        spec, num_token_types=0, position_offset=_PADDING_ID + 1, padding_id=_PADDING_ID, relative_buckets=_BUCKETS
    )
    if spec.max_tokens < 1:
        raise CheckpointError(
            f"config.json: max_position_embeddings is {spec.num_positions}, but MPNet's positions start at "
            f"{spec.position_offset}, which leaves no room for a token"
        )
    return spec


MPNET = Family(
    name="mpnet",
    model_types=("mpnet",),
    spec=_spec,
    prefixes=("mpnet.",),
    names=NAMES
    | {"relative_bias": "encoder.relative_attention_bias.weight"}
    | with_bias(
        {
            "layers.{n}.query": "encoder.layer.{n}.attention.attn.q",
            "layers.{n}.key": "encoder.layer.{n}.attention.attn.k",
            "layers.{n}.value": "encoder.layer.{n}.attention.attn.v",
            "layers.{n}.attention_output": "encoder.layer.{n}.attention.attn.o",
            "layers.{n}.attention_norm": "encoder.layer.{n}.attention.LayerNorm",
        }
    ),
    stand_ins={"embeddings.word": "lm_head.decoder.weight"},
    heads=HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
