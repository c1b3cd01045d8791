"""ERNIE: BERT with a table of task types, of which transformers adds the first where none is asked for."""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import Config, Family, read_flag, read_size
from bothways.families.bert import HEAD_STAND_INS, HEADS, NAMES, read_spec
from bothways.spec import Spec

__all__ = ["ERNIE"]


def _spec(config: Config) -> Spec:
    spec = read_spec(config, "ernie")
    used = read_flag(config, "use_task_id", False)
    return replace(spec, num_task_types=read_size(config, "task_type_vocab_size") if used else 0)


ERNIE = Family(
    name="ernie",
    model_types=("ernie",),
    spec=_spec,
    prefixes=("ernie.",),
    names=NAMES | {"embeddings.task_type": "embeddings.task_type_embeddings.weight"},
    stand_ins={"embeddings.word": "cls.predictions.decoder.weight"},
    heads=HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
