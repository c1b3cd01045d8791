"""Tiny checkpoints of ColBERT's kind in the forms of the three libraries that write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import load_file, save_file
from task_checkpoints import save_task, word_pieces

DIMENSIONS = 7
QUERY_TOKENS, DOCUMENT_TOKENS = 14, 25

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    "don't stop: https://example.com/a?b=c",
    "!?",
    "naïve fox, " * 9,
]


def _save_network(folder: Path, markers: tuple[str, str]) -> None:
    """A random BERT whose vocabulary ends in two markers."""
    count = word_pieces().get_vocab_size()
    save_task(folder, "bert", "masked_lm", vocab_size=count + 2)
    raw = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.add_tokens([tokenizers.AddedToken(marker, normalized=True) for marker in markers])
    raw.save(str(folder / "tokenizer.json"))


def _projection() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.3, (DIMENSIONS, 12)).astype(np.float32)


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def save_pylate(folder: Path, **options: Any) -> Path:
    """PyLate's files; `options` are those of its config_sentence_transformers.json."""
    _save_network(folder, ("[Q] ", "[D] "))
    _write(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        ],
    )
    dense = {"in_features": 12, "out_features": DIMENSIONS, "bias": False, "use_residual": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    _write(folder / "1_Dense" / "config.json", dense)
    save_file({"linear.weight": _projection()}, folder / "1_Dense" / "model.safetensors")
    settings = {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": QUERY_TOKENS,
        "document_length": DOCUMENT_TOKENS,
        "attend_to_expansion_tokens": False,
        "skiplist_words": [".", ",", "!", "?"],
        "do_query_expansion": True,
    }
    _write(folder / "config_sentence_transformers.json", settings | options)
    return folder


def save_stanford(folder: Path, **options: Any) -> Path:
    """Stanford's files; `options` are those of its artifact.metadata."""
    _save_network(folder, ("[unused0]", "[unused1]"))
    weights = load_file(folder / "model.safetensors")
    network = {name: weight for name, weight in weights.items() if name.startswith("bert.")}
    save_file(network | {"linear.weight": _projection()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
    _write(folder / "config.json", config)
    metadata = {"dim": DIMENSIONS, "query_maxlen": QUERY_TOKENS, "doc_maxlen": DOCUMENT_TOKENS}
    _write(folder / "artifact.metadata", metadata | options)
    return folder


def save_multi_vector(folder: Path, *, expansion: dict[str, Any] | None, mask: dict[str, Any]) -> Path:
    """What sentence-transformers' own MultiVectorEncoder saves."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    plain = folder.with_name(f"{folder.name}-network")
    save_task(plain, "bert", "masked_lm")
    network = Transformer(str(plain), document_length=DOCUMENT_TOKENS, query_expansion=expansion)
    dense = [
        Dense(12, 12, activation_function=torch.nn.Tanh(), module_input_name="token_embeddings", use_residual=True),
        Dense(12, DIMENSIONS, bias=False, module_input_name="token_embeddings", use_residual=True),
    ]
    normal = Normalize(module_input_name="token_embeddings")
    prompts = {"query": "query: ", "document": "text: "}
    model = MultiVectorEncoder(
        modules=[network, *dense, MultiVectorMask(**mask), normal], prompts=prompts, device="cpu"
    )
    model.save_pretrained(str(folder))
    shutil.rmtree(plain)
    return folder
