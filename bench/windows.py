"""ModernBERT-base's shape, random weights: what a layer costs that sees near tokens only, and one that sees all.

Each kind is a network of its own, of a few such layers, on single texts of 512 to 8,192 tokens, beside transformers
(scaled dot product attention) up to 4,096. The time of a layer that sees near tokens only has to grow as the text does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import arguments, save

from bothways.batch import pack
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine
from bothways.tokens import Sequence

_LAYERS = 4
_LENGTHS = (512, 1024, 2048, 4096, 8192)
_LONGEST_RIVAL = 4096
_KINDS = {"near tokens": "sliding_attention", "all tokens": "full_attention"}
_VOCABULARY = 1000

Run = Callable[[np.ndarray], None]


def make_model(folder: Path, kind: str) -> None:
    """Save a ModernBERT whose layers are all of one kind."""
    import torch
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=_VOCABULARY,
        num_hidden_layers=_LAYERS,
        layer_types=[kind] * _LAYERS,
        attn_implementation="sdpa",
        pad_token_id=0,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
    )
    ModernBertModel(config).eval().save_pretrained(folder)


def ours(folder: Path, dtype: str, threads: int) -> Run:
    checkpoint = open_checkpoint(folder)
    engine = NativeEngine(checkpoint, dtype=dtype, threads=threads)

    def run(ids: np.ndarray) -> None:
        engine.encode(pack([Sequence(ids, np.zeros_like(ids))], checkpoint.spec), rows="mean")

    return run


def theirs(folder: Path, threads: int) -> Run:
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def run(ids: np.ndarray) -> None:
        model(input_ids=torch.from_numpy(ids.astype(np.int64))[None])

    return run


def measure(runs: dict[str, Run], rounds: int) -> dict[str, dict[int, float]]:
    """Median milliseconds of a layer, for every candidate and length."""
    random = np.random.default_rng(0)
    taken: dict[str, dict[int, list[float]]] = {name: {length: [] for length in _LENGTHS} for name in runs}
    for number in range(rounds + 1):
        for length in _LENGTHS:
            ids = random.integers(3, _VOCABULARY, length).astype(np.int32)
            for name, run in runs.items():
                if name.startswith("transformers") and length > _LONGEST_RIVAL:
                    continue
                begin = time.perf_counter()
                run(ids)
                if number:
                    taken[name][length].append(time.perf_counter() - begin)
                time.sleep(0.05)
    return {
        name: {length: round(1000 * median(times) / _LAYERS, 2) for length, times in rows.items() if times}
        for name, rows in taken.items()
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, kind in _KINDS.items():
            folder = Path(temporary) / kind
            make_model(folder, kind)
            for dtype in ("float32", "bfloat16"):
                runs[f"bothways {dtype}, {name}"] = ours(folder, dtype, options.threads)
            runs[f"transformers float32, {name}"] = theirs(folder, options.threads)
        found: dict[str, Any] = {}
        for name, row in measure(runs, options.rounds).items():
            print(f"{name:36}", *(f"{length}: {ms:8.2f} ms" for length, ms in row.items()))
            found[name] = {"ms_per_layer": row}
    shape = "ModernBERT-base's shape, windows of 128, random weights"
    save("windows", {"threads": options.threads, "model": shape, "layers": _LAYERS, "candidates": found}, options)


if __name__ == "__main__":
    main()
