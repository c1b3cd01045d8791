"""What every checkpoint can be asked: token vectors, embeddings, and how alike they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.embed_spec import SpladeSpec
from bothways.loaded import Loaded
from bothways.precision import quantize
from bothways.tasks import inputs
from bothways.tasks.embed import Embedder, EmbedOptions, embedding_kind, token_limit
from bothways.tasks.encode import Encoded, EncodeOptions, Reader, TextRows
from bothways.tasks.maxsim import late_similarities
from bothways.tasks.plan import Plan
from bothways.tasks.prompts import choose_prompt, prompted
from bothways.tasks.report import Progress
from bothways.tasks.similarity import similarities, vectors
from bothways.tasks.sparse import SparseEmbedding, has_sparse, sparse_embeddings, sparse_list, sparse_similarities
from bothways.tasks.token_vectors import TokenEmbedder, vectors_limit
from bothways.tokens import Cut, Text

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DenseOptions", "SparseOptions", "TokensOptions", "VectorMethods"]

#: One text or one pair, as callers give them.
_TextOrPair = str | tuple[str, str] | list[str]


class UsualOptions(TypedDict, total=False):
    """Options of every kind of embedding; see `VectorMethods.embed`."""

    prompt: str | None
    prompt_name: str | None
    max_length: int | None
    progress: Progress | None


class SparseOptions(UsualOptions, total=False):
    """Options of `embed(sparse=True)`."""

    truncation: Cut


class TokensOptions(UsualOptions, total=False):
    """Options of `embed(tokens=True)`."""

    truncation: Cut
    normalize: bool | None


class DenseOptions(UsualOptions, total=False):
    """Options of one dense vector a text."""

    truncation: inputs.Truncation
    normalize: bool | None
    pooling: str | Iterable[str] | None
    dimensions: int | None
    precision: str
    ranges: npt.ArrayLike | None


class VectorMethods(Loaded):
    """The methods of `Encoder` that need no head; see there."""

    @overload
    def encode(
        self,
        texts: Iterator[_TextOrPair],
        *,
        max_length: int | None = ...,
        truncation: Cut = ...,
        hidden_states: bool = ...,
        attentions: bool = ...,
    ) -> Iterator[Encoded]: ...
    @overload
    def encode(
        self,
        texts: str | Collection[_TextOrPair],
        *,
        max_length: int | None = ...,
        truncation: Cut = ...,
        hidden_states: bool = ...,
        attentions: bool = ...,
    ) -> Encoded: ...
    def encode(
        self,
        texts: str | Iterable[_TextOrPair],
        *,
        max_length: int | None = None,
        truncation: Cut = True,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> Encoded | Iterator[Encoded]:
        """Compute the vector of every token.

        Args:
            texts: A text, a pair of texts as a tuple, a list of either, or an iterator of either, which
                gives an iterator of results of one text each.
            max_length: Tokens of a sequence, special tokens included; None takes what the network can read.
            truncation: Cut longer texts (`truncated` says by how much), with "left" their beginning; False makes them
                an InputError.
            hidden_states: Also keep every layer's output.
            attentions: Also keep every layer's attention probabilities.
        """
        plan = self._plan_encode(
            max_length=max_length, truncation=truncation, hidden_states=hidden_states, attentions=attentions
        )
        if isinstance(texts, Iterator):
            each = self._carry_out(plan, inputs.texts_and_pairs(texts), _quiet)
            return (self._reader.encoded([text.alone()]) for text in each)
        return self._reader.encoded(self._carry_out(plan, inputs.text_list(texts), _quiet))

    def _plan_encode(
        self, *, max_length: int | None, truncation: Cut, hidden_states: bool, attentions: bool
    ) -> Plan[Text, TextRows]:
        cut = inputs.read_cut(truncation)
        limit = inputs.whole_number(max_length, "max_length") or self._max_length
        return self._reader.plan(EncodeOptions(limit, cut, hidden_states, attentions))

    def encoded(self, texts: Iterable[TextRows]) -> Encoded:
        """Put results of `plan("encode")` together, as `encode` does."""
        return self._reader.encoded(texts)

    @overload
    def embed(
        self,
        texts: Iterator[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[DenseOptions],
    ) -> Iterator[npt.NDArray[Any]]: ...
    @overload
    def embed(
        self,
        texts: str | Collection[str],
        *,
        sparse: Literal[False] = ...,
        tokens: Literal[False] = ...,
        **how: Unpack[DenseOptions],
    ) -> npt.NDArray[Any]: ...
    @overload
    def embed(
        self,
        texts: Iterator[str],
        *,
        sparse: Literal[True],
        **how: Unpack[SparseOptions],
    ) -> Iterator[SparseEmbedding]: ...
    @overload
    def embed(
        self,
        texts: str | Collection[str],
        *,
        sparse: Literal[True],
        **how: Unpack[SparseOptions],
    ) -> list[SparseEmbedding]: ...
    @overload
    def embed(
        self,
        texts: Iterator[str],
        *,
        tokens: Literal[True],
        **how: Unpack[TokensOptions],
    ) -> Iterator[FloatArray]: ...
    @overload
    def embed(
        self,
        texts: str | Collection[str],
        *,
        tokens: Literal[True],
        **how: Unpack[TokensOptions],
    ) -> list[FloatArray]: ...
    def embed(
        self,
        texts: str | Iterable[str],
        *,
        sparse: bool = False,
        tokens: bool = False,
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
    ) -> Any:
        """Compute one vector per text: (B, D), for a single text (1, D); an iterator gives an iterator of (D,).

        With `sparse` or `tokens` a text has another kind of embedding, and a list or an iterator of these comes out.
        Whatever is None is as the checkpoint's sentence-transformers files say.

        Args:
            texts: A text, a list of texts, or an iterator of texts.
            sparse: Give each text's weighted terms, a `SparseEmbedding`, by the checkpoint's masked language model
                (SPLADE).
            tokens: Give each text's token vectors, (n, D): of a ColBERT as its projection and skip list say, for
                `bothways.maxsim`; of any other checkpoint the network's own, special tokens included.
            pooling: One or more of `bothways.embed_spec.POOLINGS`; several are concatenated in that order.
            normalize: Scale every vector to length 1.
            prompt: Put in front of every text; wins over `prompt_name`.
            prompt_name: The name of one of the checkpoint's prompts. A ColBERT takes texts as queries where it is
                "query", and as documents otherwise.
            dimensions: Keep the first so many values. Where vectors are normalized, the scaling comes after the
                cut, so what is kept has length 1.
            precision: "float32", "int8", "uint8", "binary" or "ubinary"; see `bothways.precision.quantize`.
            ranges: (2, D), the smallest and largest values for "int8" and "uint8"; without it those of the texts.
            truncation: True cuts longer texts, counted in `progress` or else logged, and "left" their beginning;
                False makes them an InputError; "window" embeds a long text piece by piece and averages the pooled
                pieces, weighted by tokens.
            max_length: Tokens of a sequence, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        how = {
            "pooling": pooling,
            "normalize": normalize,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "dimensions": dimensions,
            "precision": precision,
            "ranges": ranges,
            "truncation": truncation,
            "max_length": max_length,
        }
        if isinstance(texts, Iterator):
            plan = self._plan_embed(sparse=sparse, tokens=tokens, **how)
            return self._carry_out(plan, inputs.strings(texts), progress)
        if self._embedding_kind(sparse, tokens, how) == "dense":
            return self._embed_list(inputs.string_list(texts), self._embed_options(how), progress)
        plan = self._plan_embed(sparse=sparse, tokens=tokens, **how)
        return list(self._carry_out(plan, inputs.string_list(texts), progress))

    def _plan_embed(self, *, sparse: bool, tokens: bool, **how: Any) -> Plan[str, Any]:
        kind = self._embedding_kind(sparse, tokens, how)
        if kind == "dense":
            return self._embedder.plan(self._embed_options(how))
        prompt, prompt_name = how["prompt"], how["prompt_name"]
        limit = inputs.whole_number(how["max_length"], "max_length") or self._max_length
        cut = inputs.read_cut(how["truncation"])
        if kind == "sparse":
            limits = self._limits(cut, limit or token_limit(self.spec, self.tokenizer))
            scorer = self._scorer("fill_mask", "embed(sparse=True)")
            before = choose_prompt(self.spec.embed, prompt, prompt_name)
            return prompted(sparse_embeddings(scorer, limits, self.spec.embed.splade or SpladeSpec()), before)
        limits = self._limits(cut, limit or vectors_limit(self.spec, self.tokenizer, prompt_name))
        side = self._token_embedder.side(prompt, prompt_name)
        scale = how["normalize"]
        scale = None if scale is None else inputs.flag(scale, "normalize", "True, False or None")
        return self._token_embedder.plan(side, limits, scale)

    def _embedding_kind(self, sparse: bool, tokens: bool, how: Mapping[str, Any]) -> str:
        names = ("pooling", "normalize", "dimensions", "precision", "ranges", "truncation")
        return embedding_kind(
            self.spec.embed,
            sparse=inputs.flag(sparse, "sparse"),
            tokens=inputs.flag(tokens, "tokens"),
            given={name: how[name] for name in names},
        )

    def _embed_options(self, how: Mapping[str, Any]) -> EmbedOptions:
        limit = inputs.whole_number(how["max_length"], "max_length") or self._max_length
        return self._embedder.options(**{**how, "max_length": limit})

    def _embed_list(self, texts: list[str], options: EmbedOptions, progress: Progress | None) -> npt.NDArray[Any]:
        """Embed a list: (B, D), quantized together, as the ranges may be those of all its embeddings."""
        plan = self._embedder.plan(options, quantized=False)
        embeddings = np.empty((len(texts), options.size), np.float32)  # (B, D)
        for n, embedding in enumerate(self._carry_out(plan, texts, progress)):
            embeddings[n] = embedding
        return quantize(embeddings, options.precision, options.ranges)

    def similarity(self, a: Any, b: Any) -> FloatArray:
        """Compare texts or embeddings, each of a with each of b: (len a, len b), larger is more alike.

        The measure is the checkpoint's (`spec.embed.similarity`); distances are negative. Sparse embeddings are
        compared too, and token vectors: texts of a are queries then, those of b documents.
        """
        embed = self.spec.embed
        a, b = (list(values) if isinstance(values, Iterator) else values for values in (a, b))
        if embed.late is not None:

            def embed_tokens(texts: str | list[str], side: str) -> list[FloatArray]:
                return self.embed(texts, tokens=True, prompt_name=side)

            return late_similarities(a, b, embed_tokens, embed.similarity, self.engine.threads)
        if embed.splade is not None or has_sparse(a) or has_sparse(b):

            def embed_sparse(texts: str | list[str]) -> list[SparseEmbedding]:
                return self.embed(texts, sparse=True)

            sides = sparse_list(a, "a", embed_sparse), sparse_list(b, "b", embed_sparse)
            return sparse_similarities(*sides, embed.similarity if embed.splade else "dot")
        first, second = (vectors(values, name, self.embed) for values, name in ((a, "a"), (b, "b")))
        return similarities(first, second, embed.similarity, self.engine.threads)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.checkpoint, self.tokenizer, self.engine)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.checkpoint, self.tokenizer, self.engine)

    @cached_property
    def _token_embedder(self) -> TokenEmbedder:
        return TokenEmbedder(self.checkpoint, self.tokenizer, self.engine)


def _quiet(texts: int, tokens: int, truncated: int) -> None:
    """Leave unsaid that texts were cut, as `Encoded.truncated` says it."""
