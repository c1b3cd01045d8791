"""Jina's BERT (v2): ALiBi instead of a position table, and gated units. config.json announces "bert" and its own code.

The code of the first repository norms as BERT does. That of the second also norms queries and keys, and adds
attention's input twice: behind the norm of their sum it is added and normed again.
"""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import UnsupportedModel
from bothways.families.base import Config, Heads, check_positions, read_activation, with_bias
from bothways.families.bert import BERT, HEADS, NAMES, read_spec
from bothways.spec import Spec

__all__ = ["JINA_BERT", "JINA_BERT_QK"]

# What feed_forward_type says of gated units: their activation is fixed, whatever hidden_act is.
_ACTIVATIONS = {"geglu": "gelu", "reglu": "relu"}


def _spec(config: Config) -> Spec:
    kind = config.get("feed_forward_type")
    if not isinstance(kind, str) or kind not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"config.json: feed_forward_type is {kind!r:.100}, but Bothways computes {' and '.join(_ACTIVATIONS)} only"
        )
    # Without the key, their code takes a position table, and ALiBi besides.
    config = {"position_embedding_type": "absolute", **config}
    spec = read_spec(config, "jina_bert", own_code=True, positions="alibi")
    check_positions(spec)
    return replace(
        spec,
        activation=_ACTIVATIONS[kind],
        position_table=False,
        alibi=True,
        gated=True,
        unbiased=frozenset({"inner", "gate"}),
    )


def _spec_qk(config: Config) -> Spec:
    return replace(_spec(config), query_key_norm=True, residual_norm=True)


def _heads(config: Config) -> Heads:
    """BERT's, but the masked-language head keeps hidden_act."""
    dense, *rest = HEADS["masked_lm"].steps
    dense = replace(dense, activation=read_activation(config, "hidden_act"))
    return {**HEADS, "masked_lm": replace(HEADS["masked_lm"], steps=(dense, *rest))}


JINA_BERT = replace(
    BERT,
    name="jina_bert",
    repository="jinaai/jina-bert-implementation",
    spec=_spec,
    heads=_heads,
    names=NAMES
    | with_bias(
        {
            "layers.{n}.gate": "encoder.layer.{n}.mlp.gated_layers",
            "layers.{n}.inner": "encoder.layer.{n}.mlp.gated_layers",
            "layers.{n}.output": "encoder.layer.{n}.mlp.wo",
            "layers.{n}.output_norm": "encoder.layer.{n}.mlp.layernorm",
        }
    ),
    parts={"gate": (0, 2), "inner": (1, 2)},
)

JINA_BERT_QK = replace(
    JINA_BERT,
    repository="jinaai/jina-bert-v2-qk-post-norm",
    spec=_spec_qk,
    names=NAMES
    | with_bias(
        {
            "layers.{n}.query_norm": "encoder.layer.{n}.attention.self.layer_norm_q",
            "layers.{n}.key_norm": "encoder.layer.{n}.attention.self.layer_norm_k",
            "layers.{n}.residual_norm": "encoder.layer.{n}.layer_norm_1",
            "layers.{n}.inner": "encoder.layer.{n}.mlp.up_gated_layer",
            "layers.{n}.gate": "encoder.layer.{n}.mlp.up_gated_layer",
            "layers.{n}.output": "encoder.layer.{n}.mlp.down_layer",
            "layers.{n}.output_norm": "encoder.layer.{n}.layer_norm_2",
        }
    ),
    parts={"inner": (0, 2), "gate": (1, 2)},
)
