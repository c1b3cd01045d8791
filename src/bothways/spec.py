"""What a checkpoint is: the network (`Spec`), how it embeds (`EmbedSpec`) and what heads it carries (`HeadSpec`).

Both engines read a `Spec` and nothing else; only `families/` knows how a config.json spells it.
Letters used for shapes: V vocabulary, P positions, Y token types, H hidden, I inner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ACTIVATIONS", "DTYPES", "POOLINGS", "DenseSpec", "EmbedSpec", "HeadSpec", "Spec", "StepSpec"]

#: The activations that the engines compute, by Bothways' own names.
ACTIVATIONS = ("gelu", "gelu_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "tanh")

#: The dtypes of the arithmetic, the default first.
DTYPES = ("float32", "bfloat16", "int8")

#: The poolings, in the order in which sentence-transformers concatenates several of them.
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")


@dataclass(frozen=True)
class DenseSpec:
    """A linear layer behind the pooling (sentence-transformers' Dense module)."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class EmbedSpec:
    """How token vectors become one embedding.

    Attributes:
        pooling: One or more of `POOLINGS`; several are concatenated in that order.
        pooling_from: Where the choice comes from, for people to read.
        include_prompt: False leaves the prompt's tokens out of the pooling (INSTRUCTOR).
        dense: Linear layers applied after the pooling, in order.
        normalize: Scale every embedding to length 1.
        prompts: Prompt texts by name, put in front of a text.
        default_prompt: The name of the prompt used when none is asked for.
        dimensions: Keep only the first so many values (a Matryoshka checkpoint's choice).
        similarity: "cosine", "dot", "euclidean" or "manhattan".
        max_tokens: The length limit that the checkpoint sets for embedding, or None.
        lower_case: Lower-case the text before it is tokenized.
    """

    pooling: tuple[str, ...] = ("mean",)
    pooling_from: str = "default, as the checkpoint names none"
    include_prompt: bool = True
    dense: tuple[DenseSpec, ...] = ()
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dimensions: int | None = None
    similarity: str = "cosine"
    max_tokens: int | None = None
    lower_case: bool = False

    @property
    def usual_prompt(self) -> str:
        """The text of the default prompt, "" without one."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]


@dataclass(frozen=True)
class StepSpec:
    """One step of a head, taken by every row on its own: a product or a layer norm, then an activation.

    Attributes:
        weight: The name of its weight in the checkpoint's files.
        bias: The name of its bias, "" for none.
        activation: One of `ACTIVATIONS`, or "identity"; in a family's data also "network", the network's own.
        norm: Whether it is a layer norm, with the network's eps.
    """

    weight: str
    bias: str = ""
    activation: str = "identity"
    norm: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return (self.weight, self.bias) if self.bias else (self.weight,)


@dataclass(frozen=True)
class HeadSpec:
    """What turns token vectors into scores.

    Attributes:
        rows: What it takes: every sequence's first row, their mean, the pooler's output, or all rows.
        steps: From those rows to the scores.
        labels: C, what each score is about; none for a masked language model, whose labels are the vocabulary.
        problem: What the scores of a classification are: logits of labels that exclude each other, or of labels
            that each hold or not, or values ("regression").
    """

    rows: Literal["first", "mean", "pooled", "all"]
    steps: tuple[StepSpec, ...]
    labels: tuple[str, ...] = ()
    problem: Literal["single_label", "multi_label", "regression"] = "single_label"


@dataclass(frozen=True)
class Spec:
    """What an encoder's network is: everything an engine needs besides the weights.

    Attributes:
        family: The family that read the config (bert, roberta, distilbert).
        vocab_size: V, rows of the word table.
        hidden_size: H, values in a token's vector.
        num_layers: L.
        num_heads: N, attention heads per layer.
        inner_size: I, width of the feed-forward part.
        activation: One of `ACTIVATIONS`.
        norm_eps: Added to the variance in every layer norm.
        num_positions: P, rows of the position table.
        position_offset: The row that a sequence's first token takes (RoBERTa: padding id + 1).
        padding_id: A token with this id takes row `padding_id` and does not count as a
            position (RoBERTa's rule); None where every token counts.
        num_token_types: Y, rows of the token type table; 0 for none.
        pooler: Whether the checkpoint carries trained pooler weights.
        pooler_reason: Why there is no pooler output, or "" when there is.
        embed: How token vectors become an embedding.
        heads: What the checkpoint carries of "classification", "token_classification", "masked_lm" and
            "question_answering".
        rank_activation: What a cross-encoder's score goes through: "sigmoid", "identity" or another activation.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    inner_size: int
    activation: str
    norm_eps: float
    num_positions: int
    position_offset: int = 0
    padding_id: int | None = None
    num_token_types: int = 0
    pooler: bool = False
    pooler_reason: str = ""
    embed: EmbedSpec = field(default_factory=EmbedSpec)
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    rank_activation: str = "sigmoid"

    @property
    def head_size(self) -> int:
        """D, values per attention head."""
        return self.hidden_size // self.num_heads

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the position table has rows for, special tokens included."""
        return self.num_positions - self.position_offset

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The canonical name and shape of every tensor that an engine needs for this network."""
        hidden, inner = self.hidden_size, self.inner_size
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word": (self.vocab_size, hidden),
            "embeddings.position": (self.num_positions, hidden),
            "embeddings.norm.weight": (hidden,),
            "embeddings.norm.bias": (hidden,),
        }
        if self.num_token_types:
            shapes["embeddings.token_type"] = (self.num_token_types, hidden)
        linears = {
            "query": (hidden, hidden),
            "key": (hidden, hidden),
            "value": (hidden, hidden),
            "attention_output": (hidden, hidden),
            "inner": (inner, hidden),
            "output": (hidden, inner),
        }
        for n in range(self.num_layers):
            for name, (rows, columns) in linears.items():
                shapes[f"layers.{n}.{name}.weight"] = (rows, columns)
                shapes[f"layers.{n}.{name}.bias"] = (rows,)
            for name in ("attention_norm", "output_norm"):
                shapes[f"layers.{n}.{name}.weight"] = (hidden,)
                shapes[f"layers.{n}.{name}.bias"] = (hidden,)
        if self.pooler:
            shapes["pooler.weight"] = (hidden, hidden)
            shapes["pooler.bias"] = (hidden,)
        return shapes
