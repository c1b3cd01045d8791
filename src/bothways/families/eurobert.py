"""EuroBERT: RMS norms before, gated units, rotary positions, keys that several queries share, no biases."""

from __future__ import annotations

from bothways.errors import CheckpointError
from bothways.families.base import (
    PRODUCTS,
    Config,
    Family,
    Heads,
    check_heads,
    read_activation,
    read_choice,
    read_eps,
    read_flag,
    read_layers,
    read_size,
    refuse_unless,
    refuse_variants,
    with_bias,
)
from bothways.families.heads import linear
from bothways.families.rotary import check_turnable, read_rotary
from bothways.spec import HeadRows, HeadSpec, Spec

__all__ = ["EUROBERT"]

# What its classifier pools: the rows that it takes, and whether their scores are averaged.
_POOLINGS: dict[str, tuple[HeadRows, bool]] = {"late": ("all", True), "bos": ("first", False), "mean": ("mean", False)}


def _spec(config: Config) -> Spec:
    refuse_variants(config, own_code=True)
    hidden, heads = read_size(config, "hidden_size"), read_size(config, "num_attention_heads")
    check_heads(hidden, heads)
    size = hidden // heads
    refuse_unless(config, head_dim=size)
    key_heads = read_size(
        config if config.get("num_key_value_heads") else {"num_key_value_heads": heads}, "num_key_value_heads"
    )
    if heads % key_heads:
        raise CheckpointError(
            f"config.json: num_key_value_heads is {key_heads}, which can't be shared evenly by {heads} attention heads"
        )
    layers = read_layers(config, "num_hidden_layers")
    linears = {"attention_bias": ("query", "key", "value", "attention_output"), "mlp_bias": ("inner", "gate", "output")}
    spec = Spec(
        family="eurobert",
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        inner_size=read_size(config, "intermediate_size"),
        activation=read_activation(config, "hidden_act"),
        norm_eps=read_eps({"rms_norm_eps": 1e-5, **config}, "rms_norm_eps"),
        num_positions=read_size(config, "max_position_embeddings"),
        embedding_norm=False,
        pre_norm=True,
        position_table=False,
        rotary=(read_rotary(config, default=10_000.0, head_size=size),) * layers,
        rms_norm=True,
        gated=True,
        num_key_heads=None if key_heads == heads else key_heads,
        unbiased=frozenset({"norm"}.union(*(n for key, n in linears.items() if not read_flag(config, key, False)))),
    )
    check_turnable(spec)
    return spec


def _heads(config: Config) -> Heads:
    # clf_pooling is the key of the checkpoints' own code.
    rows, late_mean = read_choice(config, ("classifier_pooling", "clf_pooling"), _POOLINGS, default="late")
    return {
        "classification": HeadSpec(rows, (linear("dense", "gelu"), linear("classifier")), late_mean=late_mean),
        "token_classification": HeadSpec("all", (linear("classifier"),)),
        "masked_lm": HeadSpec("all", (linear("lm_head", bias=read_flag(config, "mlp_bias", False)),)),
    }


EUROBERT = Family(
    name="eurobert",
    model_types=("eurobert",),
    spec=_spec,
    prefixes=("model.",),
    names={"embeddings.word": "embed_tokens.weight"}
    | with_bias(
        PRODUCTS
        | {
            "layers.{n}.attention_norm": "layers.{n}.input_layernorm",
            "layers.{n}.output_norm": "layers.{n}.post_attention_layernorm",
            "final_norm": "norm",
        }
    ),
    stand_ins={"embeddings.word": "lm_head.weight"},
    no_pooler="eurobert has no pooler",
    heads=_heads,
    head_stand_ins={"lm_head.weight": "embeddings.word"},
)
