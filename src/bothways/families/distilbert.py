"""DistilBERT: BERT without token types and pooler, under names of its own."""

from __future__ import annotations

from bothways.families.base import (
    Config,
    Family,
    check_heads,
    read_activation,
    read_layers,
    read_size,
    refuse_variants,
    with_bias,
)
from bothways.families.heads import linear, norm
from bothways.spec import HeadSpec, Spec

__all__ = ["DISTILBERT"]

_NAMES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
} | with_bias(
    {
        "embeddings.norm": "embeddings.LayerNorm",
        "layers.{n}.query": "transformer.layer.{n}.attention.q_lin",
        "layers.{n}.key": "transformer.layer.{n}.attention.k_lin",
        "layers.{n}.value": "transformer.layer.{n}.attention.v_lin",
        "layers.{n}.attention_output": "transformer.layer.{n}.attention.out_lin",
        "layers.{n}.attention_norm": "transformer.layer.{n}.sa_layer_norm",
        "layers.{n}.inner": "transformer.layer.{n}.ffn.lin1",
        "layers.{n}.output": "transformer.layer.{n}.ffn.lin2",
        "layers.{n}.output_norm": "transformer.layer.{n}.output_layer_norm",
    }
)

_HEADS = {
    "classification": HeadSpec("first", (linear("pre_classifier", "relu"), linear("classifier"))),
    "token_classification": HeadSpec("all", (linear("classifier"),)),
    "question_answering": HeadSpec("all", (linear("qa_outputs"),)),
    "masked_lm": HeadSpec(
        "all", (linear("vocab_transform", "network"), norm("vocab_layer_norm"), linear("vocab_projector"))
    ),
}

# transformers fixes it in code for this family, and no config of it has a key for it.
_EPS = 1e-12


def _spec(config: Config) -> Spec:
    refuse_variants(config)
    spec = Spec(
        family="distilbert",
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=read_size(config, "dim", "hidden_size"),
        num_layers=read_layers(config, "n_layers", "num_hidden_layers"),
        num_heads=read_size(config, "n_heads", "num_attention_heads"),
        inner_size=read_size(config, "hidden_dim"),
        activation=read_activation(config, "activation"),
        norm_eps=_EPS,
        num_positions=read_size(config, "max_position_embeddings"),
    )
    check_heads(spec.hidden_size, spec.num_heads)
    return spec


DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    spec=_spec,
    prefixes=("distilbert.",),
    names=_NAMES,
    stand_ins={"embeddings.word": "vocab_projector.weight"},
    no_pooler="distilbert has no pooler",
    heads=_HEADS,
    head_stand_ins={"vocab_projector.weight": "embeddings.word"},
)
