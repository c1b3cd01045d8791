"""Encoder: load a checkpoint, then one method per task. The page to read first.

Texts may be given one alone, as a list, or as an iterator; an iterator in gives an iterator out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Any, NoReturn, overload

import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.engines.base import Engine
from bothways.engines.choose import choose
from bothways.errors import BothwaysError, InputError, OutOfMemory
from bothways.heads import Head, pooler
from bothways.sources import Source, resolve
from bothways.spec import Spec
from bothways.stream import BATCH_TOKENS
from bothways.tasks.embed import Embedder, EmbedOptions, Progress, Truncation
from bothways.tasks.encode import Encoded, TextRows, encode_texts
from bothways.tasks.inputs import flag, string_list, strings, text_list, texts_and_pairs, whole_number
from bothways.tasks.similarity import similarities, vectors
from bothways.tokens import Text, Tokenizer

__all__ = ["Encoder"]

#: One text or one pair, as callers give them.
_TextOrPair = str | tuple[str, str] | list[str]


class Encoder:
    """A checkpoint ready to compute. Safe to use from many threads at once, and after a fork.

    A text's result is the same bits alone, in any batch and in any order.

    Attributes:
        name: The model's name as given.
        checkpoint: The files it came from.
        tokenizer: What turns texts into sequences.
        engine: What computes.
        tasks: The methods that this checkpoint can serve.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        name: str = "",
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Join the parts; `from_pretrained` is the usual way."""
        self.name = name or checkpoint.folder.name
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.engine = engine
        self.tasks: tuple[str, ...] = ("encode", "embed", "similarity")
        self._max_length = whole_number(max_length, "max_length")
        self._batch_tokens = whole_number(batch_tokens, "batch_tokens") or BATCH_TOKENS
        if self._max_length is not None and self._max_length > self.spec.max_tokens:
            raise InputError(
                f"max_length is {max_length}, but the checkpoint's position table has rows for {self.spec.max_tokens} "
                "tokens; give at most so many"
            )

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        engine: str = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> Encoder:
        """Load a checkpoint in the Hugging Face layout, as it is.

        Args:
            model: A folder, a hub name ("org/name"), or "pkg:package/folder" for one inside a Python package.
            revision: The hub name's branch, tag or commit.
            device: "auto" or "cpu".
            dtype: Of the weights and products: "float32".
            engine: "auto" or "native".
            threads: How many to compute with; None takes what the process may use.
            max_length: The tokens of a sequence, special ones included, where a call does not say otherwise;
                None takes the checkpoint's own limits.
            batch_tokens: The most tokens to compute at once; it changes memory and speed, never results.
        """
        source = resolve(model, revision)
        try:
            checkpoint = open_checkpoint(source.folder)
            tokenizer = Tokenizer.from_folder(checkpoint.network_folder, checkpoint.spec)
            chosen = choose(checkpoint, engine=engine, device=device, dtype=dtype, threads=threads)
        except MemoryError:
            raise _too_large(source) from None
        return cls(checkpoint, tokenizer, chosen, name=source.name, max_length=max_length, batch_tokens=batch_tokens)

    @property
    def spec(self) -> Spec:
        """What the network is, and how embeddings are made of its token vectors."""
        return self.checkpoint.spec

    def __reduce__(self) -> NoReturn:
        """Refuse pickling: what would be sent is the whole network, mapped and packed for this process."""
        raise BothwaysError("an Encoder can't be pickled; load it in each process with Encoder.from_pretrained(...)")

    def __repr__(self) -> str:
        """The model, its size, and what computes it."""
        spec, engine = self.spec, self.engine
        return (
            f"Encoder({self.name!r}, {spec.family}, {spec.num_layers} layers, hidden size {spec.hidden_size}, "
            f"{engine.name} {engine.level} {engine.dtype}, {engine.threads} threads)"
        )

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
        cut = flag(truncation, "truncation", "True, or False (too long is an error)")
        limit = whole_number(max_length, "max_length") or self._max_length

        def rows(texts: Iterable[Text]) -> Iterator[TextRows]:
            return encode_texts(
                texts,
                self.engine,
                self.spec,
                self.tokenizer,
                self._pooler,
                max_length=limit,
                truncation=cut,
                hidden_states=hidden_states,
                attentions=attentions,
                batch_tokens=self._batch_tokens,
            )

        if isinstance(texts, Iterator):
            return (self._encoded((row.alone(),)) for row in rows(texts_and_pairs(texts)))
        return self._encoded(tuple(rows(text_list(texts))))

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
        truncation: Truncation = ...,
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
        truncation: Truncation = ...,
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
        truncation: Truncation = True,
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
            max_length=whole_number(max_length, "max_length") or self._max_length,
            progress=progress,
        )
        return self._embed(texts, options)

    def similarity(self, a: Any, b: Any) -> FloatArray:
        """Compare texts or embeddings, each of a with each of b: (len a, len b), larger is more alike.

        The measure is the checkpoint's (`spec.embed.similarity`); distances are negative.
        """
        return similarities(self._vectors(a, "a"), self._vectors(b, "b"), self.spec.embed.similarity, self.engine)

    def _embed(self, texts: Any, options: EmbedOptions) -> npt.NDArray[Any] | Iterator[npt.NDArray[Any]]:
        if isinstance(texts, Iterator):
            return self._embedder.embed_each(strings(texts), options)
        return self._embedder.embed_all(string_list(texts), options)

    def _vectors(self, values: Any, name: str) -> FloatArray:
        if isinstance(values, Iterator):
            values = list(values)
        if isinstance(values, str) or (isinstance(values, Collection) and any(isinstance(v, str) for v in values)):
            return self.embed(values)
        return vectors(values, name)

    def _encoded(self, rows: tuple[TextRows, ...]) -> Encoded:
        return Encoded(rows, self.spec, self._padding_id)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.checkpoint, self.tokenizer, self.engine, self._batch_tokens)

    @cached_property
    def _pooler(self) -> Head | None:
        return pooler(self.engine, self.checkpoint)

    @cached_property
    def _padding_id(self) -> int:
        padding_id = self.checkpoint.config.get("pad_token_id")
        return padding_id if isinstance(padding_id, int) else 0


def _too_large(source: Source) -> OutOfMemory:
    size = sum(path.stat().st_size for path in source.folder.rglob("*.safetensors") if path.is_file())
    return OutOfMemory(
        f"{source.name!r} does not fit in memory: its weights take {size / 1e6:.0f} MB on disk and at "
        "least as much again in memory; close other programs, or load a smaller model"
    )
