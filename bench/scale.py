"""Cost against size: 1, 10 and 100 thousand texts streamed through one Encoder; tokens/s and memory must not change."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from common import MODEL, arguments, read_workload, save

from bothways import Encoder
from bothways.bench.machine import peak_mib

SIZES = (1_000, 10_000, 100_000)


def stream(texts: list[str], count: int) -> Iterator[str]:
    """Repeat a workload up to a number of texts, without holding them."""
    return itertools.islice(itertools.cycle(texts), count)


def resident_mib() -> float:
    """This process's memory at the moment."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(model: Encoder, texts: list[str], size: int) -> dict[str, float]:
    """Stream `size` texts through the model."""
    tokens = rows = 0

    def count(done: int, computed: int, cut: int) -> None:
        nonlocal tokens
        tokens = computed

    begin = time.perf_counter()
    for _ in model.embed(stream(texts, size), progress=count):
        rows += 1
    seconds = time.perf_counter() - begin
    return {
        "texts": rows,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "thousand_tokens_per_second": round(tokens / seconds / 1000, 2),
        "resident_mib": round(resident_mib(), 1),
        "peak_mib": round(peak_mib() or 0.0, 1),
    }


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    model = Encoder.from_pretrained(MODEL, threads=options.threads)
    texts = read_workload(options.data, "short")
    model.embed(texts[:500])
    figures = {}
    for size in SIZES:
        figures[str(size)] = measure(model, texts, size)
        print(size, figures[str(size)])
    save("scale", {"threads": options.threads, "level": model.engine.level, "sizes": figures}, options)


if __name__ == "__main__":
    main()
