"""What comes out of a measurement, as plain data."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from bothways import _native
from bothways.bench.machine import operations
from bothways.bench.measure import Figures, ratios
from bothways.encoder import Encoder
from bothways.tasks.embed import token_limit

__all__ = ["figures", "single_texts"]

_LENGTHS = (8, 16, 32, 128, 512)  # tokens of single texts
_SINGLE_TEXTS = 100  # at most, at each length
_PEAK_SECONDS = 0.5


def single_texts(encoder: Encoder, texts: list[str], *, count: int | None = None) -> dict[int, list[str]]:
    """Texts of about so many tokens each, made by joining and cutting the ones given.

    Args:
        encoder: The checkpoint, for its tokenizer and its limit.
        texts: What they are made of.
        count: How many of each length; fewer of the longer ones when None.
    """
    limit = token_limit(encoder.spec, encoder.tokenizer)
    words = " ".join(texts[:500]).split() or ["a"]
    singles = {}
    for length in _LENGTHS:
        if length > limit:
            break
        size = _words_for(encoder, words, length)
        starts = [7 * i % max(1, len(words) - size) for i in range(count or min(_SINGLE_TEXTS, 6400 // length))]
        enough = words * (2 + size // len(words))
        singles[length] = [" ".join(enough[start : start + size]) for start in starts]
    return singles


def _words_for(encoder: Encoder, words: list[str], tokens: int) -> int:
    """How many of these words make about so many tokens."""
    sample = " ".join(words[:200])
    sequence = encoder.tokenizer.tokenize([sample], max_length=encoder.tokenizer.max_tokens)[0]
    each = max(1, len(sequence) - 2) / len(sample.split())  # without the special tokens around
    return max(1, round((tokens - 2) / each))


def figures(encoder: Encoder, texts: list[str], results: list[Figures]) -> dict[str, Any]:
    """Every candidate's figures and the ratios between them, ready for JSON.

    Args:
        encoder: The checkpoint, for its tokenizer, sizes and threads.
        texts: What every candidate embedded in each round.
        results: What was measured.
    """
    limit = token_limit(encoder.spec, encoder.tokenizer)
    lengths = [len(sequence) for sequence in encoder.tokenizer.tokenize(texts, max_length=limit)]
    work = operations(encoder.spec, lengths)
    return {
        "threads": encoder.engine.threads,
        "texts": len(texts),
        "tokens": sum(lengths),
        "candidates": {
            found.candidate.name: _row(found, len(texts), sum(lengths)) | _share(found, work, encoder.engine.threads)
            for found in results
        },
        "ratios": {name: round(value, 3) for name, value in ratios(results).items()},
    }


def _row(found: Figures, texts: int, tokens: int) -> dict[str, Any]:
    seconds = median(found.seconds)
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "texts_per_second": round(texts / seconds, 1),
        "seconds": [round(second, 5) for second in found.seconds],
        "smallest_cosine": round(found.cosine, 6),
        "load_seconds": round(found.load_seconds, 3),
        "peak_mib": found.peak_mib and round(found.peak_mib),
        "latency_ms": {tokens: _percentiles(single) for tokens, single in found.latency.items()},
    }


def _share(found: Figures, work: float, threads: int) -> dict[str, float]:
    """What one of ours reached of the most that its arithmetic can do on this machine."""
    if not found.candidate.is_ours:
        return {}
    _, level, dtype = found.candidate.name.split()
    peak = _native.measure_peak(level, dtype, threads, _PEAK_SECONDS)
    return {
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(work / median(found.seconds) / peak, 4),
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{p}": round(1000 * float(np.percentile(seconds, p)), 3) for p in (50, 99)}
