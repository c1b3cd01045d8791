"""One candidate in a process of its own: reads workload files from standard input, answers with seconds and memory."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import MODEL, peak_mib

Embed = Callable[[list[str]], np.ndarray]


def load(name: str, threads: int) -> Embed:
    """Load Bothways, or a rival of rivals/."""
    if name == "bothways":
        from bothways import Encoder

        return Encoder.from_pretrained(MODEL, threads=threads).embed
    from bothways.sources import resolve

    embed: Embed = importlib.import_module(f"rivals.{name}").load(resolve(MODEL).folder, threads=threads)
    return embed


def main() -> None:
    """Answer every line `texts.json vectors.npy` with one line of JSON."""
    # The answers go out on the real standard output; what libraries print goes to standard error.
    answers, sys.stdout = sys.stdout, sys.stderr
    begin = time.perf_counter()
    embed = load(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({"load": time.perf_counter() - begin}), file=answers, flush=True)
    for line in sys.stdin:
        source, target = line.split()
        texts = json.loads(Path(source).read_text())
        begin = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - begin
        np.save(target, vectors)
        print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
