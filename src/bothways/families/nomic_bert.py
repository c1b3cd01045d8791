"""Nomic BERT: BERT with rotary positions and gated units, without biases, under two sets of names."""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import UnsupportedModel
from bothways.families.base import PRODUCTS, Config, Family, read_eps, read_layers, read_size, refuse_unless, with_bias
from bothways.families.bert import HEAD_STAND_INS, HEADS, read_spec
from bothways.families.heads import linear, norm
from bothways.families.rotary import check_turnable, read_base, read_rotary
from bothways.spec import HeadSpec, Rotary, Spec

__all__ = ["NOMIC_BERT"]

_UNBIASED = frozenset({"query", "key", "value", "attention_output", "inner", "gate", "output"})
_ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu"}
_BASE = 1000.0


def _spec(config: Config) -> Spec:
    """Read config.json as the checkpoints' own code spells it (n_embd), or as transformers does (hidden_size)."""
    own = "n_embd" in config
    spec = read_spec(_spelled_as_bert(config) if own else config, "nomic_bert", own_code=True)
    refuse_unless(config, head_dim=spec.head_size)
    check_turnable(spec)
    if own:
        rotary = Rotary(read_base({"rotary_emb_base": _BASE, **config}, "rotary_emb_base"))
    else:
        rotary = read_rotary(config, default=_BASE, head_size=spec.head_size)
    return replace(
        spec,
        position_table=False,
        rotary=(rotary,) * spec.num_layers,
        gated=True,
        unbiased=_UNBIASED,
    )


def _spelled_as_bert(config: Config) -> Config:
    """The keys of the checkpoints' own code (GPT-2's words), with what makes another network refused."""
    refuse_unless(
        config,
        prenorm=False,
        use_rms_norm=False,
        parallel_block=False,
        causal=False,
        qkv_proj_bias=False,
        mlp_fc1_bias=False,
        mlp_fc2_bias=False,
        rotary_emb_fraction=1,
        rotary_emb_interleaved=False,
        moe_every_n_layers=0,
    )
    name = config.get("activation_function")
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"config.json: activation_function {name!r:.100} is not one that Bothways computes for nomic_bert; "
            f"it computes {' and '.join(_ACTIVATIONS)}"
        )
    positions = read_size(config, "n_positions")
    if config.get("rotary_scaling_factor"):
        # Longer texts would turn by angles that depend on their length; up to here none does.
        positions = min(positions, read_size({"max_trained_positions": 2048, **config}, "max_trained_positions"))
    return {
        **config,
        "hidden_size": read_size(config, "n_embd"),
        "num_hidden_layers": read_layers(config, "n_layer"),
        "num_attention_heads": read_size(config, "n_head"),
        "intermediate_size": read_size(config, "n_inner"),
        "hidden_act": _ACTIVATIONS[name],
        "layer_norm_eps": read_eps(config, "layer_norm_epsilon"),
        "max_position_embeddings": positions,
    }


_HEADS = HEADS | {
    "masked_lm": HeadSpec(
        "all",
        (
            linear("cls.predictions.transform.dense", "network"),
            norm("cls.predictions.transform.layer_norm"),
            linear("cls.predictions.decoder"),
        ),
    ),
}

_TABLES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
}
_POOLER = with_bias({"pooler": "pooler.dense"})
_STAND_INS = {"embeddings.word": "cls.predictions.decoder.weight"}

_OWN = Family(
    name="nomic_bert",
    model_types=("nomic_bert",),
    spec=_spec,
    prefixes=("bert.", "nomic_bert."),
    names=_TABLES
    | _POOLER
    | with_bias(
        {
            "embeddings.norm": "emb_ln",
            "layers.{n}.query": "encoder.layers.{n}.attn.Wqkv",
            "layers.{n}.key": "encoder.layers.{n}.attn.Wqkv",
            "layers.{n}.value": "encoder.layers.{n}.attn.Wqkv",
            "layers.{n}.attention_output": "encoder.layers.{n}.attn.out_proj",
            "layers.{n}.attention_norm": "encoder.layers.{n}.norm1",
            "layers.{n}.inner": "encoder.layers.{n}.mlp.fc11",
            "layers.{n}.gate": "encoder.layers.{n}.mlp.fc12",
            "layers.{n}.output": "encoder.layers.{n}.mlp.fc2",
            "layers.{n}.output_norm": "encoder.layers.{n}.norm2",
        }
    ),
    parts={"query": (0, 3), "key": (1, 3), "value": (2, 3)},
    stand_ins=_STAND_INS,
    heads=_HEADS,
    head_stand_ins=HEAD_STAND_INS,
)

NOMIC_BERT = replace(
    _OWN,
    names=_TABLES
    | _POOLER
    | with_bias(
        PRODUCTS
        | {
            "embeddings.norm": "embeddings.LayerNorm",
            "layers.{n}.attention_norm": "layers.{n}.post_attention_layernorm",
            "layers.{n}.output_norm": "layers.{n}.post_mlp_layernorm",
        }
    ),
    parts={},
    other=_OWN,
)
