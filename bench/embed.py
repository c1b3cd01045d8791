"""Strings to embeddings on three workloads: Bothways in every dtype beside its rivals, in alternating rounds."""

from __future__ import annotations

import sys

from common import MODEL, WORKLOADS, arguments, read_workload, save

from bothways import Encoder
from bothways.bench.candidates import Candidate, ours, rival
from bothways.bench.measure import measure, processes
from bothways.bench.report import figures, single_texts
from bothways.engines.native import level_in_force
from bothways.spec import DTYPES

_AVX2 = (("OV_CPU_MAX_ISA", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"))


def candidates() -> list[Candidate]:
    """Ours first, as the others' embeddings are compared with the first's."""
    best = level_in_force()
    levels = [ours(best, dtype) for dtype in DTYPES]
    if best == "amx":
        levels += [ours("avx512", "float32"), ours("avx512", "int8")]
    if best in ("amx", "avx512"):
        levels.append(ours("avx2", "float32"))
    rivals = [
        rival(name)
        for name in (
            "openvino",
            "openvino:bfloat16",
            "onnxruntime",
            "ctranslate2",
            "ctranslate2:int8",
            "torch.compile",
            "sentence-transformers",
        )
    ]
    return [*levels, *rivals, Candidate("openvino held to AVX2 float32", "openvino", "float32", _AVX2)]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of candidates; all when left out")
    options = parser.parse_args()
    wanted = [each for each in candidates() if options.only is None or each.name in options.only]
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
                latency_texts=single_texts(encoder, texts) if workload == "short" else None,
                report=lambda note, workload=workload: print(f"{workload}: {note}", file=sys.stderr),
            )
            found[workload] = figures(encoder, texts, results)
            for name, row in found[workload]["candidates"].items():
                print(f"{workload:6} {name:32} {row['tokens_per_second']:10,.0f} tokens/s", flush=True)
    save("embed", {"model": "all-MiniLM-L6-v2", "threads": options.threads, "workloads": found}, options)


if __name__ == "__main__":
    main()
