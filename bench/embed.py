"""Strings to embeddings, thousand tokens/s: Bothways at each level beside its rivals, in alternating rounds.

Every candidate runs in a process of its own; a round goes through all of them on one workload, so that a machine whose
speed wanders treats them alike. Figures are medians; a ratio is the median of the ratios within rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import MODEL, WORKLOADS, arguments, read_workload, save

AVX2 = {"OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}

#: Name: (module to load, environment).
CANDIDATES: dict[str, tuple[str, dict[str, str]]] = {
    "bothways avx512": ("bothways", {"BOTHWAYS_LEVEL": "avx512"}),
    "bothways avx2": ("bothways", {"BOTHWAYS_LEVEL": "avx2"}),
    "openvino": ("openvino", {}),
    "openvino held to AVX2": ("openvino", AVX2),
    "onnxruntime": ("onnxruntime", {}),
    "sentence-transformers": ("sentence_transformers", {}),
}

#: Which ratios the results report: Bothways over a rival.
RATIOS = [
    ("bothways avx512", "openvino"),
    ("bothways avx512", "onnxruntime"),
    ("bothways avx512", "sentence-transformers"),
    ("bothways avx2", "openvino held to AVX2"),
]


@dataclass
class Worker:
    """A candidate's process and what it has answered."""

    process: subprocess.Popen[str]
    load: float = 0.0
    peak_mib: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def start(cls, name: str, threads: int) -> Worker:
        module, environment = CANDIDATES[name]
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), module, str(threads)]
        worker = cls(
            subprocess.Popen(
                command,
                env=os.environ | environment | {"OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        worker.load = worker.answer(name)["load"]
        return worker

    def run(self, name: str, workload: str, texts: Path, vectors: Path) -> None:
        assert self.process.stdin is not None
        print(texts, vectors, file=self.process.stdin, flush=True)
        answer = self.answer(name)
        self.seconds.setdefault(workload, []).append(answer["seconds"])
        self.peak_mib[workload] = answer["peak_mib"]

    def answer(self, name: str) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {name} ended; run `python bench/worker.py {CANDIDATES[name][0]} 2` to see why")
        answer: dict[str, float] = json.loads(line)
        return answer


def measure(names: list[str], data: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Run all rounds; one more before them warms up and checks that the vectors agree."""
    workers = {name: Worker.start(name, threads) for name in names}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        tokens = {}
        for workload in WORKLOADS:
            texts = read_workload(data, workload)
            tokens[workload] = count_tokens(texts)
            path = folder / f"{workload}.json"
            path.write_text(json.dumps(texts))
            for number in range(rounds + 1):
                for name, worker in workers.items():
                    worker.run(name, workload, path, folder / f"{name.replace(' ', '-')}.npy")
                    time.sleep(0.2)  # some rivals' threads spin on for a while
                if number == 0:
                    check_agreement(names, folder)
                    for worker in workers.values():
                        worker.seconds[workload].clear()
                print(f"{workload} {number}/{rounds}", file=sys.stderr)
    for worker in workers.values():
        worker.process.kill()
    return results(workers, tokens, threads)


def count_tokens(texts: list[str]) -> int:
    """Tokens that every candidate computes: the checkpoint's limit of 256 applies to all."""
    from bothways import Encoder

    counted = {}
    Encoder.from_pretrained(MODEL).embed(texts, progress=lambda done, tokens, cut: counted.update(tokens=tokens))
    return int(counted["tokens"])


def check_agreement(names: list[str], folder: Path) -> None:
    """Stop if any two candidates' vectors differ: a comparison of different results means nothing."""
    vectors = {name: np.load(folder / f"{name.replace(' ', '-')}.npy") for name in names}
    for name in names[1:]:
        cosine = (vectors[names[0]] * vectors[name]).sum(axis=1).min()
        if cosine < 0.99999:
            sys.exit(f"error: {name} and {names[0]} disagree: smallest cosine {cosine:.6f}")


def results(workers: dict[str, Worker], tokens: dict[str, int], threads: int) -> dict[str, Any]:
    figures = {
        name: {
            "load_seconds": round(worker.load, 3),
            "peak_mib": {workload: round(value) for workload, value in worker.peak_mib.items()},
            "thousand_tokens_per_second": {
                workload: round(tokens[workload] / median(seconds) / 1000, 2)
                for workload, seconds in worker.seconds.items()
            },
            "seconds": {workload: [round(s, 4) for s in seconds] for workload, seconds in worker.seconds.items()},
        }
        for name, worker in workers.items()
    }
    ratios = {
        f"{ours} / {rival}": {
            workload: round(
                median(
                    theirs / mine
                    for theirs, mine in zip(
                        workers[rival].seconds[workload], workers[ours].seconds[workload], strict=True
                    )
                ),
                2,
            )
            for workload in tokens
        }
        for ours, rival in RATIOS
        if ours in workers and rival in workers
    }
    return {"model": "all-MiniLM-L6-v2", "threads": threads, "tokens": tokens, "candidates": figures, "ratios": ratios}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    found = measure(options.only, options.data, options.threads, options.rounds)
    for name, figures in found["candidates"].items():
        print(f"{name:24}", figures["thousand_tokens_per_second"], figures["peak_mib"])
    for name, ratio in found["ratios"].items():
        print(f"{name:44}", ratio)
    if not options.no_save:
        save("embed", found)


if __name__ == "__main__":
    main()
