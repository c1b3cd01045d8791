"""One text at a time, 8 to 512 tokens: Bothways in every dtype beside its rivals, in alternating rounds."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from common import MODEL, choose, comparison, read_workload, save

from bothways import Encoder
from bothways.bench.measure import measure, processes
from bothways.bench.report import figures, single_texts
from bothways.sources import resolve

TEXTS = 100  # of each length


def copy_model(folder: Path) -> None:
    """The model with a limit of 512 tokens, its position table's, where its own sentence-transformers file says 256."""
    shutil.copytree(resolve(MODEL).folder, folder)
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_seq_length": 512}))


def main() -> None:
    options = comparison(__doc__ or "").parse_args()
    wanted = choose(options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        copy_model(folder)
        encoder = Encoder.from_pretrained(folder, threads=options.threads)
        singles = single_texts(encoder, read_workload(options.data, "short"), count=TEXTS)
        # Embedded together beforehand, so that candidates are known to agree at every length.
        texts = [text for single in singles.values() for text in single[:10]]
        with processes(wanted, str(folder), options.threads) as runners:
            results = measure(
                wanted,
                runners,
                texts,
                rounds=options.rounds,
                latency_texts=singles,
                report=lambda note: print(note, file=sys.stderr),
            )
        found = figures(encoder, texts, results)
    for name, row in found["candidates"].items():
        cells = (f"{tokens}: {ms['p50']:.2f} ({ms['p99']:.2f})" for tokens, ms in row["latency_ms"].items())
        print(f"{name:32} p50 (p99) in ms at tokens {', '.join(cells)}")
    save("latency", {"model": "all-MiniLM-L6-v2", **found}, options)


if __name__ == "__main__":
    main()
