"""What all pipelines share: one input, a list or a stream, and options given when made or when called."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from bothways.encoder import Encoder
from bothways.tasks.inputs import shown

__all__ = ["Pipeline", "PipelineException", "read_lengths"]


class PipelineException(Exception):
    """An input that a pipeline can't do anything with."""

    def __init__(self, task: str, model: str, reason: str) -> None:
        """Say which pipeline, of which model, and why."""
        super().__init__(reason)
        self.task = task
        self.model = model


class Pipeline(ABC):
    """A task of a loaded model, called as in transformers.

    Attributes:
        task: Its name there.
        model: The `Encoder` that computes.
        tokenizer: What turns texts into tokens.
        device: "cpu".
    """

    task: ClassVar[str]
    device = "cpu"

    def __init__(self, model: Encoder, **options: Any) -> None:
        """Keep the options that hold where a call does not say otherwise."""
        self.model = model
        self.tokenizer = model.tokenizer
        self._options = self._known(options)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Work on one input, a list of them, or a stream, which gives an iterator of results."""
        run = self._runner(options)
        if isinstance(inputs, list | tuple):
            return list(run(iter(inputs)))
        if isinstance(inputs, str | Mapping) or not _is_stream(inputs):
            [result] = run(iter([inputs]))
            return result
        return run(_stream(inputs))

    def _runner(self, options: Mapping[str, Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
        """The pipeline with all its options, those of the call before those that it was made with."""
        together = {**self._options, **self._known(options)}
        return lambda inputs: self._results(inputs, **together)

    @abstractmethod
    def _results(self, inputs: Iterator[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield every input's result; each pipeline's own, whose keyword arguments are the options that it has."""

    def _known(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse options that the pipeline has not; leave out those that say only how fast it is."""
        kept = {name: value for name, value in options.items() if name not in ("batch_size", "num_workers")}
        allowed = [p.name for p in inspect.signature(self._results).parameters.values() if p.kind is p.KEYWORD_ONLY]
        unknown = sorted(set(kept) - set(allowed))
        if unknown:
            named, known = ", ".join(unknown), ", ".join(allowed)
            raise TypeError(f"the {self.task} pipeline has no argument {named}; it has {known}")
        return kept


def read_lengths(
    model: Encoder, truncation: Any = None, max_length: int | None = None, padding: Any = None
) -> tuple[bool, int]:
    """Read the arguments of a tokenizer: whether to cut, and how many tokens to read of a text.

    Texts are cut unless `truncation` is False; `padding` changes nothing, as nothing is ever padded.
    """
    known = {None: True, True: True, "longest_first": True, False: False, "do_not_truncate": False}
    choice = getattr(truncation, "value", truncation)
    if not isinstance(choice, str | bool | None) or choice not in known:
        raise ValueError(f"truncation is {shown(truncation)}; use True, False, 'longest_first' or 'do_not_truncate'")
    limit = model.max_length or model.tokenizer.max_tokens
    if max_length is not None:
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length is {shown(max_length)}; it must be a whole number above zero")
        limit = min(max_length, model.spec.max_tokens)
    return known[choice], limit


def _is_stream(inputs: Any) -> bool:
    if isinstance(inputs, bytes | bytearray):  # which iterate over numbers
        return False
    return isinstance(inputs, Iterable) or (hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"))


def _stream(inputs: Any) -> Iterator[Any]:
    """Read a generator, or a dataset, which may have nothing but its length and items by number."""
    if isinstance(inputs, Iterable):
        return iter(inputs)
    return (inputs[n] for n in range(len(inputs)))
