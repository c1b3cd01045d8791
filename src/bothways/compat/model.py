"""What `SentenceTransformer` and `CrossEncoder` have in common: loading, prompts, lengths, and processes' pools."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from bothways.compat.loading import load, read_device, refuse, take_dtype
from bothways.encoder import Encoder
from bothways.tasks.inputs import shown
from bothways.tokens import Sequence, Text

__all__ = ["MISSING", "Loading", "Model", "check_pool", "positional", "positive"]

#: Stands for an argument that was not given, which may come by an older name.
MISSING: Any = object()

_Self = TypeVar("_Self", bound="Model")


class Loading(TypedDict, total=False):
    """How any model is loaded: the arguments of sentence-transformers' classes."""

    modules: Any
    device: Any
    prompts: Mapping[str, str] | None
    default_prompt_name: str | None
    cache_folder: str | None
    trust_remote_code: bool
    revision: str | None
    local_files_only: bool
    token: bool | str | None
    model_kwargs: Mapping[str, Any] | None
    processor_kwargs: Mapping[str, Any] | None
    tokenizer_kwargs: Mapping[str, Any] | None
    config_kwargs: Mapping[str, Any] | None
    model_card_data: Any
    backend: str


class Model:
    """A loaded model behind one of sentence-transformers' names.

    Attributes:
        encoder: What computes.
        prompts: Texts that are put in front of others, by their names; may be changed.
        default_prompt_name: The name of the one that is used where a call names none.
    """

    _organization = ""
    _usual_prompts: Mapping[str, str] = {}

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        modules: Any = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
    ) -> None:
        refuse("Bothways never runs a checkpoint's own code", trust_remote_code=trust_remote_code)
        refuse("Bothways loads checkpoints, it does not put torch modules together", modules=modules)
        refuse("Bothways does not write model cards", model_card_data=model_card_data)
        refuse("Bothways takes a checkpoint's config.json as it is", config_kwargs=config_kwargs or None)
        if backend != "torch":
            raise ValueError(f"backend is {backend!r}; Bothways has its own, so leave backend out")
        read_device(device)
        self.encoder: Encoder = load(
            model_name_or_path,
            organization=self._organization,
            revision=revision,
            cache_folder=cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
            token=token,
            local_files_only=local_files_only,
            dtype=take_dtype(model_kwargs),
        )
        embed = self.encoder.spec.embed
        # What no file holds is there for embeddings alone: a spec always has the names "query" and "document".
        saved = {name: text for name, text in embed.prompts.items() if text or name not in ("query", "document")}
        self.prompts: dict[str, str] = {**self._usual_prompts, **saved, **(prompts or {})}
        self.default_prompt_name = embed.default_prompt if default_prompt_name is None else default_prompt_name
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise ValueError(
                f"Default prompt name {self.default_prompt_name!r} not found in the configured prompts dictionary "
                f"with keys {list(self.prompts)!r}."
            )
        self._max_seq_length = _read_length(processor_kwargs or tokenizer_kwargs)

    @property
    def device(self) -> str:
        """Where the model computes: "cpu"."""
        return "cpu"

    @property
    def tokenizer(self) -> Any:
        """What turns texts into tokens: Bothways' own (`bothways.tokens.Tokenizer`)."""
        return self.encoder.tokenizer

    @property
    def max_seq_length(self) -> int:
        """The tokens that are read of a text, special ones included; may be set."""
        return self._limit if self._max_seq_length is None else self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self._max_seq_length = positive(value, "max_seq_length")

    def get_max_seq_length(self) -> int:
        """The same as `max_seq_length`."""
        return self.max_seq_length

    def get_backend(self) -> str:
        """The name of what computes: "bothways"."""
        return "bothways"

    def eval(self: _Self) -> _Self:
        """Return the model itself: it never trains."""
        return self

    def to(self: _Self, device: Any) -> _Self:
        """Return the model itself, for the device that it is on; any other is a ValueError."""
        read_device(device)
        return self

    def cpu(self: _Self) -> _Self:
        """Return the model itself."""
        return self

    def preprocess(self, inputs: Any, prompt: str | None = None) -> dict[str, npt.NDArray[np.int64]]:
        """Turn texts or pairs into arrays (B, S) of token ids, padded on the right, where the mask is 0."""
        texts = [_prompted(text, prompt or "") for text in inputs]
        sequences = self.encoder.tokenizer.tokenize(texts, max_length=self._reach)
        return self._features(sequences) if texts else {}

    def tokenize(self, texts: Any) -> dict[str, npt.NDArray[np.int64]]:
        """The same as `preprocess`, by its old name."""
        return self.preprocess(texts)

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> dict[str, Any]:
        """Make what `pool` takes. No process is started, as the model computes with all threads anyway."""
        for device in target_devices or ():
            read_device(device)
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Mapping[str, Any]) -> None:
        """Do nothing: no process was started."""

    @property
    def _limit(self) -> int:
        """The tokens that are read of a text where nobody says otherwise."""
        return self.encoder.max_length or self.encoder.tokenizer.max_tokens

    @property
    def _reach(self) -> int:
        """The tokens that are read of a text: `max_seq_length`, as far as the network can read."""
        return min(self.max_seq_length, self.encoder.spec.max_tokens)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        """Find the text that stands in front of others."""
        if prompt is not None:
            if name is not None:
                logging.getLogger("bothways").warning("prompt and prompt_name were both given; prompt is taken")
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(
                f"Prompt name {name!r} not found in the configured prompts dictionary with keys {list(self.prompts)!r}."
            )
        return self.prompts[name]

    def _features(self, sequences: Iterable[Sequence]) -> dict[str, npt.NDArray[np.int64]]:
        """The tokens of texts as arrays (B, S)."""
        known = list(sequences)
        padding = self.encoder.checkpoint.config.get("pad_token_id")
        shape = len(known), max(map(len, known), default=0)
        ids = np.full(shape, padding if isinstance(padding, int) else 0, np.int64)
        types, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for n, sequence in enumerate(known):
            ids[n, : len(sequence)] = sequence.ids
            types[n, : len(sequence)] = sequence.token_types
            mask[n, : len(sequence)] = 1
        typed = {"token_type_ids": types} if self.encoder.spec.num_token_types > 1 else {}
        return {"input_ids": ids, **typed, "attention_mask": mask}


def positional(inputs: Any, options: dict[str, Any], method: str) -> Any:
    """Take what a call is about, which older code gives as `sentences`."""
    old = options.pop("sentences", MISSING)
    inputs = old if inputs is MISSING else inputs
    if inputs is MISSING:
        raise TypeError(f"{method}() missing 1 required positional argument: 'inputs'")
    return inputs


def positive(value: Any, name: str) -> int:
    """Read a number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {shown(value)}.")
    return int(value)


def check_pool(device: Any, pool: Any, chunk_size: Any) -> None:
    """Check the arguments that share work out: they change nothing, as all threads work on every call."""
    for one in device if isinstance(device, list) else [device]:
        read_device(one)
    if chunk_size is not None:
        positive(chunk_size, "chunk_size")


def _prompted(text: Text, prompt: str) -> Text:
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])


def _read_length(processor_kwargs: Mapping[str, Any] | None) -> int | None:
    given = dict(processor_kwargs or {})
    length = given.pop("model_max_length", None)
    if given:
        raise ValueError(
            f"processor_kwargs holds {', '.join(sorted(given))}; of it, only model_max_length has a meaning to Bothways"
        )
    return None if length is None else positive(length, "model_max_length")
