"""How a checkpoint embeds: what becomes of token vectors behind the network, as its files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["POOLINGS", "DenseSpec", "EmbedSpec", "LateSpec", "SideSpec", "SpladeSpec"]

#: The poolings, in the order in which sentence-transformers concatenates several of them.
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")


@dataclass(frozen=True)
class DenseSpec:
    """A linear layer behind the pooling, or of every token (sentence-transformers' Dense module).

    Attributes:
        folder: Where its weights are, below the checkpoint's folder.
        residual: Whether its input is added to its output, through a second matrix where their sizes differ.
    """

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool = False


@dataclass(frozen=True)
class SpladeSpec:
    """How the scores of a masked language model become weights of terms (sentence-transformers' SpladePooling).

    Attributes:
        pooling: A term's weight is the "max" or the "sum" of its weights at all tokens.
        activation: At one token, "relu" is log(1 + relu(score)), and "log1p_relu" the same log once more.
    """

    pooling: Literal["max", "sum"] = "max"
    activation: Literal["relu", "log1p_relu"] = "relu"


@dataclass(frozen=True)
class SideSpec:
    """How a checkpoint of ColBERT's kind takes texts of one side, queries or documents.

    Attributes:
        marker: What stands behind the first token, one token where the vocabulary has it; "" for nothing.
        max_tokens: The tokens of a text, marker and special tokens included; None for the checkpoint's usual limit.
        skip: The tokens whose vectors are left out.
        fill_to: Shorter texts are filled up to so many tokens.
        fill_token: What they are filled with; None for the tokenizer's mask.
        attend: Whether a text's tokens see those that it is filled with.
    """

    marker: str = ""
    max_tokens: int | None = None
    skip: tuple[str, ...] = ()
    fill_to: int = 0
    fill_token: str | None = None
    attend: bool = False


@dataclass(frozen=True)
class LateSpec:
    """How a checkpoint of ColBERT's kind (late interaction) makes a vector of every token.

    Attributes:
        dense: Linear layers that every token's vector goes through, in order.
        normalize: Scale every vector to length 1.
    """

    query: SideSpec
    document: SideSpec
    dense: tuple[DenseSpec, ...] = ()
    normalize: bool = True


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
        similarity: "cosine", "dot", "euclidean" or "manhattan"; with `late`, "maxsim" or "meanmaxsim".
        max_tokens: The length limit that the checkpoint sets for embedding, or None.
        lower_case: Lower-case the text before it is tokenized.
        splade: How a text's terms are weighted, where the checkpoint is made for that.
        late: How token vectors are made, where the checkpoint is made for comparing those.
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
    splade: SpladeSpec | None = None
    late: LateSpec | None = None

    @property
    def usual_prompt(self) -> str:
        """The text of the default prompt, "" without one."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]
