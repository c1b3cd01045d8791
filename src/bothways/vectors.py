"""What every checkpoint can be asked: token vectors, embeddings, and how alike they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Any, overload

import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.loaded import Loaded
from bothways.tasks import inputs
from bothways.tasks.embed import Embedder
from bothways.tasks.encode import Encoded, EncodeOptions, Reader
from bothways.tasks.report import Progress
from bothways.tasks.similarity import similarities, vectors

__all__ = ["Vectors"]

#: One text or one pair, as callers give them.
_TextOrPair = str | tuple[str, str] | list[str]


class Vectors(Loaded):
    """The methods of `Encoder` that need no head; see there."""

    @overload
    def encode(
        self,
        texts: Iterator[_TextOrPair],
        *,
        max_length: int | None = ...,
        truncation: bool = ...,
        hidden_states: bool = ...,
        attentions: bool = ...,
    ) -> Iterator[Encoded]: ...
    @overload
    def encode(
        self,
        texts: str | Collection[_TextOrPair],
        *,
        max_length: int | None = ...,
        truncation: bool = ...,
        hidden_states: bool = ...,
        attentions: bool = ...,
    ) -> Encoded: ...
    def encode(
        self,
        texts: str | Iterable[_TextOrPair],
        *,
        max_length: int | None = None,
        truncation: bool = True,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> Encoded | Iterator[Encoded]:
        """Compute the vector of every token.

        Args:
            texts: A text, a pair of texts as a tuple, a list of either, or an iterator of either, which
                gives an iterator of results of one text each.
            max_length: Tokens of a sequence, special tokens included; None takes what the network can read.
            truncation: Cut longer texts (`truncated` says by how much); False makes them an InputError.
            hidden_states: Also keep every layer's output.
            attentions: Also keep every layer's attention probabilities.
        """
        cut = inputs.flag(truncation, "truncation", "True, or False (too long is an error)")
        limit = inputs.whole_number(max_length, "max_length") or self._max_length

        options = EncodeOptions(limit, cut, hidden_states, attentions)
        if isinstance(texts, Iterator):
            return self._reader.encode_each(inputs.texts_and_pairs(texts), options)
        return self._reader.encode_all(inputs.text_list(texts), options)

    @overload
    def embed(
        self,
        texts: Iterator[str],
        *,
        pooling: str | Iterable[str] | None = ...,
        normalize: bool | None = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        dimensions: int | None = ...,
        precision: str = ...,
        ranges: npt.ArrayLike | None = ...,
        truncation: inputs.Truncation = ...,
        max_length: int | None = ...,
        progress: Progress | None = ...,
    ) -> Iterator[npt.NDArray[Any]]: ...
    @overload
    def embed(
        self,
        texts: str | Collection[str],
        *,
        pooling: str | Iterable[str] | None = ...,
        normalize: bool | None = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        dimensions: int | None = ...,
        precision: str = ...,
        ranges: npt.ArrayLike | None = ...,
        truncation: inputs.Truncation = ...,
        max_length: int | None = ...,
        progress: Progress | None = ...,
    ) -> npt.NDArray[Any]: ...
    def embed(
        self,
        texts: str | Iterable[str],
        *,
        pooling: str | Iterable[str] | None = None,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        precision: str = "float32",
        ranges: npt.ArrayLike | None = None,
        truncation: inputs.Truncation = True,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[Any] | Iterator[npt.NDArray[Any]]:
        """Compute one vector per text: (B, D), for a single text (1, D); an iterator gives an iterator of (D,).

        Whatever is None is as the checkpoint's sentence-transformers files say.

        Args:
            texts: A text, a list of texts, or an iterator of texts.
            pooling: One or more of `bothways.spec.POOLINGS`; several are concatenated in that order.
            normalize: Scale every vector to length 1.
            prompt: Put in front of every text; wins over `prompt_name`.
            prompt_name: The name of one of the checkpoint's prompts.
            dimensions: Keep the first so many values. Where vectors are normalized, the scaling comes after the
                cut, so what is kept has length 1.
            precision: "float32", "int8", "uint8", "binary" or "ubinary"; see `bothways.precision.quantize`.
            ranges: (2, D), the smallest and largest values for "int8" and "uint8"; without it those of the texts.
            truncation: True cuts longer texts, counted in `progress` or else logged; False makes them an
                InputError; "window" embeds a long text piece by piece and averages the pooled pieces, weighted
                by tokens.
            max_length: Tokens of a sequence, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        options = self._embedder.options(
            pooling=pooling,
            normalize=normalize,
            prompt=prompt,
            prompt_name=prompt_name,
            dimensions=dimensions,
            precision=precision,
            ranges=ranges,
            truncation=truncation,
            max_length=inputs.whole_number(max_length, "max_length") or self._max_length,
            progress=progress,
        )
        if isinstance(texts, Iterator):
            return self._embedder.embed_each(inputs.strings(texts), options)
        return self._embedder.embed_all(inputs.string_list(texts), options)

    def similarity(self, a: Any, b: Any) -> FloatArray:
        """Compare texts or embeddings, each of a with each of b: (len a, len b), larger is more alike.

        The measure is the checkpoint's (`spec.embed.similarity`); distances are negative.
        """
        first, second = (vectors(values, name, self.embed) for name, values in (("a", a), ("b", b)))
        return similarities(first, second, self.spec.embed.similarity, self.engine)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.checkpoint, self.tokenizer, self.engine, self._batch_tokens)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.checkpoint, self.tokenizer, self.engine, self._batch_tokens)
