"""`CrossEncoder` with the arguments, results and errors of sentence-transformers 6.2, over `Encoder`.

B pairs, C scores of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.compat.model import MISSING, Loading, Model, check_pool, positional, positive
from bothways.compat.progress import Watch
from bothways.compat.tensors import read_array, to_tensor
from bothways.heads import activation, softmax
from bothways.modules import DENSE_ACTIVATIONS
from bothways.tasks.inputs import shown
from bothways.tasks.scores import Limits
from bothways.tokens import Text

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CrossEncoder"]

#: A torch activation, or the name of one, such as "sigmoid".
_Activation: TypeAlias = Callable[[Any], Any] | str

_NAMES = tuple(DENSE_ACTIVATIONS.values())


class CrossEncoder(Model):
    """Pairs of texts to scores, called as in sentence-transformers. docs/compat.md lists the differences.

    Attributes:
        encoder: What computes.
        activation_fn: What scores go through: a name, such as "sigmoid" or "identity", or a function of tensors.
        num_labels: C.
    """

    _organization = "cross-encoder"

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: _Activation | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        """Load a model: a folder, a hub name, "pkg:package/folder", or an `Encoder`.

        Raises:
            TypeError: There is no such argument.
            ValueError: An argument has no meaning to Bothways; the message names it.
            TaskError: The checkpoint has no classification head. sentence-transformers would make a random one.
        """
        super().__init__(model_name_or_path, **loading)
        self._scorer = self.encoder._scorer("classify")
        self.num_labels = len(self._scorer.spec.labels)
        if num_labels not in (None, self.num_labels):
            raise ValueError(f"num_labels is {num_labels}, but the checkpoint's head gives {self.num_labels}")
        if max_length is not None:
            self.max_seq_length = max_length
        self.activation_fn = self.encoder.spec.rank_activation if activation_fn is None else activation_fn

    @property
    def max_length(self) -> int:
        """The same as `max_seq_length`, by its old name."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def predict(
        self,
        inputs: Any = MISSING,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: _Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score a pair, a scalar or (C,), or a list of pairs, (B,) or (B, C): without C where it is 1.

        Args:
            inputs: A pair of texts or a list of pairs; older code names it `sentences`.
            prompt_name: The name of one of `prompts`, put in front of every first text.
            prompt: Put in front of every first text; wins over `prompt_name`.
            batch_size: Has no effect: batches are formed by tokens, and results do not depend on them.
            show_progress_bar: Whether there is a bar; None leaves it to the level of the log.
            activation_fn: What scores go through, for this call; older code names it `activation_fct`.
            apply_softmax: Make several scores of a pair add up to 1.
            convert_to_numpy: False gives a list of torch tensors.
            convert_to_tensor: Give one torch tensor.
            device: "cpu", or a list of it.
            pool: From `start_multi_process_pool`; has no effect, as all threads work on every call.
            chunk_size: Has no effect.
            kwargs: `num_workers`, which has no effect, and no other.

        Raises:
            ValueError: An option is unknown or has a value that it can't have.
        """
        inputs = positional(inputs, kwargs, "CrossEncoder.predict")
        activation_fn = kwargs.pop("activation_fct", activation_fn)
        kwargs.pop("num_workers", None)
        if kwargs:
            raise ValueError(f"CrossEncoder.predict() has no arguments {sorted(kwargs)}")
        positive(batch_size, "batch_size")
        check_pool(device, pool, chunk_size)
        single, pairs = _read_pairs(inputs)
        scores: Any = self._logits(pairs, self._prompt(prompt, prompt_name), show_progress_bar)  # (B, C)
        scores = _activated(scores, self.activation_fn if activation_fn is None else activation_fn)
        if self.num_labels == 1 and scores.ndim > 1:
            scores = scores[:, 0]
        if apply_softmax and scores.ndim > 1:
            scores = softmax(scores).astype(np.float32)
        if not pairs:
            scores = np.array([], np.float32 if convert_to_tensor else np.float64)  # as there
        if convert_to_tensor or not convert_to_numpy:
            scores = to_tensor(scores, "convert_to_tensor=True" if convert_to_tensor else "convert_to_numpy=False")
            scores = scores if convert_to_tensor else list(scores)
        return scores[0] if single else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: _Activation | None = None,
        device: Any = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Order documents by how well they answer a query, the best first; equal ones keep their order.

        Args:
            query: What is asked.
            documents: A list of texts.
            top_k: How many to return; None returns all.
            return_documents: Put the texts into the results.
            prompt_name: As in `predict`, and so are the arguments behind it.
            prompt: Put in front of the query.
            batch_size: Has no effect.
            show_progress_bar: Whether there is a bar.
            activation_fn: What scores go through, for this call.
            device: "cpu", or a list of it.
            pool: Has no effect.
            chunk_size: Has no effect.
            kwargs: `activation_fct`, and what has no effect: `num_workers`, `apply_softmax`, `convert_to_numpy` and
                `convert_to_tensor`, as the scores of one label are Python's numbers in any case.

        Returns:
            Dicts of "corpus_id", "score" and, if asked for, "text".

        Raises:
            ValueError: The checkpoint gives more than one score for a pair.
        """
        if self.num_labels != 1:
            raise ValueError(
                "CrossEncoder.rank() only works for models with num_labels=1. "
                "Consider using CrossEncoder.predict() with input pairs instead."
            )
        for name in ("apply_softmax", "convert_to_numpy", "convert_to_tensor"):
            kwargs.pop(name, None)
        documents = list(documents)
        scores = self.predict(
            [(query, document) for document in documents],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )
        results = [
            {"corpus_id": n, "score": score, **({"text": documents[n]} if return_documents else {})}
            for n, score in enumerate(scores.tolist())
        ]
        return sorted(results, key=lambda result: -result["score"])[:top_k]

    def _logits(self, pairs: list[Text], prompt: str, show: bool | None) -> FloatArray:
        texts = (prompt + text if isinstance(text, str) else (prompt + text[0], text[1]) for text in pairs)
        logits = np.empty((len(pairs), self.num_labels), np.float32)  # (B, C)
        plan = self._scorer.texts(Limits(self._reach))
        with Watch(len(pairs), self._reach, show=show) as watch:
            for n, scores in enumerate(self.encoder._carry_out(plan, texts, watch)):
                logits[n] = scores
        return logits


def _activated(scores: FloatArray, function: _Activation) -> npt.NDArray[Any]:
    if isinstance(function, str):
        if function not in _NAMES:
            raise ValueError(f"activation_fn is {function!r}; use {', '.join(_NAMES)}, or a function of torch tensors")
        apply = activation(function)
        return np.stack([apply(row) for row in scores]) if len(scores) else scores
    return read_array(function(to_tensor(scores, "a function as activation_fn")))


def _read_pairs(inputs: Any) -> tuple[bool, list[Text]]:
    """Whether it was one pair alone, and the pairs; a text alone stands for itself."""
    listed = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
    if isinstance(listed, str):
        return True, [listed]
    if not isinstance(listed, list | tuple):
        raise ValueError(f"inputs is {shown(inputs)}; pass a pair of texts, or a list of pairs")
    single = len(listed) > 0 and not isinstance(listed[0], list | tuple)
    return single, [_read_pair(pair) for pair in ([listed] if single else listed)]


def _read_pair(pair: Any) -> Text:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise ValueError(f"{shown(pair)} is no pair of texts")
    return pair[0], pair[1]
