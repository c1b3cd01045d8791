"""The task `embed`: texts to one vector each, as sentence-transformers computes them from the same files.

Letters: T tokens, B texts or sequences of a batch, H hidden, D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

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
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.prompts import choose_prompt, prompted
from bothways.tokens import Sequence, Tokenizer

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


class Embedder:
    """Embeds texts with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine) -> None:
        """Join the parts; nothing is loaded until a text is embedded."""
        self._spec = checkpoint.spec
        self._folder = checkpoint.folder
        self._tokenizer = tokenizer
        self._engine = engine

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
        )

    def plan(self, options: EmbedOptions, *, quantized: bool = True) -> Plan[str, npt.NDArray[Any]]:
        """Plan to embed texts, each to (D,); not `quantized`, they are left in float32 to who has all of them.

        Raises:
            InputError: The precision takes its ranges from all embeddings, and a plan makes them one by one.
        """
        if quantized and options.precision in ("int8", "uint8") and options.ranges is None:
            raise InputError(
                f"precision {options.precision!r} takes its ranges from all embeddings, which a stream does not "
                "have; pass ranges=(2, D), or a list of texts"
            )

        def finish(texts: list[Computed[str]]) -> list[npt.NDArray[Any]]:
            vectors = self._finished(texts, options)
            return list(quantize(vectors, options.precision, options.ranges) if quantized else vectors)

        return prompted(
            Plan(
                tokenize=lambda texts, first: self._sequences(texts, first, options),
                compute=lambda sequences: self._pooled(sequences, options),
                finish=finish,
                group=("embed", options.poolings, options.skip),
                max_tokens=options.max_tokens,
                advice=_ADVICE,
            ),
            options.prompt,
        )

    def _skip(self, prompt: str, max_tokens: int, truncation: Truncation) -> int:
        """Count the prompt's tokens where the pooling leaves them out: its leading special token, not its last."""
        if self._spec.embed.include_prompt or not prompt:
            return 0
        if isinstance(truncation, str):
            why = "only the first window has them" if truncation == "window" else "they would be cut first"
            raise InputError(
                f'truncation "{truncation}" can\'t be used with this checkpoint and a prompt, whose tokens it leaves '
                f'out of the pooling: {why}; pass prompt="" or truncation=True'
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

    def _sequences(self, texts: list[str], first: int, options: EmbedOptions) -> list[list[Sequence]]:
        if options.truncation == "window":
            numbered = enumerate(texts, first)
            return [self._tokenizer.windows(text, max_length=options.max_tokens, number=n) for n, text in numbered]
        found = self._tokenizer.tokenize(
            texts, max_length=options.max_tokens, truncation=options.truncation, first=first, spans=False
        )
        return [[sequence] for sequence in found]

    def _pooled(self, sequences: list[Sequence], options: EmbedOptions) -> FloatArray:
        """Compute and pool a batch: (B, D)."""
        batch = pack(sequences, self._spec)
        if options.poolings == ("mean",) and not options.skip:
            return self._engine.encode(batch, rows="mean").rows
        if options.poolings == ("cls",) and not options.skip:
            return self._engine.encode(batch, rows="first").rows
        return pool_batch(self._engine.encode(batch).rows, batch.starts, options.poolings, options.skip)

    def _finished(self, texts: list[Computed[str]], options: EmbedOptions) -> FloatArray:
        """Take pooled vectors, all at once, through the dense layers, the cut and the scaling."""
        # As np.stack, which takes four times as long.
        vectors = np.concatenate([_average(text) for text in texts]).reshape(len(texts), -1)  # (B, D)
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
        also = (name == "normalize" and tokens) or (name == "truncation" and value in (True, False, "left"))
        if not usual and not also:
            raise InputError(f"{name}={shown(value)} is for one dense vector a text, not for {kind}=True; leave it out")
    return kind


def token_limit(spec: Spec, tokenizer: Tokenizer) -> int:
    """The tokens that embedding takes of a text, special ones included, where no call says otherwise."""
    # As in sentence-transformers, max_seq_length wins over the tokenizer's own limit, even where it is larger.
    return min(spec.embed.max_tokens or tokenizer.max_tokens, spec.max_tokens)


def _average(text: Computed[str]) -> FloatArray:
    """Average windows' vectors, each (D,), weighted by tokens; a single window stays as it is, bit for bit."""
    rows: list[FloatArray] = text.rows
    if len(rows) == 1:
        return rows[0]
    lengths = [len(window) for window in text.sequences]
    weights = np.array(lengths, np.float64) / max(sum(lengths), 1)
    average: FloatArray = np.add.reduce(np.stack(rows) * weights[:, None], axis=0).astype(np.float32)
    return average
