"""Strings to embeddings with a network of BERT-base's shape, random weights: Bothways beside OpenVINO on docs."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from common import MODEL, choose, comparison, read_workload, save

from bothways import Encoder
from bothways.bench.candidates import ours
from bothways.bench.measure import measure, processes
from bothways.bench.report import figures
from bothways.engines.native import level_in_force
from bothways.sources import resolve
from bothways.spec import DTYPES

SEED = 0
SHAPE = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


def make_model(folder: Path) -> None:
    """A random BERT-base behind MiniLM's tokenizer, with its length limit, mean pooling and normalization."""
    import torch
    from transformers import BertConfig, BertModel

    shutil.copytree(resolve(MODEL).folder, folder, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    pooling = {"word_embedding_dimension": SHAPE["hidden_size"], "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    torch.manual_seed(SEED)
    BertModel(BertConfig(**SHAPE)).save_pretrained(folder)


def main() -> None:
    parser = comparison(__doc__ or "")
    parser.add_argument("--texts", type=int, default=100, help="how many of docs, from its beginning")
    # The others take long at this size and say nothing that bench/embed.py does not.
    mine = [ours(level_in_force(), dtype).name for dtype in DTYPES]
    parser.set_defaults(only=[*mine, "openvino float32", "openvino bfloat16"])
    options = parser.parse_args()
    wanted = choose(options)
    texts = read_workload(options.data, "docs")[: options.texts]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        make_model(folder)
        with processes(wanted, str(folder), options.threads) as runners:
            results = measure(
                wanted,
                runners,
                texts,
                rounds=options.rounds,
                report=lambda note: print(note, file=sys.stderr),
            )
        found = figures(Encoder.from_pretrained(folder, threads=options.threads), texts, results)
    for name, row in found["candidates"].items():
        print(f"{name:32} {row['tokens_per_second']:10,.0f} tokens/s")
    for name, ratio in found["ratios"].items():
        print(f"{name:52} {ratio:5.2f}")
    save("base", {"model": "BERT-base's shape, random weights", "shape": SHAPE, "seed": SEED, **found}, options)


if __name__ == "__main__":
    main()
