"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's network with positions counted from the padding id."""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import CheckpointError
from bothways.families.base import Config, Family, read_size
from bothways.families.bert import NAMES, read_spec
from bothways.families.heads import linear, norm
from bothways.spec import HeadSpec, Spec

__all__ = ["HEADS", "HEAD_STAND_INS", "ROBERTA"]

#: The heads of RoBERTa, which MPNet shares.
HEADS = {
    # From the first token: there is no pooler below this head.
    "classification": HeadSpec("first", (linear("classifier.dense", "tanh"), linear("classifier.out_proj"))),
    "token_classification": HeadSpec("all", (linear("classifier"),)),
    "question_answering": HeadSpec("all", (linear("qa_outputs"),)),
    # Its activation is gelu whatever hidden_act says.
    "masked_lm": HeadSpec(
        "all", (linear("lm_head.dense", "gelu"), norm("lm_head.layer_norm"), linear("lm_head.decoder"))
    ),
}

#: The decoder is the word table, and its bias has two names.
HEAD_STAND_INS = {"lm_head.decoder.weight": "embeddings.word", "lm_head.decoder.bias": "lm_head.bias"}

# The padding id of fairseq's dictionaries, which every RoBERTa was trained with; old configs do not write it down.
_PADDING_ID = 1


def _spec(config: Config) -> Spec:
    padding_id = read_size({"pad_token_id": _PADDING_ID, **config}, "pad_token_id", least=0)
    spec = replace(read_spec(config, "roberta"), position_offset=padding_id + 1, padding_id=padding_id)
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
    heads=HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
