"""A stand-in for `Encoder` whose embeddings can be worked out by hand, for the tests of the command line.

A text's embedding is (its number of characters, its number of letters a, 1); its tokens are its words.
Run as a program, this file is the command line with the stand-in in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from bothways.errors import InputError
from bothways.precision import quantize

MAX_TOKENS = 4
_BATCH = 2


def vector(text: str) -> list[float]:
    """The embedding of a text, worked out by hand."""
    return [float(len(text)), float(text.count("a")), 1.0]


class LetterModel:
    """Takes the place of `Encoder`; `loaded_with` keeps what it was loaded with."""

    def __init__(self, name: str, **options: Any) -> None:
        """Keep the options for tests to look at."""
        self.loaded_with = {"name": name, **options}
        self.checkpoint = SimpleNamespace(surplus=("cls.bias", "cls.weight"))
        self.spec = SimpleNamespace(
            max_tokens=10, embed=SimpleNamespace(similarity="dot", max_tokens=MAX_TOKENS, splade=None, late=None)
        )
        self.tokenizer = SimpleNamespace(max_tokens=10)
        self.embedded_with: dict[str, Any] = {}
        LetterModel.last = self

    last: LetterModel

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> LetterModel:
        """Stand in for `Encoder.from_pretrained`."""
        return cls(name, **options)

    def embed(self, texts: Any, *, precision: str = "float32", truncation: Any = True, **how: Any) -> Any:
        """Embed a list at once or an iterator as a stream, two texts a batch."""
        progress = how.pop("progress", None)
        self.embedded_with = {"precision": precision, "truncation": truncation, **how}
        if isinstance(texts, list):
            rows = list(self._stream(iter(texts), "float32", truncation, progress))
            return quantize(np.array(rows, np.float32).reshape(-1, 3), precision)
        return self._stream(texts, precision, truncation, progress)

    def _stream(self, texts: Iterator[str], precision: str, truncation: Any, progress: Any) -> Iterator[Any]:
        done = tokens = cut = 0
        while batch := [text for _, text in zip(range(_BATCH), texts, strict=False)]:
            lengths = [len(text.split()) for text in batch]
            if not truncation and max(lengths) > MAX_TOKENS:
                raise InputError(f"a text has {max(lengths)} tokens, the model takes {MAX_TOKENS}")
            done += len(batch)
            tokens += sum(min(length, MAX_TOKENS) for length in lengths)
            cut += sum(length > MAX_TOKENS for length in lengths) if truncation != "window" else 0
            if progress is not None:
                progress(done, tokens, cut)
            yield from quantize(np.array([vector(text) for text in batch], np.float32), precision)

    def similarity(self, a: Any, b: Any) -> Any:
        """Dot products, (len a, len b)."""
        return a @ b.T


if __name__ == "__main__":
    from bothways.cli import main
    from bothways.encoder import Encoder

    Encoder.from_pretrained = LetterModel.from_pretrained  # type: ignore[method-assign, assignment]
    main(prog_name="bothways")
