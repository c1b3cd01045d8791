"""A loaded checkpoint: its parts, how they are put together, and what every task asks of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NoReturn, TypeVar

from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.engines.base import Engine
from bothways.engines.choose import choose
from bothways.errors import BothwaysError, InputError, OutOfMemory
from bothways.sources import Source, resolve
from bothways.spec import Spec
from bothways.stream import BATCH_TOKENS
from bothways.tasks.available import available_tasks, check_task
from bothways.tasks.inputs import read_cut, whole_number
from bothways.tasks.plan import Plan, carry_out
from bothways.tasks.report import Progress
from bothways.tasks.scores import Limits, Scorer
from bothways.tokens import Cut, Tokenizer

__all__ = ["Loaded"]

_Self = TypeVar("_Self", bound="Loaded")
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Loaded:
    """What `Encoder` is besides its tasks; see there."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        name: str = "",
        revision: str | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Join the parts; `from_pretrained` is the usual way."""
        self.name = name or checkpoint.folder.name
        self.revision = revision
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.engine = engine
        self.tasks = available_tasks(checkpoint.spec)
        self._max_length = whole_number(max_length, "max_length")
        self._batch_tokens = whole_number(batch_tokens, "batch_tokens") or BATCH_TOKENS
        self._scorers: dict[str, Scorer] = {}
        if self._max_length is not None and self._max_length > self.spec.max_tokens:
            raise InputError(
                f"max_length is {max_length}, but the checkpoint's position table has rows for {self.spec.max_tokens} "
                "tokens; give at most so many"
            )

    @classmethod
    def from_pretrained(
        cls: type[_Self],
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        engine: str = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> _Self:
        """Load a checkpoint in the Hugging Face layout, as it is.

        Args:
            model: A folder, a hub name ("org/name"), or "pkg:package/folder" for one inside a Python package.
            revision: The hub name's branch, tag or commit.
            device: "auto" or "cpu".
            dtype: Of the weights and products: "float32", "bfloat16" or "int8".
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
        return cls(
            checkpoint,
            tokenizer,
            chosen,
            name=source.name,
            revision=source.revision,
            max_length=max_length,
            batch_tokens=batch_tokens,
        )

    @property
    def max_length(self) -> int | None:
        """The tokens of a sequence that it was loaded with, where a call does not say otherwise."""
        return self._max_length

    @property
    def spec(self) -> Spec:
        """What the network is, how it embeds and what heads it has."""
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

    def _scorer(self, task: str, spoken: str = "") -> Scorer:
        """What computes a task's head, or a TaskError where the checkpoint has none; loaded once for all tasks."""
        kind = check_task(task, self.spec, spoken)
        if kind not in self._scorers:
            made = Scorer(self.checkpoint, self.tokenizer, self.engine, kind)
            self._scorers.setdefault(kind, made)
        return self._scorers[kind]

    def _limits(self, truncation: Cut, max_length: int | None) -> Limits:
        """A call's choices about long texts, with the model's own filled in."""
        limit = whole_number(max_length, "max_length") or self._max_length or self.tokenizer.max_tokens
        return Limits(limit, read_cut(truncation))

    def _carry_out(self, plan: Plan[_In, _Out], texts: Iterable[_In], progress: Progress | None) -> Iterator[_Out]:
        return carry_out(plan, texts, batch_tokens=self._batch_tokens, progress=progress)


def _too_large(source: Source) -> OutOfMemory:
    size = sum(path.stat().st_size for path in source.folder.rglob("*.safetensors") if path.is_file())
    return OutOfMemory(
        f"{source.name!r} does not fit in memory: its weights take {size / 1e6:.0f} MB on disk and at "
        "least as much again in memory; close other programs, or load a smaller model"
    )
