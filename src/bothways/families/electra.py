"""ELECTRA: BERT without a pooler, whose embeddings may be narrower or wider than its hidden states."""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import Config, Family, read_size, with_bias
from bothways.families.bert import HEADS, NAMES, read_spec
from bothways.families.heads import linear, norm
from bothways.spec import HeadSpec, Spec

__all__ = ["ELECTRA"]

_HEADS = HEADS | {
    # Both activations are gelu whatever hidden_act says.
    "classification": HeadSpec("first", (linear("classifier.dense", "gelu"), linear("classifier.out_proj"))),
    "masked_lm": HeadSpec(
        "all",
        (
            linear("generator_predictions.dense", "gelu"),
            norm("generator_predictions.LayerNorm"),
            linear("generator_lm_head"),
        ),
    ),
}


def _spec(config: Config) -> Spec:
    spec = read_spec(config, "electra")
    size = read_size(config, "embedding_size")
    return replace(spec, embedding_size=None if size == spec.hidden_size else size)


ELECTRA = Family(
    name="electra",
    model_types=("electra",),
    spec=_spec,
    prefixes=("electra.",),
    names=NAMES | with_bias({"embeddings.projection": "embeddings_project"}),
    stand_ins={"embeddings.word": "generator_lm_head.weight"},
    no_pooler="electra has no pooler",
    heads=_HEADS,
    head_stand_ins={"generator_lm_head.weight": "embeddings.word"},
)
