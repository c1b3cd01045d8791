"""Cold starts: the import, and the command line from process start to exit, in alternating rounds with a rival."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from common import MODEL, arguments, save

RIVAL = (
    "from sentence_transformers import SentenceTransformer as S; from bothways.sources import resolve; "
    f"print(S(str(resolve({MODEL!r}).folder), device='cpu').encode(['hello']).shape)"
)
BOTHWAYS = str(Path(sys.executable).with_name("bothways"))

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
    "python -c 'import bothways'": [sys.executable, "-c", "import bothways"],
    f"bothways embed --model {MODEL} hello": [BOTHWAYS, "embed", "--model", MODEL, "hello"],
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
    save("startup", {"commands": figures, "peak_mib": round(peak_mib(options.data), 1)})


def peak_mib(data: Path) -> float:
    """The command line's peak memory over the docs workload."""
    texts = data / "workloads" / "docs.json"
    program = (
        "import json, pathlib; from bothways import Encoder; "
        f"Encoder.from_pretrained({MODEL!r}, threads=2).embed(json.loads(pathlib.Path({str(texts)!r}).read_text()))"
    )
    pid = os.spawnl(os.P_NOWAIT, sys.executable, sys.executable, "-c", program)
    _, _, usage = os.wait4(pid, 0)
    print(f"peak memory on docs: {usage.ru_maxrss / 1024:.0f} MiB")
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
