"""The families of networks that Bothways computes, and which of them a config.json belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.albert import ALBERT
from bothways.families.base import Family, own_code
from bothways.families.bert import BERT
from bothways.families.deberta_v2 import DEBERTA_V2
from bothways.families.distilbert import DISTILBERT
from bothways.families.electra import ELECTRA
from bothways.families.ernie import ERNIE
from bothways.families.eurobert import EUROBERT
from bothways.families.gte import GTE
from bothways.families.jina_bert import JINA_BERT, JINA_BERT_QK
from bothways.families.megatron_bert import MEGATRON_BERT
from bothways.families.modernbert import MODERNBERT
from bothways.families.mpnet import MPNET
from bothways.families.nomic_bert import NOMIC_BERT
from bothways.families.roberta import ROBERTA
from bothways.families.roformer import ROFORMER
from bothways.families.static import STATIC

__all__ = ["FAMILIES", "Family", "find"]

#: Every family, in alphabetical order.
FAMILIES = (
    ALBERT,
    BERT,
    DEBERTA_V2,
    DISTILBERT,
    ELECTRA,
    ERNIE,
    EUROBERT,
    GTE,
    JINA_BERT,
    JINA_BERT_QK,
    MEGATRON_BERT,
    MODERNBERT,
    MPNET,
    NOMIC_BERT,
    ROBERTA,
    ROFORMER,
    STATIC,
)

_BY_MODEL_TYPE = {
    model_type: family for family in FAMILIES for model_type in family.model_types if not family.repository
}
_BY_REPOSITORY = {family.repository: family for family in FAMILIES if family.repository}


def find(config: Mapping[str, Any]) -> Family:
    """Find the family of a config.json by its `model_type`, or by the repository of the code that it points to.

    Raises:
        CheckpointError: `model_type` is missing or not a string.
        UnsupportedModel: No family has this `model_type`.
    """
    supported = ", ".join(sorted(_BY_MODEL_TYPE))
    model_type = config.get("model_type")
    if model_type is None:
        raise CheckpointError(
            f"config.json names no model_type; it must be one of {supported}; "
            'add the one that the checkpoint was trained as, e.g. "model_type": "bert"'
        )
    if not isinstance(model_type, str):
        raise CheckpointError(f"config.json: model_type is {model_type!r}, it must be a string, one of {supported}")
    if model_type not in _BY_MODEL_TYPE:
        raise UnsupportedModel(
            f"config.json: model_type {model_type!r} is not a network that Bothways computes; "
            f"use a checkpoint of one of these: {supported}"
        )
    by_code = _BY_REPOSITORY.get(_repository(config))
    return by_code if by_code and model_type in by_code.model_types else _BY_MODEL_TYPE[model_type]


def _repository(config: Mapping[str, Any]) -> str:
    """The one repository that all of the network's own code is in, or ""."""
    places = {str(place).partition("--")[0] for place in own_code(config).values()}
    return places.pop() if len(places) == 1 else ""
