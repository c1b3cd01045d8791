"""Megatron-BERT: BERT with layer norms before each part and none behind the embeddings."""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import Config, Family, with_bias
from bothways.families.bert import HEAD_STAND_INS, HEADS, NAMES, read_spec
from bothways.spec import Spec

__all__ = ["MEGATRON_BERT"]


def _spec(config: Config) -> Spec:
    return replace(read_spec(config, "megatron-bert"), embedding_norm=False, pre_norm=True)


MEGATRON_BERT = Family(
    name="megatron-bert",
    model_types=("megatron-bert",),
    spec=_spec,
    prefixes=("bert.",),
    names=NAMES
    | with_bias(
        {
            "layers.{n}.attention_norm": "encoder.layer.{n}.attention.ln",
            "layers.{n}.output_norm": "encoder.layer.{n}.ln",
            "final_norm": "encoder.ln",
        }
    ),
    stand_ins={"embeddings.word": "cls.predictions.decoder.weight"},
    heads=HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
