"""`SentenceTransformer` with the arguments, results and errors of sentence-transformers 6.2, over `Encoder`.

B texts, n tokens of one, D values of an embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bothways.compat import util
from bothways.compat.model import MISSING, Loading, Model, check_pool, positional, positive
from bothways.compat.progress import Watch
from bothways.compat.tensors import to_tensor
from bothways.precision import PRECISIONS
from bothways.tasks.embed import token_limit
from bothways.tasks.inputs import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SentenceTransformer"]

_Array = npt.NDArray[Any]

_OUTPUTS = ("sentence_embedding", "token_embeddings", None)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class SentenceTransformer(Model):
    """Texts to embeddings, called as in sentence-transformers. docs/compat.md lists the differences.

    Attributes:
        encoder: What computes.
        prompts: Texts that are put in front of others, by their names; may be changed.
        default_prompt_name: The name of the one that is used where a call names none.
        truncate_dim: The values of a vector that are kept where a call does not say; None keeps all.
    """

    _organization = "sentence-transformers"
    _usual_prompts = {"query": "", "document": ""}

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        similarity_fn_name: str | util.SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        """Load a model: a folder, a hub name, "pkg:package/folder", or an `Encoder`.

        Raises:
            TypeError: There is no such argument.
            ValueError: An argument has no meaning to Bothways; the message names it.
        """
        super().__init__(model_name_or_path, **loading)
        embed = self.encoder.spec.embed
        self.truncate_dim = embed.dimensions if truncate_dim is None else truncate_dim
        self.similarity_fn_name = embed.similarity if similarity_fn_name is None else similarity_fn_name

    def encode(
        self,
        inputs: Any = MISSING,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed a text, (D,), or a list of texts, (B, D).

        Args:
            inputs: A text or a list of texts; older code names it `sentences`.
            prompt_name: The name of one of `prompts`, put in front of every text.
            prompt: Put in front of every text; wins over `prompt_name`.
            batch_size: Has no effect: batches are formed by tokens, and results do not depend on them.
            show_progress_bar: Whether there is a bar; None leaves it to the level of the log.
            output_value: "sentence_embedding"; "token_embeddings" for (n, H) of every text; None for a dict of
                everything computed for every text.
            precision: "float32", "int8", "uint8", "binary" or "ubinary", over all of `inputs`.
            convert_to_numpy: False gives a list of torch tensors.
            convert_to_tensor: Give one torch tensor, or tensors where `output_value` is not an embedding.
            device: "cpu", or a list of it.
            normalize_embeddings: Scale every vector to length 1, after the cut to `truncate_dim`.
            truncate_dim: Keep the first so many values of every vector; None takes the model's own.
            pool: From `start_multi_process_pool`; has no effect, as all threads work on every call.
            chunk_size: Has no effect.
            kwargs: `task`, which has no effect without a Router as in sentence-transformers, and no other.

        Raises:
            ValueError: An option is unknown or has a value that it can't have.
        """
        inputs = positional(inputs, kwargs, "SentenceTransformer.encode")
        positive(batch_size, "batch_size")
        check_pool(device, pool, chunk_size)
        if unknown := set(kwargs) - {"task"}:
            raise ValueError(
                "SentenceTransformer.encode() has been called with additional keyword arguments that this model does "
                f"not use: {sorted(unknown)}."
            )
        precision = precision or "float32"
        if precision not in PRECISIONS:
            raise ValueError(f"Precision {precision!r} is not supported, must be one of {', '.join(PRECISIONS)}")
        if output_value not in _OUTPUTS:
            raise ValueError(
                f"output_value is {shown(output_value)}; use 'sentence_embedding', 'token_embeddings', None"
            )
        single, texts = _read_texts(inputs)
        prefix = self._prompt(prompt, prompt_name)
        size = self.truncate_dim if truncate_dim is None else truncate_dim
        asked = "convert_to_tensor=True" if convert_to_tensor else "convert_to_numpy=False"

        results: Any
        if output_value == "sentence_embedding":
            results = self._embed(texts, prefix, size, show=show_progress_bar)
            results = util.normalize_embeddings(results) if normalize_embeddings else results
            if len(texts) and precision != "float32":
                results = util.quantize_embeddings(results[0] if single else results, precision)
                results = results[None] if single else results
            if not texts:
                results = np.array([], np.float32 if convert_to_tensor else np.float64)  # as there
            if convert_to_tensor or not convert_to_numpy:
                results = to_tensor(results, asked)
                results = results if convert_to_tensor else list(results)
        else:
            if precision != "float32":
                raise ValueError(f"precision {precision!r} is for sentence embeddings; leave it out for {output_value}")
            results = self._tokens(texts, prefix) if output_value else self._everything(texts, prefix, size)
            if convert_to_tensor or not convert_to_numpy:
                results = [_tensors(result, asked) for result in results]
        return results[0] if single else results

    def encode_query(
        self,
        inputs: Any = MISSING,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Embed queries: `encode` with the prompt "query", unless another is given."""
        inputs = positional(inputs, kwargs, "SentenceTransformer.encode_query")
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, *args, **kwargs)

    def encode_document(
        self,
        inputs: Any = MISSING,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Embed documents: `encode` with the first prompt there is of "document", "passage" and "corpus"."""
        inputs = positional(inputs, kwargs, "SentenceTransformer.encode_document")
        if prompt_name is None and prompt is None:
            prompt_name = next((name for name in _DOCUMENT_PROMPTS if name in self.prompts), None)
        return self.encode(inputs, prompt_name, prompt, *args, **kwargs)

    def encode_multi_process(
        self,
        sentences: Any,
        pool: Mapping[str, Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        **options: Any,
    ) -> Any:
        """The same as `encode`; `pool` has no effect, as all threads work on every call."""
        options |= {"pool": pool, "chunk_size": chunk_size}
        return self.encode(sentences, prompt_name, prompt, batch_size, show_progress_bar, **options)

    @property
    def similarity_fn_name(self) -> str:
        """The measure of `similarity`: "cosine", "dot", "euclidean" or "manhattan"; may be set."""
        return self._measure.value

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | util.SimilarityFunction | None) -> None:
        known = util.SimilarityFunction.possible_values()
        name = value.value if isinstance(value, util.SimilarityFunction) else value or "cosine"
        if name not in known:
            raise ValueError(f"SentenceTransformer only supports similarity_fn_name in {tuple(known)}, got {value!r}.")
        self._measure = util.SimilarityFunction(name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare every vector of one with every vector of the other: (A, B), an array, or a tensor for tensors."""
        return util.SimilarityFunction.to_similarity_fn(self._measure)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare every vector of one with the one of the other beside it: (A,)."""
        return util.SimilarityFunction.to_similarity_pairwise_fn(self._measure)(embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """D, after the cut to `truncate_dim`."""
        return self._size if self.truncate_dim is None else min(self._size, self.truncate_dim)

    def get_sentence_embedding_dimension(self) -> int:
        """The same as `get_embedding_dimension`, by its old name."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Inside, `truncate_dim` is the one given."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Any:
        """The same as `truncate_embeddings`, by its old name."""
        return self.truncate_embeddings(truncate_dim)

    @property
    def _limit(self) -> int:
        return self.encoder.max_length or token_limit(self.encoder.spec, self.encoder.tokenizer)

    @property
    def _size(self) -> int:
        """The values of a vector, before any cut."""
        spec = self.encoder.spec
        dense = spec.embed.dense
        return dense[-1].out_features if dense else spec.hidden_size * len(spec.embed.pooling)

    def _embed(self, texts: list[str], prompt: str, size: int | None, *, show: bool | None = False) -> _Array:
        """(B, D) as the checkpoint's modules make them, cut behind the last of them."""
        advice = "; a larger max_seq_length reads more of them" if self._reach < self.encoder.spec.max_tokens else ""
        with Watch(len(texts), self._reach, show=show, advice=advice) as watch:
            vectors = self.encoder.embed(
                texts, prompt=prompt, dimensions=self._size, max_length=self._reach, progress=watch
            )
        # Encoder.embed scales to length 1 behind the cut, sentence-transformers before it.
        return np.ascontiguousarray(util.truncate_embeddings(vectors, size))

    def _tokens(self, texts: list[str], prompt: str) -> list[_Array]:
        """For every text (n, H)."""
        encoded = self.encoder.encode([prompt + text for text in texts], max_length=self._reach)
        return [text.rows for text in encoded.texts]

    def _everything(self, texts: list[str], prompt: str, size: int | None) -> list[dict[str, Any]]:
        """For every text what sentence-transformers' modules leave, without padding."""
        encoded = self.encoder.encode([prompt + text for text in texts], max_length=self._reach)
        embeddings = self._embed(texts, prompt, size)
        return [
            {
                **{name: values[0] for name, values in self._features([text.sequence]).items()},
                "modality": "text",
                "token_embeddings": text.rows,
                "sentence_embedding": embedding,
            }
            for text, embedding in zip(encoded.texts, embeddings, strict=True)
        ]


def _read_texts(inputs: Any) -> tuple[bool, list[str]]:
    """Whether it was one text alone, and the texts."""
    if isinstance(inputs, str):
        return True, [inputs]
    listed = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
    if isinstance(listed, str | bytes | Mapping) or not hasattr(listed, "__iter__"):
        raise ValueError(f"Unsupported input type: {type(inputs).__name__}. Bothways embeds a str or a list of them")
    texts = list(listed)
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"Unsupported input type: {type(text).__name__}. Text {n} must be a str")
    return False, texts


def _tensors(result: Any, asked: str) -> Any:
    if isinstance(result, dict):
        return {
            name: to_tensor(value, asked) if isinstance(value, np.ndarray) else value for name, value in result.items()
        }
    return to_tensor(result, asked)
