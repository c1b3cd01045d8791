"""DeBERTa-v2 and v3: scores by content and distance (disentangled attention), and a convolution in the largest ones.

What config.json may leave out has the values of transformers' configuration_deberta_v2.py and modeling_deberta_v2.py.
"""

from __future__ import annotations

from dataclasses import replace

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.base import (
    Config,
    Family,
    Heads,
    check_heads,
    check_positions,
    read_activation,
    read_eps,
    read_flag,
    read_layers,
    read_size,
    refuse_unless,
    refuse_variants,
    with_bias,
)
from bothways.families.bert import NAMES
from bothways.families.heads import linear, norm
from bothways.spec import Convolution, HeadSpec, RelativeVectors, Spec, StepSpec

__all__ = ["DEBERTA_V2"]

_NAMES = (
    {key: name for key, name in NAMES.items() if not key.startswith("pooler.")}
    | {
        "relative_vectors": "encoder.rel_embeddings.weight",
        "embeddings.projection.weight": "embeddings.embed_proj.weight",
    }
    | with_bias(
        {
            "layers.{n}.query": "encoder.layer.{n}.attention.self.query_proj",
            "layers.{n}.key": "encoder.layer.{n}.attention.self.key_proj",
            "layers.{n}.value": "encoder.layer.{n}.attention.self.value_proj",
            "layers.{n}.relative_key": "encoder.layer.{n}.attention.self.pos_key_proj",
            "layers.{n}.relative_query": "encoder.layer.{n}.attention.self.pos_query_proj",
            "relative_norm": "encoder.LayerNorm",
            "convolution": "encoder.conv.conv",
            "convolution_norm": "encoder.conv.LayerNorm",
        }
    )
)


def _spec(config: Config) -> Spec:
    refuse_variants(config)
    terms = _position_terms(config)
    hidden = read_size(config, "hidden_size")
    spec = Spec(
        family="deberta-v2",
        vocab_size=read_size(config, "vocab_size"),
        hidden_size=hidden,
        num_layers=read_layers(config, "num_hidden_layers"),
        num_heads=read_size(config, "num_attention_heads"),
        inner_size=read_size(config, "intermediate_size"),
        activation=read_activation(config, "hidden_act"),
        norm_eps=read_eps({"layer_norm_eps": 1e-7, **config}, "layer_norm_eps"),
        num_positions=read_size(config, "max_position_embeddings"),
        num_token_types=_optional_size(config, "type_vocab_size", least=0) or 0,
        embedding_size=_optional_size(config, "embedding_size"),
        projection_first=True,
        position_table=read_flag(config, "position_biased_input", True),
        score_terms=1 + len(terms),
        convolution=_convolution(config, hidden),
        unbiased=frozenset({"embeddings.projection"}),
    )
    if spec.embedding_size == hidden:
        spec = replace(spec, embedding_size=None)
    check_heads(hidden, spec.num_heads)
    check_positions(spec)
    refuse_unless(config, attention_head_size=spec.head_size, pooler_hidden_size=hidden)
    return replace(spec, relative_vectors=_relative_vectors(config, spec.num_positions, terms))


def _position_terms(config: Config) -> set[str]:
    """Read pos_att_type: a list of names, or a text of names with | between."""
    given = config.get("pos_att_type") or []
    names = [name.strip() for name in given.lower().split("|")] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"config.json: pos_att_type is {given!r:.100}, it must be a list of names or one text")
    other = set(names) - {"c2p", "p2c", ""}
    if other:
        raise UnsupportedModel(
            f"config.json: pos_att_type has {', '.join(sorted(other)):.100}; Bothways computes 'c2p' and 'p2c'"
        )
    return set(names) - {""}


