"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's network with positions counted from the padding id."""

from __future__ import annotations

from bothways.errors import CheckpointError
from bothways.families.base import (
    Config,
    Family,
    check_heads,
    read_activation,
    read_eps,
    read_layers,
    read_size,
    refuse_variants,
)
from bothways.families.bert import NAMES
from bothways.spec import Spec

__all__ = ["ROBERTA"]

# The padding id of fairseq's dictionaries, which every RoBERTa was trained with; old configs do not write it down.
_PADDING_ID = 1


def _spec(config: Config) -> Spec:
    refuse_variants(config)
    padding_id = read_size({"pad_token_id": _PADDING_ID, **config}, "pad_token_id", least=0)
    spec = Spec(
        family="roberta",
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=read_size(config, "hidden_size"),
        num_layers=read_layers(config, "num_hidden_layers"),
        num_heads=read_size(config, "num_attention_heads"),
        inner_size=read_size(config, "intermediate_size"),
        activation=read_activation(config, "hidden_act"),
        norm_eps=read_eps(config, "layer_norm_eps"),
        num_positions=read_size(config, "max_position_embeddings"),
        position_offset=padding_id + 1,
        padding_id=padding_id,
        num_token_types=read_size(config, "type_vocab_size"),
    )
    check_heads(spec.hidden_size, spec.num_heads)
    if spec.max_tokens < 1:
        raise CheckpointError(
            f"config.json: max_position_embeddings is {spec.num_positions}, but positions start at pad_token_id + 1 = "
            f"{spec.position_offset}, which leaves no room for a token; one of the two is wrong"
        )
    return spec


ROBERTA = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta", "camembert"),
    spec=_spec,
    prefixes=("roberta.", "xlm-roberta.", "camembert."),
    names=NAMES,
    stand_ins={"embeddings.word": "lm_head.decoder.weight"},
)
