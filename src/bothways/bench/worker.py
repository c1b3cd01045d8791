"""One candidate in a process of its own: `python -m bothways.bench.worker` with a JSON line that says what to load.

Every further line on standard input is a request, answered with one line of JSON:
{"texts": FILE, "vectors": FILE} embeds a JSON list of texts once; {"alone": FILE} embeds its texts one by one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.machine import peak_mib

__all__ = ["main"]

Embed = Callable[[list[str]], FloatArray]


def load(module: str, model: str, dtype: str, threads: int) -> Embed:
    """Load Bothways, or a rival of rivals/, and give its function from texts to embeddings."""
    from bothways import Encoder

    if module == "bothways":
        return Encoder.from_pretrained(model, dtype=dtype, threads=threads).embed
    from bothways.bench.rivals.recipe import Recipe

    recipe = Recipe.read(model, dtype=dtype, threads=threads)
    embed: Embed = importlib.import_module(f"bothways.bench.rivals.{module}").load(recipe)
    return embed


def main() -> None:
    """Load what the first line says, then answer requests until standard input ends."""
    # The answers go out on the real standard output; what libraries print goes to standard error.
    answers, sys.stdout = sys.stdout, sys.stderr
    wanted = json.loads(sys.stdin.readline())
    begin = time.perf_counter()
    embed = load(**wanted)
    _answer(answers, seconds=time.perf_counter() - begin)
    for line in sys.stdin:
        request = json.loads(line)
        if "alone" in request:
            texts = json.loads(Path(request["alone"]).read_text())
            _answer(answers, seconds=[_timed(embed, [text])[0] for text in texts])
        else:
            texts = json.loads(Path(request["texts"]).read_text())
            seconds, vectors = _timed(embed, texts)
            np.save(request["vectors"], vectors)
            _answer(answers, seconds=seconds)


def _timed(embed: Embed, texts: list[str]) -> tuple[float, FloatArray]:
    begin = time.perf_counter()
    vectors = embed(texts)
    return time.perf_counter() - begin, vectors


def _answer(answers: TextIO, **values: Any) -> None:
    print(json.dumps({**values, "peak_mib": peak_mib()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
