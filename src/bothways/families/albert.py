"""ALBERT: narrow embeddings, and groups of layers that share their weights."""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.base import Config, Family, read_size, with_bias
from bothways.families.bert import HEADS, NAMES, read_spec
from bothways.families.heads import linear, norm
from bothways.spec import HeadSpec, Spec

__all__ = ["ALBERT"]

_LAYER = "encoder.albert_layer_groups.{n}.albert_layers.0"
_HEADS = HEADS | {
    "masked_lm": HeadSpec(
        "all", (linear("predictions.dense", "network"), norm("predictions.LayerNorm"), linear("predictions.decoder"))
    ),
}

_FIRST_EPS = 1e-12  # Google's first ALBERT fixed it in code


def _spec(config: Config) -> Spec:
    spec = read_spec({"layer_norm_eps": _FIRST_EPS, **config}, "albert")
    groups, layers = read_size({"num_hidden_groups": 1, **config}, "num_hidden_groups"), spec.num_layers
    if groups > layers:
        raise CheckpointError(f"config.json: num_hidden_groups is {groups}, which is more than its {layers} layers")
    inner = read_size({"inner_group_num": 1, **config}, "inner_group_num")
    if inner != 1:
        raise UnsupportedModel(f"config.json: inner_group_num is {inner}, but Bothways computes groups of 1 layer only")
    # In floating point, as transformers does it: it decides where a group ends that isn't as large as the others.
    stored = tuple(int(n / (layers / groups)) for n in range(layers))
    return replace(spec, embedding_size=read_size(config, "embedding_size"), stored_layers=stored)


ALBERT = Family(
    name="albert",
    model_types=("albert",),
    spec=_spec,
    prefixes=("albert.",),
    names={name: NAMES[name] for name in NAMES if name.startswith("embeddings.")}
    | with_bias(
        {
            "embeddings.projection": "encoder.embedding_hidden_mapping_in",
            "layers.{n}.query": f"{_LAYER}.attention.query",
            "layers.{n}.key": f"{_LAYER}.attention.key",
            "layers.{n}.value": f"{_LAYER}.attention.value",
            "layers.{n}.attention_output": f"{_LAYER}.attention.dense",
            "layers.{n}.attention_norm": f"{_LAYER}.attention.LayerNorm",
            "layers.{n}.inner": f"{_LAYER}.ffn",
            "layers.{n}.output": f"{_LAYER}.ffn_output",
            "layers.{n}.output_norm": f"{_LAYER}.full_layer_layer_norm",
            "pooler": "pooler",
        }
    ),
    stand_ins={"embeddings.word": "predictions.decoder.weight"},
    heads=_HEADS,
    head_stand_ins={
        "predictions.decoder.weight": "embeddings.word",
        "predictions.decoder.bias": "predictions.bias",
    },
)
