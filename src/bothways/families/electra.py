"""ELECTRA: BERT without a pooler, whose embeddings may be narrower or wider than its hidden states."""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import Config, Family, read_size, with_bias
from bothways.families.bert import NAMES, read_spec
from bothways.spec import Spec

__all__ = ["ELECTRA"]


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
)
