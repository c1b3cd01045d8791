"""Strings to embeddings on three workloads: Bothways in every dtype beside its rivals, in alternating rounds."""

from __future__ import annotations

import sys

from common import MODEL, WORKLOADS, choose, comparison, read_workload, save

from bothways import Encoder
from bothways.bench.measure import measure, processes
from bothways.bench.report import figures


def main() -> None:
    options = comparison(__doc__ or "").parse_args()
    wanted = choose(options)
    encoder = Encoder.from_pretrained(MODEL, threads=options.threads)
    found = {}
    with processes(wanted, MODEL, options.threads) as runners:
        for workload in WORKLOADS:
            texts = read_workload(options.data, workload)
            results = measure(
                wanted,
                runners,
                texts,
                rounds=options.rounds,
                report=lambda note, workload=workload: print(f"{workload}: {note}", file=sys.stderr),
            )
            found[workload] = figures(encoder, texts, results)
            for name, row in found[workload]["candidates"].items():
                print(f"{workload:6} {name:32} {row['tokens_per_second']:10,.0f} tokens/s", flush=True)
    save("embed", {"model": "all-MiniLM-L6-v2", "threads": options.threads, "workloads": found}, options)


if __name__ == "__main__":
    main()
