"""What our own routes take: the arguments of `Encoder`'s methods."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from bothways.server.routes.base import Body

__all__ = [
    "AnswerRequest",
    "ClassifyRequest",
    "EmbedRequest",
    "EncodeRequest",
    "FillMaskRequest",
    "RerankRequest",
    "SimilarityRequest",
    "TagRequest",
    "ZeroShotRequest",
]

_Pairs = list[str | list[str]]
_Words = list[str | list[str]]
_Cut = bool | Literal["left"]
_Truncation = bool | Literal["left", "window"]
_TopK = Annotated[
    int | None | msgspec.UnsetType,
    msgspec.Meta(description="How many results each text, mask or query gets; null gives all."),
]
_Masked = msgspec.Meta(examples=["Paris is the [MASK] of France."])


class EmbedRequest(Body, omit_defaults=True):
    """What `Encoder.embed` takes."""

    texts: str | list[str]
    model: str | None = None
    sparse: bool | None = None
    tokens: bool | None = None
    pooling: str | list[str] | None = None
    normalize: bool | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    precision: str | None = None
    ranges: list[list[float]] | None = None
    truncation: _Truncation | None = None
    max_length: int | None = None


class EncodeRequest(Body, omit_defaults=True):
    """What `Encoder.encode` takes; a pair is a list of two texts inside the list."""

    texts: str | _Pairs
    model: str | None = None
    truncation: _Cut | None = None
    max_length: int | None = None
    hidden_states: bool | None = None
    attentions: bool | None = None


class SimilarityRequest(Body, omit_defaults=True):
    """What `Encoder.similarity` takes: texts on both sides."""

    a: str | list[str]
    b: str | list[str]
    model: str | None = None


class ClassifyRequest(Body, omit_defaults=True):
    """What `Encoder.classify` takes; a pair is a list of two texts inside the list."""

    texts: str | _Pairs
    model: str | None = None
    top_k: _TopK = msgspec.UNSET
    function: str | None = None
    truncation: _Cut | None = None
    max_length: int | None = None


class TagRequest(Body, omit_defaults=True):
    """What `Encoder.tag` takes; a text may be a list of its words inside the list."""

    texts: str | _Words
    model: str | None = None
    aggregation: str | None = None
    stride: int | None = None
    ignore_labels: list[str] | None = None
    truncation: _Truncation | None = None
    max_length: int | None = None


class FillMaskRequest(Body, omit_defaults=True):
    """What `Encoder.fill_mask` takes."""

    texts: Annotated[str | list[str], _Masked]
    model: str | None = None
    top_k: _TopK = msgspec.UNSET
    targets: str | list[str] | None = None
    truncation: _Cut | None = None
    max_length: int | None = None


class AnswerRequest(Body, omit_defaults=True):
    """What `Encoder.answer` takes: as many questions as contexts, or one of either."""

    question: str | list[str]
    context: str | list[str]
    model: str | None = None
    top_k: int | msgspec.UnsetType = msgspec.UNSET
    max_answer_tokens: int | None = None
    impossible: bool | None = None
    whole_words: bool | None = None
    stride: int | None = None
    truncation: _Truncation | None = None
    max_length: int | None = None


class RerankRequest(Body, omit_defaults=True):
    """What `Encoder.rerank` takes."""

    query: str
    documents: list[str]
    model: str | None = None
    top_k: _TopK = msgspec.UNSET
    raw_scores: bool | None = None
    truncation: _Cut | None = None
    max_length: int | None = None


class ZeroShotRequest(Body, omit_defaults=True):
    """What `Encoder.zero_shot` takes."""

    texts: str | list[str]
    labels: str | list[str]
    model: str | None = None
    template: str | None = None
    multi_label: bool | None = None
    truncation: _Cut | None = None
    max_length: int | None = None
