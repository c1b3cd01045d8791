"""Every family on the native engine at every level: the numbers of transformers, bits that depend on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_batch, rows_of, select
from reference import ReferenceEngine
from test_native import check_against
from tiny_checkpoints import save_model

from bothways import _native
from bothways.checkpoint import open_checkpoint
from bothways.engines.base import Rows
from bothways.engines.native import NativeEngine
from bothways.spec import DTYPES

# Sizes that fill whole tiles and vectors, and sizes that fill none.
EVEN = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 1100}
ODD = {"hidden_size": 15, "num_attention_heads": 3, "intermediate_size": 7}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("electra", {}),
    ("electra", EVEN | {"embedding_size": 32}),
    ("electra", ODD | {"embedding_size": 33, "num_hidden_layers": 1}),
    ("electra", ODD | {"embedding_size": 15}),
    ("ernie", {"use_task_id": True, "task_type_vocab_size": 3}),
    ("ernie", ODD),
    ("albert", {}),
    ("albert", EVEN | {"num_hidden_layers": 3, "num_hidden_groups": 2, "hidden_act": "gelu_new"}),
    ("albert", ODD | {"embedding_size": 15, "hidden_act": "gelu_new"}),
    ("mpnet", {"max_position_embeddings": 18}),
    ("mpnet", EVEN | {"max_position_embeddings": 18}),
    ("mpnet", ODD | {"max_position_embeddings": 18}),
    ("roformer", {}),
    ("roformer", EVEN | {"embedding_size": 24}),
    ("roformer", ODD | {"hidden_size": 18}),
    ("modernbert", {"num_hidden_layers": 4, "local_attention": 6}),
    ("modernbert", EVEN | {"num_hidden_layers": 3, "attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    ("modernbert", ODD | {"hidden_size": 18, "hidden_activation": "silu", "local_attention": 3}),
    ("eurobert", {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 250000.0}}),
    ("eurobert", EVEN | {"num_attention_heads": 4, "num_key_value_heads": 2}),
    ("eurobert", ODD | {"hidden_size": 30, "attention_bias": True, "mlp_bias": True}),
    ("nomic_bert", {}),
    ("nomic_bert", EVEN | {"hidden_act": "gelu"}),
    ("nomic_bert", ODD | {"hidden_size": 18}),
    ("gte", {"type_vocab_size": 1}),
    ("gte", EVEN | {"type_vocab_size": 0}),
    ("gte", ODD | {"hidden_size": 18}),
    ("deberta-v2", {}),
    ("deberta-v2", EVEN | {"pos_att_type": ["c2p"], "position_buckets": -1, "type_vocab_size": 2}),
    ("deberta-v2", ODD | {"pos_att_type": "p2c", "share_att_key": False, "embedding_size": 6}),
    ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu", "position_biased_input": True}),
    ("deberta-v2", ODD | {"conv_kernel_size": 5, "conv_groups": 3, "num_hidden_layers": 1}),
    ("deberta-v2", {"relative_attention": False}),
    ("megatron-bert", {}),
    ("megatron-bert", EVEN),
    ("megatron-bert", ODD | {"num_hidden_layers": 3}),
]


@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
def test_hidden_states_equal_transformers(tmp_path: Path, level: str, model_type: str, config: dict[str, Any]) -> None:
    model = save_model(tmp_path, model_type, attn_implementation="eager", **config)
    check_against(model, tmp_path)


# Families whose attention depends on distances or positions, so that long texts go other ways than short ones.
LONG: list[tuple[str, dict[str, Any]]] = [
    ("mpnet", {}),
    ("mpnet", EVEN),
    ("roformer", {}),
    ("modernbert", {"num_hidden_layers": 4}),
    ("modernbert", EVEN | {"num_hidden_layers": 2, "local_attention": 40}),
    ("eurobert", EVEN),
    ("nomic_bert", EVEN),
    ("gte", {}),
    ("deberta-v2", {"position_buckets": 64}),
    ("deberta-v2", EVEN | {"position_buckets": 256, "share_att_key": False}),
    ("deberta-v2", {"position_buckets": -1, "max_relative_positions": 40}),
    ("deberta-v2", {"conv_kernel_size": 3}),
]


@pytest.mark.parametrize(("model_type", "config"), LONG)
def test_long_texts_equal_transformers(tmp_path: Path, level: str, model_type: str, config: dict[str, Any]) -> None:
    config = {"attn_implementation": "eager", "max_position_embeddings": 310} | config
    check_against(save_model(tmp_path, model_type, **config), tmp_path, (300, 65, 131))


@pytest.mark.parametrize("rows", ["all", "mean"])
@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
def test_every_dtype_is_near_the_naive_network(
    tmp_path: Path, level: str, model_type: str, config: dict[str, Any], rows: Rows
) -> None:
    """Of a network of two layers; the weights are large, so 8-bit numbers are far off at times."""
    save_model(tmp_path, model_type, **config)
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec)
    expected = ReferenceEngine(checkpoint).encode(batch, rows=rows).rows
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 0.04), ("int8", 0.15)):
        ours = NativeEngine(checkpoint, dtype=dtype).encode(batch, rows=rows).rows
        assert np.abs(ours - expected).max() <= tolerance * max(1.0, float(np.abs(expected).max())), dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
def test_batches_and_threads_change_no_bit(
    tmp_path: Path, level: str, dtype: str, model_type: str, config: dict[str, Any]
) -> None:
    save_model(tmp_path, model_type, **config | {"max_position_embeddings": 150})
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec, (5, 1, 40, 130, 12, 33, 2))
    one, three = (NativeEngine(checkpoint, dtype=dtype, threads=n) for n in (1, 3))
    together = rows_of(batch, one.encode(batch).rows)
    np.testing.assert_array_equal(np.concatenate(together), three.encode(batch).rows)
    for n, expected in enumerate(together):
        alone = three.encode(select(batch, [n]), hidden_states=True)
        np.testing.assert_array_equal(alone.rows, expected)
        assert alone.layers is not None
        np.testing.assert_array_equal(alone.layers[-1], expected)


def test_a_network_that_contradicts_itself_is_refused() -> None:
    network = _native.Network()

    def load() -> None:
        _native.Model({}, network, level="generic", dtype="float32", threads=1)

    with pytest.raises(ValueError, match="hidden must be a positive multiple of heads"):
        load()
    network.hidden = network.embedding = network.inner = 6
    network.heads = 2
    with pytest.raises(ValueError, match="heads must be a multiple of key_heads"):
        load()
    network.key_heads = 1
    network.stored_layers = [0]
    with pytest.raises(ValueError, match="one number for each layer"):
        load()
    network.rotary = network.windows = [-1]
    with pytest.raises(ValueError, match="tensor 'embeddings.word' is missing"):
        load()
    network.stored_layers = [1]
    with pytest.raises(ValueError, match="a stored layer's number is out of range"):
        load()
