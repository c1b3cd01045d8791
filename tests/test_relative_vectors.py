"""Vectors by distance: DeBERTa's rows, heads and config.json, and BERT's relative keys, which transformers 5 drops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_batch, rows_of, select
from reference import ReferenceEngine, vector_rows
from safetensors.torch import load_file, save_file
from test_families import spec_of
from tiny_checkpoints import edit_config, save_model, save_relative_keys

from bothways.checkpoint import open_checkpoint
from bothways.engines.base import Engine
from bothways.engines.native import NativeEngine
from bothways.engines.positions import rows_by_distance
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.heads import head
from bothways.spec import DTYPES, RelativeVectors

KINDS = ("relative_key", "relative_key_query")
V3: dict[str, Any] = {"relative_attention": True, "position_buckets": 4, "pos_att_type": "p2c|c2p"}


@pytest.mark.parametrize(
    ("buckets", "longest", "positions"),
    [(256, 512, 512), (256, 1680, 1680), (64, 300, 300), (4, 16, 16), (32, 512, 40), (5, 20, 30), (48, 128, 512)],
)
def test_rows_are_the_buckets_of_transformers(buckets: int, longest: int, positions: int) -> None:
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    vectors = RelativeVectors(2 * buckets, longest)
    ours = rows_by_distance(vectors, positions)
    distances = torch.arange(positions - 1, -positions, -1)  # of a query behind a key
    theirs = make_log_bucket_position(distances, buckets, longest).long()
    np.testing.assert_array_equal(ours, (theirs + buckets).clamp(0, 2 * buckets - 1).numpy())
    if buckets % 2 == 0:
        np.testing.assert_array_equal(ours, vector_rows(distances.numpy(), 2 * buckets, longest))


def test_rows_without_buckets_are_distances_kept_within_the_table() -> None:
    rows = rows_by_distance(RelativeVectors(6), 5)  # distances of a key behind its query from -4 to 4
    assert rows.tolist() == [5, 5, 5, 4, 3, 2, 1, 0, 0]
    assert rows_by_distance(RelativeVectors(9), 5).tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0]


# --- BERT's relative keys


def version_4(model: Any, folder: Path, kind: str, ids: Any, types: Any) -> tuple[Any, list[Any]]:
    """Hidden states and attentions as transformers 4.57 computes them, by the modules that version 5 still has."""
    import torch

    tensors = load_file(folder / "model.safetensors")
    words = model.embeddings
    hidden = words.LayerNorm(words.word_embeddings(ids) + words.token_type_embeddings(types))  # no positions
    places = torch.arange(ids.shape[1])
    distance = places[:, None] - places[None, :] + model.config.max_position_embeddings - 1
    size = model.config.hidden_size // model.config.num_attention_heads
    attentions = []
    for n, layer in enumerate(model.encoder.layer):
        own = layer.attention.self
        query, key, value = (
            part(hidden).unflatten(-1, (-1, size)).transpose(1, 2) for part in (own.query, own.key, own.value)
        )
        vectors = tensors[f"encoder.layer.{n}.attention.self.distance_embedding.weight"][distance]
        scores = query @ key.transpose(-1, -2) + torch.einsum("bhld,lrd->bhlr", query, vectors)
        if kind == "relative_key_query":
            scores = scores + torch.einsum("bhrd,lrd->bhlr", key, vectors)
        attentions.append((scores / size**0.5).softmax(dim=-1))
        context = (attentions[-1] @ value).transpose(1, 2).flatten(2)
        mixed = layer.attention.output(context, hidden)
        hidden = layer.output(layer.intermediate(mixed), mixed)
    return hidden, attentions


@pytest.mark.parametrize("kind", KINDS)
def test_relative_keys_equal_transformers_4(tmp_path: Path, make_engine: Callable[..., Engine], kind: str) -> None:
    import torch

    model = save_relative_keys(tmp_path, kind)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.surplus == ("embeddings.position_embeddings.weight",)
    batch = make_batch(checkpoint.spec)
    ours = make_engine(checkpoint).encode(batch, attentions=True)
    assert ours.attentions is not None
    for n, part in enumerate(slice(*pair) for pair in zip(batch.starts, batch.starts[1:], strict=False)):
        ids, types = (torch.tensor(x[None, part].astype(np.int64)) for x in (batch.ids, batch.token_types))
        with torch.no_grad():
            expected, attentions = version_4(model, tmp_path, kind, ids, types)
        np.testing.assert_allclose(ours.rows[part], expected[0].numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(ours.attentions[n], torch.cat(attentions).numpy(), rtol=0, atol=1e-4)


LONG = {"max_position_embeddings": 150}
SIZES: list[dict[str, Any]] = [
    LONG,
    LONG | {"hidden_size": 128, "num_attention_heads": 2},
    LONG | {"hidden_size": 15, "num_hidden_layers": 1},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", SIZES)
def test_relative_keys_in_every_dtype(tmp_path: Path, level: str, kind: str, config: dict[str, Any]) -> None:
    """Near the naive network, and with bits that depend neither on the batch nor on threads."""
    save_relative_keys(tmp_path, kind, **config)
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec, (5, 1, 40, 150, 12, 33, 2))
    expected = ReferenceEngine(checkpoint).encode(batch).rows
    scale = max(1.0, float(np.abs(expected).max()))
    for dtype, tolerance in zip(DTYPES, (1e-4, 0.04, 0.15), strict=True):
        one, three = (NativeEngine(checkpoint, dtype=dtype, threads=n) for n in (1, 3))
        ours = one.encode(batch).rows
        assert np.abs(ours - expected).max() <= tolerance * scale, dtype
        np.testing.assert_array_equal(ours, three.encode(batch).rows)
        for n, rows in enumerate(rows_of(batch, ours)):
            np.testing.assert_array_equal(three.encode(select(batch, [n])).rows, rows)


def test_relative_keys_that_are_missing_are_named(tmp_path: Path) -> None:
    save_model(tmp_path, "bert")
    edit_config(tmp_path, position_embedding_type="relative_key")
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.0\.attention\.self\.distance_embedding\.weight"):
        open_checkpoint(tmp_path)


# --- DeBERTa's config.json and heads


@pytest.mark.parametrize(
    ("given", "keys", "queries"),
    [("p2c|c2p", True, True), ("C2P ", True, False), (["p2c"], False, True), ([], False, False), (None, False, False)],
)
def test_terms_are_read_from_a_list_or_a_text(given: Any, keys: bool, queries: bool) -> None:
    spec = spec_of("deberta-v2", **V3 | {"pos_att_type": given})
    assert spec.relative_vectors is not None
    assert (spec.relative_vectors.keys, spec.relative_vectors.queries) == (keys, queries)
    assert spec.score_terms == 1 + keys + queries


def test_debertas_defaults_are_those_of_transformers() -> None:
    spec = spec_of("deberta-v2", layer_norm_eps=...)
    assert (spec.norm_eps, spec.position_table, spec.num_token_types) == (1e-7, True, 0)
    assert spec.relative_vectors is None
    assert spec.convolution is None
    vectors = spec_of("deberta-v2", relative_attention=True, max_relative_positions=-1).relative_vectors
    assert vectors == RelativeVectors(32, keys=False, queries=False, projections="own")
    vectors = spec_of("deberta-v2", relative_attention=True, max_relative_positions=9, position_buckets=6)
    assert vectors.relative_vectors == RelativeVectors(12, 9, keys=False, queries=False, projections="own")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"pos_att_type": "p2p"}, UnsupportedModel, "pos_att_type has p2p"),
        ({"pos_att_type": 3}, CheckpointError, "pos_att_type is 3"),
        ({"norm_rel_ebd": "rms"}, UnsupportedModel, "norm_rel_ebd 'rms'"),
        ({"conv_kernel_size": 4}, UnsupportedModel, "conv_kernel_size 4 with conv_groups 1"),
        ({"conv_kernel_size": 3, "conv_groups": 5}, UnsupportedModel, "conv_groups 5"),
        ({"conv_kernel_size": 3, "conv_act": "mish"}, UnsupportedModel, "conv_act 'mish'"),
        ({"conv_kernel_size": "3"}, CheckpointError, "conv_kernel_size is '3'"),
        ({"position_buckets": 1}, UnsupportedModel, "position_buckets 1 is not supported; 2 is the least"),
        ({"position_buckets": True}, CheckpointError, "position_buckets is True"),
        ({"relative_attention": "yes"}, CheckpointError, "relative_attention is 'yes'"),
        ({"max_relative_positions": 3}, UnsupportedModel, "max_relative_positions 3 is too small"),
        ({"attention_head_size": 8}, UnsupportedModel, "attention_head_size 8 is not supported, only 4"),
        ({"pooler_hidden_size": 8}, UnsupportedModel, "pooler_hidden_size 8 is not supported, only 12"),
        ({"max_position_embeddings": 2**17 + 1}, CheckpointError, "the longest text is 131073"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        spec_of("deberta-v2", **V3 | change)


HEADS = {
    "classification": ("AutoModelForSequenceClassification", {"num_labels": 3}),
    "token_classification": ("AutoModelForTokenClassification", {"num_labels": 3}),
    "masked_lm": ("AutoModelForMaskedLM", {}),
    "question_answering": ("AutoModelForQuestionAnswering", {}),
}


def check_head(engine: Engine, checkpoint: Any, kind: str, model: Any) -> None:
    import torch

    batch = make_batch(checkpoint.spec, (7,))
    spec = checkpoint.spec.heads[kind]
    found = head(engine, checkpoint, spec)(engine.encode(batch, rows="all" if spec.rows == "all" else "first").rows)
    with torch.inference_mode():
        scores = model(input_ids=torch.tensor(batch.ids[None].astype(np.int64)))
    if kind == "question_answering":
        expected = torch.stack([scores.start_logits[0], scores.end_logits[0]], dim=-1)
    else:
        expected = scores.logits.reshape(-1, scores.logits.shape[-1])
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("config", [{}, {"pooler_hidden_act": "tanh", "legacy": False, "hidden_act": "relu"}])
def test_debertas_heads_give_the_scores_of_transformers(
    tmp_path: Path, make_engine: Callable[..., Engine], kind: str, config: dict[str, Any]
) -> None:
    model_class, labels = HEADS[kind]
    model = save_model(tmp_path, "deberta-v2", model_class, **config, **labels)
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint.spec.heads) == [kind]
    assert checkpoint.surplus == ()
    check_head(make_engine(checkpoint), checkpoint, kind, model)


def test_the_head_of_microsofts_checkpoints_is_found_without_the_key(
    tmp_path: Path, make_engine: Callable[..., Engine]
) -> None:
    """They have the newer head and say nothing of `legacy`, and a head of their training besides."""
    import torch

    model = save_model(tmp_path, "deberta-v2", "AutoModelForMaskedLM", legacy=False)
    edit_config(tmp_path, legacy=None)
    assert "legacy" not in json.loads((tmp_path / "config.json").read_text())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["mask_predictions.dense.weight"] = torch.zeros(3, 3)
    tensors["deberta.embeddings.position_embeddings.weight"] = torch.zeros(16, 12)
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    check_head(make_engine(checkpoint), checkpoint, "masked_lm", model)
