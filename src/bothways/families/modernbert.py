"""ModernBERT: norms before, gated units, rotary positions, and attention to near tokens only in most layers."""

from __future__ import annotations

from typing import Any

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.base import (
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
    refuse_variants,
    with_bias,
)
from bothways.families.heads import linear, norm
from bothways.families.rotary import check_turnable, read_rotary
from bothways.spec import HeadRows, HeadSpec, Spec

__all__ = ["MODERNBERT"]

_POOLINGS: dict[str, HeadRows] = {"cls": "first", "mean": "mean"}

_FULL, _SLIDING = "full_attention", "sliding_attention"
# What transformers takes where config.json says nothing: the base of angles, and its older spelling.
_BASES = {_FULL: ("global_rope_theta", 160_000.0), _SLIDING: ("local_rope_theta", 10_000.0)}


def _spec(config: Config) -> Spec:
    refuse_variants(config)
    hidden, heads = read_size(config, "hidden_size"), read_size(config, "num_attention_heads")
    check_heads(hidden, heads)
    kinds = _layer_kinds(config, read_layers(config, "num_hidden_layers"))
    rotary = {
        kind: read_rotary(_rotary_config(config, kind), default=None, head_size=hidden // heads) for kind in _BASES
    }
    # Half of it to either side.
    window = read_size({"local_attention": 128, **config}, "local_attention") // 2
    spec = Spec(
        family="modernbert",
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=hidden,
        num_layers=len(kinds),
        num_heads=heads,
        inner_size=read_size(config, "intermediate_size"),
        activation=read_activation({"hidden_activation": "gelu", **config}, "hidden_activation"),
        norm_eps=read_eps({"norm_eps": 1e-5, **config}, "norm_eps"),
        num_positions=read_size(config, "max_position_embeddings"),
        pre_norm=True,
        first_norm=False,
        position_table=False,
        rotary=tuple(rotary[kind] for kind in kinds),
        windows=tuple(window if kind == _SLIDING else None for kind in kinds),
        gated=True,
        unbiased=_unbiased(config),
    )
    check_turnable(spec)
    return spec


def _layer_kinds(config: Config, layers: int) -> list[str]:
    """Each layer's kind: layer_types, or every so-manieth layer sees all tokens, beginning with the first."""
    kinds = config.get("layer_types")
    if kinds is None:
        every = read_size({"global_attn_every_n_layers": 3, **config}, "global_attn_every_n_layers")
        return [_SLIDING if n % every else _FULL for n in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise CheckpointError(
            f"config.json: layer_types is {kinds!r:.100}, it must be a list of {layers} kinds of layer"
        )
    foreign = [kind for kind in kinds if kind not in tuple(_BASES)]  # some may not be hashable
    if foreign:
        raise UnsupportedModel(
            f"config.json: layer_types has {foreign[0]!r:.100}; Bothways computes {' and '.join(_BASES)}"
        )
    return kinds


def _rotary_config(config: Config, kind: str) -> dict[str, Any]:
    """The rotary keys of one kind of layer, as `read_rotary` takes them."""
    old_key, base = _BASES[kind]
    every = config.get("rope_parameters") or {}
    if not isinstance(every, dict):
        raise CheckpointError(f"config.json: rope_parameters is {every!r:.100}, it must be an object")
    old = config.get(old_key)
    return {
        "rope_parameters": every.get(kind),
        "rope_scaling": config.get("rope_scaling"),
        "rope_theta": base if old is None else old,
    }


def _unbiased(config: Config) -> frozenset[str]:
    linears = {
        "attention_bias": ("query", "key", "value", "attention_output"),
        "mlp_bias": ("inner", "gate", "output"),
        "norm_bias": ("norm",),
    }
    return frozenset(name for key, names in linears.items() if not read_flag(config, key, False) for name in names)


def _heads(config: Config) -> Heads:
    activation = read_activation({"classifier_activation": "gelu", **config}, "classifier_activation")
    block = (
        linear("head.dense", activation, bias=read_flag(config, "classifier_bias", False)),
        norm("head.norm", bias=read_flag(config, "norm_bias", False)),
    )
    classifier = (*block, linear("classifier"))
    return {
        "classification": HeadSpec(read_choice(config, ("classifier_pooling",), _POOLINGS, default="cls"), classifier),
        "token_classification": HeadSpec("all", classifier),
        "question_answering": HeadSpec("all", classifier),
        "masked_lm": HeadSpec("all", (*block, linear("decoder", bias=read_flag(config, "decoder_bias", True)))),
    }


MODERNBERT = Family(
    name="modernbert",
    model_types=("modernbert",),
    spec=_spec,
    prefixes=("model.",),
    names={"embeddings.word": "embeddings.tok_embeddings.weight"}
    | with_bias(
        {
            "embeddings.norm": "embeddings.norm",
            "layers.{n}.attention_norm": "layers.{n}.attn_norm",
            "layers.{n}.query": "layers.{n}.attn.Wqkv",
            "layers.{n}.key": "layers.{n}.attn.Wqkv",
            "layers.{n}.value": "layers.{n}.attn.Wqkv",
            "layers.{n}.attention_output": "layers.{n}.attn.Wo",
            "layers.{n}.output_norm": "layers.{n}.mlp_norm",
            "layers.{n}.gate": "layers.{n}.mlp.Wi",
            "layers.{n}.inner": "layers.{n}.mlp.Wi",
            "layers.{n}.output": "layers.{n}.mlp.Wo",
            "final_norm": "final_norm",
        }
    ),
    parts={"query": (0, 3), "key": (1, 3), "value": (2, 3), "gate": (0, 2), "inner": (1, 2)},
    stand_ins={"embeddings.word": "decoder.weight"},
    no_pooler="modernbert has no pooler",
    heads=_heads,
    head_stand_ins={"decoder.weight": "embeddings.word"},
)
