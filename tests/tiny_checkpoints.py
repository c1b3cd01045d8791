"""Tiny checkpoints with random weights for the tests, written by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: What makes each model type tiny; sizes differ from each other so that no two can be mixed up unseen.
TINY: dict[str, dict[str, Any]] = {
    model_type: {
        "vocab_size": 37,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
    }
    for model_type in ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "megatron-bert", "albert")
} | {
    "distilbert": {
        "vocab_size": 37,
        "dim": 12,
        "n_layers": 2,
        "n_heads": 3,
        "hidden_dim": 20,
        "max_position_embeddings": 16,
    }
}

for _model_type in ("mpnet", "modernbert", "eurobert", "deberta-v2"):
    TINY[_model_type] = {key: value for key, value in TINY["bert"].items() if key != "type_vocab_size"}
for _model_type in ("roformer", "nomic_bert", "gte"):
    TINY[_model_type] = dict(TINY["bert"])
for _model_type in ("electra", "albert"):
    TINY[_model_type]["embedding_size"] = 6

# What networks of the kind usually have and transformers' defaults don't; padding ids that lie in the tiny vocabulary.
_USUAL: dict[str, dict[str, Any]] = {
    "modernbert": {"pad_token_id": 0},
    "eurobert": {"pad_token_id": 0},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 4,
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
}


def make_model(model_type: str, kind: str = "AutoModel", **config: Any) -> Any:
    """Make a tiny transformers model with random weights, biases included."""
    import torch
    import transformers

    torch.manual_seed(7)
    settings = transformers.AutoConfig.for_model(model_type, **(_USUAL.get(model_type, {}) | TINY[model_type] | config))
    model = getattr(transformers, kind).from_config(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # RoFormer's sines and cosines are frozen
                parameter.normal_(0.0, 0.3)
    return model


def save_model(folder: Path, model_type: str, kind: str = "AutoModel", dtype: str = "float32", **config: Any) -> Any:
    """Make a tiny model, save it as a checkpoint in `folder`, and return it."""
    import torch

    model = make_model(model_type, kind, **config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return model


def save_relative_keys(folder: Path, kind: str, **config: Any) -> Any:
    """Save a tiny BERT with vectors by distance, which transformers 5 has no code for, and return it without them."""
    import torch
    from safetensors.torch import load_file, save_file

    model = save_model(folder, "bert", **config)
    edit_config(folder, position_embedding_type=kind)
    tensors = load_file(folder / "model.safetensors")
    settings = model.config
    shape = (2 * settings.max_position_embeddings - 1, settings.hidden_size // settings.num_attention_heads)
    for n in range(settings.num_hidden_layers):
        tensors[f"encoder.layer.{n}.attention.self.distance_embedding.weight"] = torch.randn(shape)
    save_file(tensors, folder / "model.safetensors")
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a checkpoint's config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def split_file(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a safetensors file apart into its header and its data."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join_file(header: Any, data: bytes, size: int | None = None) -> bytes:
    """Put a safetensors file together from a header (an object or raw bytes) and data; `size` lies about the header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if size is None else size).to_bytes(8, "little") + raw + data
