"""The task `embed`: texts to one vector each, as sentence-transformers computes them from the same files.

Letters: T tokens, B texts or sequences of a batch, H hidden, D values of an embedding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from bothways import stream
from bothways.arrays import FloatArray
from bothways.batch import pack
from bothways.checkpoint import Checkpoint
from bothways.embed_spec import EmbedSpec
from bothways.engines.base import Engine
from bothways.errors import CheckpointError, InputError, TaskError
from bothways.heads import Head, dense
from bothways.pooling import choose_poolings, normalize, pool_batch
from bothways.precision import check_precision, check_ranges, quantize
from bothways.spec import Spec
from bothways.tasks.inputs import Truncation, flag, read_truncation, shown
from bothways.tasks.prompts import choose_prompt, prompted
from bothways.tasks.report import Progress, Report
from bothways.tokens import Sequence, Text, Tokenizer

__all__ = ["EmbedOptions", "Embedder", "embedding_kind", "token_limit"]

_ADVICE = 'truncation="window" to embed all of them, or '


@dataclass(frozen=True)
class EmbedOptions:
    """One call's options, checked and with the checkpoint's own choices filled in.

    Attributes:
        skip: Leading tokens, a prompt's, that the pooling leaves out.
        max_tokens: Tokens of a sequence, special tokens included.
        size: D.
    """

    poolings: tuple[str, ...]
    normalize: bool
    prompt: str
    skip: int
    size: int
    precision: str
    ranges: npt.ArrayLike | None
    truncation: Truncation
    max_tokens: int
    progress: Progress | None


class Embedder:
    """Embeds texts with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, batch_tokens: int) -> None:
        """Join the parts; nothing is loaded until a text is embedded."""
        self._spec = checkpoint.spec
        self._folder = checkpoint.folder
        self._tokenizer = tokenizer
        self._engine = engine
        self._batch_tokens = batch_tokens

    @cached_property
    def _dense(self) -> list[Head]:
        return [dense(self._engine, self._folder, layer) for layer in self._spec.embed.dense]

    def options(
        self,
        *,
        pooling: str | Iterable[str] | None,
        normalize: bool | None,
        prompt: str | None,
        prompt_name: str | None,
        dimensions: int | None,
        precision: str,
        ranges: npt.ArrayLike | None,
        truncation: Truncation,
        max_length: int | None,
        progress: Progress | None,
    ) -> EmbedOptions:
        """Check a call's options and fill in the checkpoint's own choices."""
        embed = self._spec.embed
        check_precision(precision)
        truncation = read_truncation(truncation)
        poolings = embed.pooling if pooling is None else choose_poolings(pooling)
        prefix = choose_prompt(embed, prompt, prompt_name)
        max_tokens = max_length or token_limit(self._spec, self._tokenizer)
        size = self._size(poolings, dimensions)
        return EmbedOptions(
            poolings=poolings,
            normalize=embed.normalize if normalize is None else flag(normalize, "normalize", "True, False or None"),
            prompt=prefix,
            skip=self._skip(prefix, max_tokens, truncation),
            size=size,
            precision=precision,
            ranges=None if ranges is None else check_ranges(ranges, size),
            truncation=truncation,
            max_tokens=max_tokens,
            progress=progress,
        )

    def embed_all(self, texts: list[str], options: EmbedOptions) -> npt.NDArray[Any]:
        """Embed a list of texts: (B, D)."""
        embeddings = np.empty((len(texts), options.size), np.float32)  # (B, D)
        done = 0
        for block in self._blocks(texts, options):
            embeddings[done : done + len(block)] = block
            done += len(block)
        return quantize(embeddings, options.precision, options.ranges)

    def embed_each(self, texts: Iterable[str], options: EmbedOptions) -> Iterator[npt.NDArray[Any]]:
        """Embed a stream of texts, yielding (D,) for each."""
        if options.precision in ("int8", "uint8") and options.ranges is None:
            raise InputError(
                f"precision {options.precision!r} takes its ranges from all embeddings, which a stream does not "
                "have; pass ranges=(2, D), or a list of texts"
            )
        blocks = self._blocks(texts, options)
        return (row for block in blocks for row in quantize(block, options.precision, options.ranges))

    def _skip(self, prompt: str, max_tokens: int, truncation: Truncation) -> int:
        """Count the prompt's tokens where the pooling leaves them out: its leading special token, not its last."""
        if self._spec.embed.include_prompt or not prompt:
            return 0
        if truncation == "window":
            raise InputError(
                'truncation "window" can\'t be used with this checkpoint and a prompt, whose tokens it leaves out of '
                'the pooling: only the first window has them; pass prompt="" or truncation=True'
            )
        sequence = self._tokenizer.tokenize([prompt], max_length=max_tokens, truncation=True)[0]
        if sequence.truncated:
            raise InputError(
                f"the prompt {prompt!r} has {len(sequence) + sequence.truncated} tokens, the limit is {max_tokens}: "
                "nothing of a text would be left; pass a larger max_length or a shorter prompt"
            )
        closed = len(sequence) > 1 and not sequence.offsets[-1].any()
        return len(sequence) - int(closed)

    def _size(self, poolings: tuple[str, ...], dimensions: int | None) -> int:
        """Follow the vector's size through pooling, dense layers and the cut to `dimensions`."""
        embed = self._spec.embed
        size = self._spec.hidden_size * len(poolings)
        for layer in embed.dense:
            if layer.in_features != size:
                names = "+".join(poolings)
                message = f"{layer.folder} takes {layer.in_features} values, but {names} pooling gives {size}"
                if poolings != embed.pooling:
                    raise InputError(f"{message}; leave pooling at the checkpoint's {'+'.join(embed.pooling)}")
                raise CheckpointError(f"{message}; the checkpoint's files contradict each other")
            size = layer.out_features
        if dimensions is None:
            return min(embed.dimensions or size, size)
        whole = isinstance(dimensions, int | np.integer) and not isinstance(dimensions, bool)
        if not whole or not 1 <= dimensions <= size:
            raise InputError(
                f"dimensions is {shown(dimensions)}; the embeddings have {size} values, so pass 1 to {size}"
            )
        return int(dimensions)

    def _blocks(self, texts: Iterable[str], options: EmbedOptions) -> Iterator[FloatArray]:
        """Embed texts in order, a block (some B, D) at a time."""
        pooled = self._pooled_windows if options.truncation == "window" else self._pooled
        report = Report(options.progress, options.max_tokens, _ADVICE)
        for sequences, vectors in pooled(prompted(texts, options.prompt), options):
            block = self._finished(vectors, options)
            report.add(len(block), sum(sequence.truncated > 0 for sequence in sequences), sequences)
            yield block
        report.close()

    def _pooled(self, texts: Iterable[str], options: EmbedOptions) -> Iterator[tuple[list[Sequence], FloatArray]]:
        def tokenize(chunk: list[Text], first: int) -> list[Sequence]:
            truncation = options.truncation is True
            return self._tokenizer.tokenize(
                chunk, max_length=options.max_tokens, truncation=truncation, first=first, spans=False
            )

        return self._run(texts, tokenize, options)

    def _pooled_windows(
        self, texts: Iterable[str], options: EmbedOptions
    ) -> Iterator[tuple[list[Sequence], FloatArray]]:
        """Pool every text's windows, then average them by their numbers of tokens."""
        # How many windows each text has: filled while tokenizing, so always before its windows arrive here.
        counts: deque[int] = deque()

        def tokenize(chunk: list[Text], first: int) -> list[Sequence]:
            texts = cast("list[str]", chunk)
            windows = [
                self._tokenizer.windows(text, max_length=options.max_tokens, number=number)
                for number, text in enumerate(texts, first)
            ]
            counts.extend(map(len, windows))
            return [window for group in windows for window in group]

        lengths: list[int] = []
        rows: list[FloatArray] = []
        for sequences, vectors in self._run(texts, tokenize, options):
            finished: list[FloatArray] = []
            for sequence, row in zip(sequences, vectors, strict=True):
                lengths.append(len(sequence))
                rows.append(row)
                if len(rows) == counts[0]:
                    finished.append(_average(rows, lengths))
                    counts.popleft()
                    lengths, rows = [], []
            yield sequences, np.stack(finished) if finished else vectors[:0]

    def _run(
        self, texts: Iterable[str], tokenize: stream.Tokenize, options: EmbedOptions
    ) -> Iterator[tuple[list[Sequence], FloatArray]]:
        """Compute and pool: for each batch its sequences and their vectors (B, D)."""

        def compute(sequences: list[Sequence]) -> FloatArray:
            batch = pack(sequences, self._spec)
            if options.poolings == ("mean",) and not options.skip:
                return self._engine.encode(batch, rows="mean").rows
            if options.poolings == ("cls",) and not options.skip:
                return self._engine.encode(batch, rows="first").rows
            return pool_batch(self._engine.encode(batch).rows, batch.starts, options.poolings, options.skip)

        return stream.run(texts, tokenize, compute, batch_tokens=self._batch_tokens)

    def _finished(self, vectors: FloatArray, options: EmbedOptions) -> FloatArray:
        """Take pooled vectors through the dense layers, the cut and the scaling."""
        if not len(vectors):
            return np.zeros((0, options.size), np.float32)
        for layer in self._dense:
            vectors = layer(vectors)
        # Contiguous rows, so that the sum inside normalize runs the same way whatever the cut.
        vectors = np.ascontiguousarray(vectors[:, : options.size])
        return normalize(vectors) if options.normalize else vectors


