"""GTE and its model type "new": BERT with rotary positions and gated units, under two sets of names."""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import PRODUCTS, Config, Family, refuse_unless, with_bias
from bothways.families.bert import HEADS, read_spec
from bothways.families.heads import linear, norm
from bothways.families.rotary import check_turnable, read_rotary
from bothways.spec import HeadSpec, Spec

__all__ = ["GTE"]

_BASE = 160_000.0


def _spec(config: Config) -> Spec:
    refuse_unless(config, layer_norm_type="layer_norm", logn_attention_scale=False, logn_attention_clip1=False)
    spec = read_spec(config, "gte", own_code=True, positions="rope")
    check_turnable(spec)
    rotary = read_rotary(config, default=_BASE, head_size=spec.head_size)
    return replace(
        spec,
        position_table=False,
        rotary=(rotary,) * spec.num_layers,
        gated=True,
        unbiased=frozenset({"inner", "gate"}),
    )


_HEADS = HEADS | {
    # Its activation is gelu whatever hidden_act says.
    "masked_lm": HeadSpec("all", (linear("lm_head.dense", "gelu"), norm("lm_head.norm"), linear("lm_head.decoder"))),
}

_TABLES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
}
_SHARED = with_bias({"embeddings.norm": "embeddings.LayerNorm", "pooler": "pooler.dense"})

_NEW = Family(
    name="gte",
    model_types=("gte", "new"),
    spec=_spec,
    prefixes=("new.", "gte."),
    names=_TABLES
    | _SHARED
    | with_bias(
        {
            "layers.{n}.query": "encoder.layer.{n}.attention.qkv_proj",
            "layers.{n}.key": "encoder.layer.{n}.attention.qkv_proj",
            "layers.{n}.value": "encoder.layer.{n}.attention.qkv_proj",
            "layers.{n}.attention_output": "encoder.layer.{n}.attention.o_proj",
            "layers.{n}.attention_norm": "encoder.layer.{n}.attn_ln",
            "layers.{n}.inner": "encoder.layer.{n}.mlp.up_gate_proj",
            "layers.{n}.gate": "encoder.layer.{n}.mlp.up_gate_proj",
            "layers.{n}.output": "encoder.layer.{n}.mlp.down_proj",
            "layers.{n}.output_norm": "encoder.layer.{n}.mlp_ln",
        }
    ),
    parts={"query": (0, 3), "key": (1, 3), "value": (2, 3), "inner": (0, 2), "gate": (1, 2)},
    stand_ins={"embeddings.word": "lm_head.decoder.weight"},
    heads=_HEADS,
    head_stand_ins={"lm_head.decoder.weight": "embeddings.word"} | with_bias({"lm_head.norm": "lm_head.layer_norm"}),
)

GTE = replace(
    _NEW,
    names=_TABLES
    | _SHARED
    | with_bias(
        PRODUCTS
        | {
            "layers.{n}.attention_norm": "layers.{n}.post_attention_layernorm",
            "layers.{n}.output_norm": "layers.{n}.post_mlp_layernorm",
        }
    ),
    parts={},
    other=_NEW,
)
