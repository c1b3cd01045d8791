"""Cold starts: the import, and the command line from process start to exit, in alternating rounds with a rival."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from common import MODEL, arguments, save

from bothways.spec import DTYPES

RIVAL = (
    "from sentence_transformers import SentenceTransformer as S; from bothways.sources import resolve; "
    f"print(S(str(resolve({MODEL!r}).folder), device='cpu').encode(['hello']).shape)"
)
BOTHWAYS = [sys.executable, "-m", "bothways"]

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
    "python -c 'import bothways'": [sys.executable, "-c", "import bothways"],
    f"bothways embed --model {MODEL} hello": [*BOTHWAYS, "embed", "--model", MODEL, "hello"],
    "sentence-transformers, one text": [sys.executable, "-c", RIVAL],
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(options.rounds + 1):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=os.environ)
            if number:  # the first round warms the file cache
                seconds[name].append(time.perf_counter() - begin)
    figures = {
        name: {"median": round(median(s), 3), "seconds": [round(x, 3) for x in s]} for name, s in seconds.items()
    }
    for name, figure in figures.items():
        print(f"{name:60} {figure['median']:.3f} s")
    docs = options.data / "workloads" / "docs.json"
    peaks = {dtype: round(peak_of_docs(docs, dtype), 1) for dtype in DTYPES}
    save("startup", {"commands": figures, "peak_mib": peaks}, options)


def peak_of_docs(data: Path, dtype: str) -> float:
    """The peak memory of a process that embeds the docs workload with the command line's defaults."""
    program = (
        "import json, pathlib; from bothways import Encoder; from bothways.bench.machine import peak_mib; "
        f"texts = json.loads(pathlib.Path({str(data)!r}).read_text()); "
        f"Encoder.from_pretrained({MODEL!r}, dtype={dtype!r}, threads=2).embed(texts); print(peak_mib())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    print(f"peak memory on docs, {dtype}: {float(run.stdout):.0f} MiB")
    return float(run.stdout)


if __name__ == "__main__":
    main()