def _relative_vectors(config: Config, positions: int, terms: set[str]) -> RelativeVectors | None:
    if not read_flag(config, "relative_attention", False):
        return None
    longest = _above_zero(config, "max_relative_positions") or positions
    buckets = _above_zero(config, "position_buckets")
    if buckets == 1:
        raise UnsupportedModel("config.json: position_buckets 1 is not supported; 2 is the least")
    span = buckets or longest
    if buckets and longest < positions and longest <= buckets // 2 + 1:
        raise UnsupportedModel(
            f"config.json: max_relative_positions {longest} is too small for position_buckets {buckets} and "
            f"max_position_embeddings {positions}: further distances would have no place"
        )
    return RelativeVectors(
        rows=2 * span,
        max_distance=longest if buckets else None,
        keys="c2p" in terms,
        queries="p2c" in terms,
        projections="shared" if read_flag(config, "share_att_key", False) else "own",
        norm="layer_norm" in _norms(config),
    )


def _norms(config: Config) -> list[str]:
    given = config.get("norm_rel_ebd") or "none"
    names = [name.strip() for name in given.lower().split("|")] if isinstance(given, str) else [given]
    if not set(names) <= {"none", "layer_norm"}:
        raise UnsupportedModel(f"config.json: norm_rel_ebd {given!r:.100} is not supported, only 'layer_norm' is")
    return names


def _convolution(config: Config, hidden: int) -> Convolution | None:
    tokens = _above_zero(config, "conv_kernel_size")
    if not tokens:
        return None
    groups = read_size({"conv_groups": 1, **config}, "conv_groups")
    if tokens % 2 == 0 or tokens > _MAX_CONVOLUTION or hidden % groups:
        raise UnsupportedModel(
            f"config.json: conv_kernel_size {tokens} with conv_groups {groups} is not supported; the size must be odd "
            f"and {_MAX_CONVOLUTION} at most, and the groups must share hidden_size {hidden} evenly"
        )
    return Convolution(tokens, groups, read_activation({"conv_act": "tanh", **config}, "conv_act"))


_MAX_CONVOLUTION = 63  # each token's weights are a matrix of their own


def _above_zero(config: Config, key: str) -> int:
    """Read a number that counts as none where it is 0 or less, or left out."""
    value = config.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        return 0
    return _optional_size(config, key) or 0


def _optional_size(config: Config, key: str, least: int = 1) -> int | None:
    return None if config.get(key) is None else read_size(config, key, least=least)


def _heads(config: Config) -> Heads:
    pooler = linear("pooler.dense", read_activation({"pooler_hidden_act": "gelu", **config}, "pooler_hidden_act"))
    if read_flag(config, "legacy", True):
        transform, decoder = "cls.predictions.transform", linear("cls.predictions.decoder")
    else:  # its decoder is the word table, tied or not
        transform, decoder = "lm_predictions.lm_head", StepSpec("embeddings.word", "lm_predictions.lm_head.bias")
    return {
        "classification": HeadSpec("first", (pooler, linear("classifier"))),
        "token_classification": HeadSpec("all", (linear("classifier"),)),
        "question_answering": HeadSpec("all", (linear("qa_outputs"),)),
        "masked_lm": HeadSpec(
            "all", (linear(f"{transform}.dense", "network"), norm(f"{transform}.LayerNorm"), decoder)
        ),
    }


DEBERTA_V2 = Family(
    name="deberta-v2",
    model_types=("deberta-v2",),
    spec=_spec,
    prefixes=("deberta.",),
    names=_NAMES,
    stand_ins={"embeddings.word": "cls.predictions.decoder.weight"},
    no_pooler="deberta-v2 has no pooler",
    heads=_heads,
    # Microsoft's own checkpoints have the second set of names without saying legacy: false.
    head_stand_ins={
        "cls.predictions.decoder.weight": "embeddings.word",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        "cls.predictions.bias": "lm_predictions.lm_head.bias",
    }
    | {
        f"cls.predictions.transform.{name}": f"lm_predictions.lm_head.{name}"
        for name in ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")
    },
    # The last two are there with norm_rel_ebd, whether anything is normed by them or not.
    unused=frozenset({"embeddings.position_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"}),
)
