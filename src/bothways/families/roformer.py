"""RoFormer: BERT that turns queries and keys by their positions, and has no position table and no pooler."""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import UnsupportedModel
from bothways.families.base import Config, Family, read_size, refuse_unless, with_bias
from bothways.families.bert import HEAD_STAND_INS, HEADS, NAMES, read_spec
from bothways.families.heads import linear
from bothways.families.rotary import check_turnable
from bothways.spec import HeadSpec, Rotary, Spec

__all__ = ["ROFORMER"]

_BASE = 10000.0  # fixed in code

_HEADS = HEADS | {
    "classification": HeadSpec("first", (linear("classifier.dense", "network"), linear("classifier.out_proj"))),
}


def _spec(config: Config) -> Spec:
    spec = read_spec(config, "roformer")
    if config.get("rotary_value"):
        raise UnsupportedModel("config.json: rotary_value is true, but Bothways turns queries and keys only")
    # RoFormerV2 has the same model_type; its checkpoints say so by these keys.
    refuse_unless(config, norm_type="layer_norm", use_bias=True)
    check_turnable(spec)
    size = read_size({"embedding_size": spec.hidden_size, **config}, "embedding_size")
    return replace(
        spec,
        embedding_size=None if size == spec.hidden_size else size,
        position_table=False,
        rotary=(Rotary(_BASE),) * spec.num_layers,
        rotary_interleaved=True,
    )


ROFORMER = Family(
    name="roformer",
    model_types=("roformer",),
    spec=_spec,
    prefixes=("roformer.",),
    names=NAMES | with_bias({"embeddings.projection": "embeddings_project"}),
    stand_ins={"embeddings.word": "cls.predictions.decoder.weight"},
    no_pooler="roformer has no pooler",
    heads=_HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
