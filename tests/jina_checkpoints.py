"""Tiny checkpoints of Jina's BERT with random weights, and what their network gives, from the description, in float64.

transformers has no class for them: their code comes with the checkpoints. Everything here goes by the checkpoint's own
tensor names, so nothing is shared with what is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from reference import ACTIVATIONS, softmax
from safetensors.numpy import save_file

Array = npt.NDArray[Any]

IMPLEMENTATION, QK_POST_NORM = "jinaai/jina-bert-implementation", "jinaai/jina-bert-v2-qk-post-norm"

#: config.json of jina-embeddings-v2, in tiny sizes.
JINA: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["JinaBertForMaskedLM"],
    "attn_implementation": "torch",
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "hidden_size": 12,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 8192,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "position_embedding_type": "alibi",
    "type_vocab_size": 2,
    "vocab_size": 37,
}


def jina_config(repository: str, **changes: Any) -> dict[str, Any]:
    """config.json whose auto_map points to a repository; ... leaves a key out."""
    classes = {"AutoConfig": "configuration_bert.JinaBertConfig", "AutoModel": "modeling_bert.JinaBertModel"}
    auto_map = {"auto_map": {key: f"{repository}--{name}" for key, name in classes.items()}}
    return {key: value for key, value in (JINA | auto_map | changes).items() if value is not ...}


def save_jina(folder: Path, repository: str = IMPLEMENTATION, prefix: str = "", **changes: Any) -> dict[str, Array]:
    """Save a checkpoint and return its tensors, without the prefix of their names."""
    config = jina_config(repository, **changes)
    random = np.random.default_rng(7)
    tensors = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in _shapes(config, repository)}
    folder.mkdir(exist_ok=True)
    save_file({prefix + name: array for name, array in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def _shapes(config: dict[str, Any], repository: str) -> list[tuple[str, tuple[int, ...]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("embeddings.word_embeddings.weight", (config["vocab_size"], hidden)),
        ("embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)),
    ]

    def add(name: str, *shape: int, bias: bool = True) -> None:
        shapes.append((f"{name}.weight", shape))
        if bias:
            shapes.append((f"{name}.bias", shape[:1]))

    add("embeddings.LayerNorm", hidden)
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            add(f"{at}attention.{part}", hidden, hidden)
        add(f"{at}attention.output.LayerNorm", hidden)
        if repository == QK_POST_NORM:
            for norm in ("attention.self.layer_norm_q", "attention.self.layer_norm_k", "layer_norm_1", "layer_norm_2"):
                add(at + norm, hidden)
            add(f"{at}mlp.up_gated_layer", 2 * inner, hidden, bias=False)
            add(f"{at}mlp.down_layer", hidden, inner)
        else:
            add(f"{at}mlp.gated_layers", 2 * inner, hidden, bias=False)
            add(f"{at}mlp.wo", hidden, inner)
            add(f"{at}mlp.layernorm", hidden)
    return shapes


class JinaTwin:
    """The network, by the checkpoint's config and tensors."""

    #: Slopes by hand: for 2 heads 2 ** -4 and 2 ** -8, then of 4 heads' 2 ** -2, 2 ** -4, ... the first and the third.
    SLOPES = {1: [2**-8], 2: [2**-4, 2**-8], 3: [2**-4, 2**-8, 2**-2]}

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array]) -> None:
        self.config = config
        self.tensors = {name: array.astype(np.float64) for name, array in tensors.items()}

    def hidden_states(self, ids: Array, types: Array) -> list[Array]:
        """What goes into the first layer, and what comes out of each: (n, H)."""
        rows = self.tensors["embeddings.word_embeddings.weight"][ids]
        rows = self._norm("embeddings.LayerNorm", rows + self.tensors["embeddings.token_type_embeddings.weight"][types])
        states = [rows]
        for n in range(self.config["num_hidden_layers"]):
            states.append(self._layer(f"encoder.layer.{n}.", states[-1]))
        return states

    def _layer(self, at: str, rows: Array) -> Array:
        inner = self.config["intermediate_size"]
        act = ACTIVATIONS[{"geglu": "gelu", "reglu": "relu"}[self.config["feed_forward_type"]]]
        attended = self._norm(f"{at}attention.output.LayerNorm", rows + self._attention(at, rows))
        if f"{at}layer_norm_1.weight" in self.tensors:
            rows = self._norm(f"{at}layer_norm_1", rows + attended)
            both = self._linear(f"{at}mlp.up_gated_layer", rows)
            units = both[:, :inner] * act(both[:, inner:])
            return self._norm(f"{at}layer_norm_2", rows + self._linear(f"{at}mlp.down_layer", units))
        both = self._linear(f"{at}mlp.gated_layers", attended)
        units = act(both[:, :inner]) * both[:, inner:]
        return self._norm(f"{at}mlp.layernorm", attended + self._linear(f"{at}mlp.wo", units))

    def _attention(self, at: str, rows: Array) -> Array:
        query, key, value = (self._linear(f"{at}attention.self.{part}", rows) for part in ("query", "key", "value"))
        if f"{at}attention.self.layer_norm_q.weight" in self.tensors:
            query = self._norm(f"{at}attention.self.layer_norm_q", query)
            key = self._norm(f"{at}attention.self.layer_norm_k", key)
        count = self.config["num_attention_heads"]
        size = rows.shape[1] // count
        distances = abs(np.arange(len(rows))[:, None] - np.arange(len(rows)))
        mixed = np.empty_like(rows)
        for head in range(count):
            cut = slice(head * size, (head + 1) * size)
            scores = query[:, cut] @ key[:, cut].T / np.sqrt(size) - self.SLOPES[count][head] * distances
            mixed[:, cut] = softmax(scores) @ value[:, cut]
        return self._linear(f"{at}attention.output.dense", mixed)

    def _linear(self, name: str, rows: Array) -> Array:
        product: Array = rows @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0)
        return product

    def _norm(self, name: str, rows: Array) -> Array:
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + self.config["layer_norm_eps"])
        normed: Array = scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return normed