def embedding_kind(
    embed: EmbedSpec, *, sparse: bool, tokens: bool, given: Mapping[str, Any]
) -> Literal["dense", "sparse", "tokens"]:
    """Decide what a call asks for; `given` is the options that one dense vector a text has, by name.

    Raises:
        InputError: The options don't go together.
        TaskError: One dense vector a text is asked of a checkpoint that is not made for it.
    """
    if sparse and tokens:
        raise InputError("sparse=True and tokens=True are two kinds of embedding; ask for one at a time")
    if not sparse and not tokens:
        if given["pooling"] is None and (embed.splade is not None or embed.late is not None):
            own = "sparse" if embed.splade is not None else "tokens"
            raise TaskError(
                f"this checkpoint is not made for one dense vector a text; pass {own}=True, or name a pooling for the "
                "mere network's vectors"
            )
        return "dense"
    kind: Literal["sparse", "tokens"] = "sparse" if sparse else "tokens"
    for name, value in given.items():
        usual = value is None or (name == "precision" and isinstance(value, str) and value == "float32")
        also = (name == "normalize" and tokens) or (name == "truncation" and not isinstance(value, str))
        if not usual and not also:
            raise InputError(f"{name}={shown(value)} is for one dense vector a text, not for {kind}=True; leave it out")
    return kind


def token_limit(spec: Spec, tokenizer: Tokenizer) -> int:
    """The tokens that embedding takes of a text, special ones included, where no call says otherwise."""
    # As in sentence-transformers, max_seq_length wins over the tokenizer's own limit, even where it is larger.
    return min(spec.embed.max_tokens or tokenizer.max_tokens, spec.max_tokens)


def _average(rows: list[FloatArray], lengths: list[int]) -> FloatArray:
    """Average windows' vectors, each (D,), weighted by tokens; a single window stays as it is, bit for bit."""
    if len(rows) == 1:
        return rows[0]
    weights = np.array(lengths, np.float64) / max(sum(lengths), 1)
    average: FloatArray = np.add.reduce(np.stack(rows) * weights[:, None], axis=0).astype(np.float32)
    return average
