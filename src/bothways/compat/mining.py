"""The functions of `sentence_transformers.util` that search among vectors, by Bothways' own (`bothways.mining`).

Chunk sizes are taken as their callers give them and change nothing: Bothways bounds its memory by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from bothways.compat.tensors import read_array
from bothways.mining import communities, search

__all__ = ["community_detection", "paraphrase_mining", "paraphrase_mining_embeddings", "semantic_search"]

_Measure = Callable[..., Any] | None

_SCORES: dict[str, Literal["cosine", "dot"]] = {"cos_sim": "cosine", "pytorch_cos_sim": "cosine", "dot_score": "dot"}


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: _Measure = None,
) -> list[list[dict[str, int | float]]]:
    """Find each query's `top_k` nearest of a corpus, as dicts of corpus_id and score, the best first."""
    queries, corpus = read_array(query_embeddings), read_array(corpus_embeddings)
    found = search.semantic_search(queries, corpus, top_k=top_k, score=_score(score_function))
    return [[{"corpus_id": hit.index, "score": hit.score} for hit in hits] for hits in found]


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5_000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: _Measure = None,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Embed sentences with a `SentenceTransformer` and find the pairs that are most alike: [score, i, j]."""
    embeddings = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        truncate_dim=truncate_dim,
        prompt_name=prompt_name,
        prompt=prompt,
    )
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5_000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: _Measure = None,
) -> list[list[float | int]]:
    """Find the pairs of embeddings that are most alike, each once, the best first: [score, i, j]."""
    found = search.paraphrase_mining(
        read_array(embeddings), top_k=top_k, max_pairs=max_pairs, score=_score(score_function)
    )
    return [[pair.score, pair.i, pair.j] for pair in found]


def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Group embeddings whose cosine to a central one reaches a threshold: indices, the largest group first."""
    return communities.community_detection(read_array(embeddings), threshold=threshold, min_size=min_community_size)


def _score(function: _Measure) -> Literal["cosine", "dot"]:
    """Which of the two scores a function is, by its name, as sentence-transformers' own may be passed too."""
    if function is None:
        return "cosine"
    name = getattr(function, "__name__", repr(function))
    if name not in _SCORES:
        raise ValueError(f"score_function is {name}; Bothways searches by cos_sim and dot_score only")
    return _SCORES[name]
