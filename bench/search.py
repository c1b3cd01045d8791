"""Functions over vectors beside sentence-transformers' own, in alternating rounds: search, near duplicates, groups."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import arguments, save

from bothways import community_detection, paraphrase_mining, semantic_search

CLUSTER = 30  # vectors around each centre, so that there is something to find


def make_vectors(count: int, dimensions: int) -> Any:
    """Vectors around random centres, in float32."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((-(-count // CLUSTER), dimensions), np.float32)
    vectors = np.repeat(centres, CLUSTER, axis=0)[:count]
    return random.permutation(vectors + 0.5 * random.standard_normal(vectors.shape, np.float32))


def tasks(corpus: Any, queries: Any, threads: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each task as Bothways and as sentence-transformers do it; both give indices that can be compared."""
    import torch
    from sentence_transformers import util

    torch.set_num_threads(threads)
    wide, asked = torch.from_numpy(corpus), torch.from_numpy(queries)
    some = make_vectors(len(corpus) // 5, corpus.shape[1])  # what compares all with all
    part = torch.from_numpy(some)

    def search(count: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return (
            lambda: [[r.index for r in row] for row in semantic_search(queries[:count], corpus, threads=threads)],
            lambda: [[r["corpus_id"] for r in row] for row in util.semantic_search(asked[:count], wide)],
        )

    return {
        "search, 1 query": search(1),
        f"search, {len(queries):,} queries": search(len(queries)),
        f"paraphrases of {len(some):,}": (
            lambda: [list(pair[1:]) for pair in paraphrase_mining(some, threads=threads)],
            lambda: [pair[1:] for pair in util.paraphrase_mining_embeddings(part)],
        ),
        f"communities of {len(some):,}": (
            lambda: community_detection(some, threads=threads),
            lambda: util.community_detection(part),
        ),
    }


def agreement(ours: list[Any], theirs: list[Any]) -> float:
    """The share of ours that is among theirs; rounding may change the order of what is nearly equal."""
    expected = set(map(tuple, theirs))
    return sum(tuple(each) in expected for each in ours) / max(1, len(ours), len(theirs))


def seconds(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", type=int, default=100_000, help="vectors of the corpus")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dimensions", type=int, default=384)
    options = parser.parse_args()
    vectors = make_vectors(options.corpus + options.queries, options.dimensions)
    rows: dict[str, Any] = {}
    todo = tasks(vectors[options.queries :], vectors[: options.queries], options.threads)
    for name, (ours, theirs) in todo.items():
        same = agreement(ours(), theirs())  # also warms both up
        if same < 0.98:
            sys.exit(f"error: {name}: only {same:.1%} of the results agree")
        times = [(seconds(ours), seconds(theirs)) for _ in range(options.rounds)]
        own, other = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        rows[name] = {"seconds": own, "sentence_transformers_seconds": other, "ratio": ratio, "agreement": same}
        print(f"{name:28} {own:8.3f} s   sentence-transformers {other:8.3f} s   ratio {ratio:5.2f}   equal {same:.2%}")
    sizes = {"corpus": options.corpus, "queries": options.queries, "dimensions": options.dimensions}
    save("search", {**sizes, "rounds": options.rounds, "rows": rows}, options)


if __name__ == "__main__":
    main()
