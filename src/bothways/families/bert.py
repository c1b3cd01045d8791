"""BERT: learned absolute positions, token types, layer norm after each block, an optional pooler.

Checkpoints with position_embedding_type "relative_key" or "relative_key_query" have vectors by distance instead of
positions, as transformers computed them up to version 4; version 5 leaves the vectors out and adds the position table,
which such checkpoints store without having been trained with it.
"""

from __future__ import annotations

from dataclasses import replace

from bothways.families.base import (
    Config,
    Family,
    check_heads,
    read_activation,
    read_eps,
    read_layers,
    read_size,
    refuse_variants,
    with_bias,
)
from bothways.families.heads import linear, norm
from bothways.spec import HeadSpec, RelativeVectors, Spec

__all__ = ["BERT", "HEADS", "HEAD_STAND_INS", "NAMES", "read_spec"]

#: The tensor names of BERT, which RoBERTa shares.
NAMES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
} | with_bias(
    {
        "embeddings.norm": "embeddings.LayerNorm",
        "layers.{n}.query": "encoder.layer.{n}.attention.self.query",
        "layers.{n}.key": "encoder.layer.{n}.attention.self.key",
        "layers.{n}.value": "encoder.layer.{n}.attention.self.value",
        "layers.{n}.attention_output": "encoder.layer.{n}.attention.output.dense",
        "layers.{n}.attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
        "layers.{n}.inner": "encoder.layer.{n}.intermediate.dense",
        "layers.{n}.output": "encoder.layer.{n}.output.dense",
        "layers.{n}.output_norm": "encoder.layer.{n}.output.LayerNorm",
        "pooler": "pooler.dense",
    }
)

#: The heads of BERT, which others share.
HEADS = {
    "classification": HeadSpec("pooled", (linear("classifier"),)),
    "token_classification": HeadSpec("all", (linear("classifier"),)),
    "question_answering": HeadSpec("all", (linear("qa_outputs"),)),
    "masked_lm": HeadSpec(
        "all",
        (
            linear("cls.predictions.transform.dense", "network"),
            norm("cls.predictions.transform.LayerNorm"),
            linear("cls.predictions.decoder"),
        ),
    ),
}

#: The decoder is the word table, and its bias has two names.
HEAD_STAND_INS = {
    "cls.predictions.decoder.weight": "embeddings.word",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Google's first BERT fixed it in code, and the configs converted from there do not write it down.
_FIRST_EPS = 1e-12


def read_spec(config: Config, family: str, *, own_code: bool = False, positions: str = "absolute") -> Spec:
    """Read the config keys that BERT and its relatives share; the last two arguments are those of `refuse_variants`."""
    refuse_variants(config, own_code=own_code, positions=positions)
    spec = Spec(
        family=family,
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=read_size(config, "hidden_size"),
        num_layers=read_layers(config, "num_hidden_layers"),
        num_heads=read_size(config, "num_attention_heads"),
        inner_size=read_size(config, "intermediate_size"),
        activation=read_activation(config, "hidden_act"),
        norm_eps=read_eps(config, "layer_norm_eps"),
        num_positions=read_size(config, "max_position_embeddings"),
        num_token_types=read_size(config, "type_vocab_size", least=0 if own_code else 1),
    )
    check_heads(spec.hidden_size, spec.num_heads)
    return spec


def _spec(config: Config) -> Spec:
    config = {"layer_norm_eps": _FIRST_EPS, **config}
    kind = config.get("position_embedding_type")
    if kind not in ("relative_key", "relative_key_query"):
        return read_spec(config, "bert")
    spec = read_spec(config, "bert", positions=kind)
    vectors = RelativeVectors(2 * spec.num_positions - 1, queries=kind == "relative_key_query")
    return replace(spec, position_table=False, relative_vectors=vectors)


BERT = Family(
    name="bert",
    model_types=("bert",),
    spec=_spec,
    prefixes=("bert.",),
    names=NAMES | {"layers.{n}.relative_vectors": "encoder.layer.{n}.attention.self.distance_embedding.weight"},
    stand_ins={"embeddings.word": "cls.predictions.decoder.weight"},
    unused=frozenset({"embeddings.position_embeddings.weight"}),
    heads=HEADS,
    head_stand_ins=HEAD_STAND_INS,
)
