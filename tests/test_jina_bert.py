"""Jina's BERT: known by its auto_map, computed as described at every level and dtype, near misses refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_batch, rows_of, select
from jina_checkpoints import IMPLEMENTATION, JINA, QK_POST_NORM, JinaTwin, jina_config, save_jina
from reference import ReferenceEngine
from safetensors.numpy import load_file, save_file

from bothways import Encoder, families
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine
from bothways.engines.positions import alibi_by_distance, alibi_slopes
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.spec import DTYPES

# Sizes that fill whole tiles and vectors, and sizes that fill none.
EVEN = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 1100}
ODD = {"hidden_size": 15, "num_attention_heads": 3, "intermediate_size": 7}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    (IMPLEMENTATION, {}),
    (IMPLEMENTATION, EVEN | {"feed_forward_type": "reglu"}),
    (IMPLEMENTATION, ODD),
    (QK_POST_NORM, {}),
    (QK_POST_NORM, EVEN),
    (QK_POST_NORM, ODD | {"feed_forward_type": "reglu"}),
    (QK_POST_NORM, ODD | {"hidden_size": 40, "num_attention_heads": 1}),
]


def spec_of(repository: str, **changes: Any) -> Any:
    config = jina_config(repository, **changes)
    return families.find(config).spec(config)


def copy_tokenizer(minilm: Path, folder: Path) -> None:
    shutil.copy(minilm / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 8192}')


def check_states(folder: Path, twin: JinaTwin, lengths: tuple[int, ...]) -> None:
    checkpoint = open_checkpoint(folder)
    batch = make_batch(checkpoint.spec, lengths)
    for engine in (ReferenceEngine(checkpoint), NativeEngine(checkpoint, threads=2)):
        layers = engine.encode(batch, hidden_states=True).layers
        assert layers is not None
        for begin, end in zip(batch.starts, batch.starts[1:], strict=False):
            expected = twin.hidden_states(batch.ids[begin:end], batch.token_types[begin:end])
            for ours, theirs in zip(layers, expected, strict=True):
                assert np.abs(ours[begin:end] - theirs).max() <= 1e-4 * max(1.0, np.abs(theirs).max()), engine.name


@pytest.mark.parametrize(("repository", "config"), VARIANTS)
def test_hidden_states_are_as_described(tmp_path: Path, level: str, repository: str, config: dict[str, Any]) -> None:
    tensors = save_jina(tmp_path, repository, **config)
    check_states(tmp_path, JinaTwin(JINA | config, tensors), (1, 2, 3, 7, 12, 16, 33, 130))


@pytest.mark.parametrize("repository", [IMPLEMENTATION, QK_POST_NORM])
def test_long_texts_are_as_described(tmp_path: Path, level: str, repository: str) -> None:
    tensors = save_jina(tmp_path, repository, num_hidden_layers=1)
    check_states(tmp_path, JinaTwin(JINA | {"num_hidden_layers": 1}, tensors), (1500, 700))


@pytest.mark.parametrize(("repository", "config"), VARIANTS)
def test_every_dtype_is_near_the_twin(tmp_path: Path, level: str, repository: str, config: dict[str, Any]) -> None:
    twin = JinaTwin(JINA | config, save_jina(tmp_path, repository, **config))
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec)
    pairs = zip(rows_of(batch, batch.ids), rows_of(batch, batch.token_types), strict=True)
    rows = [twin.hidden_states(ids, types)[-1] for ids, types in pairs]
    expected = np.concatenate(rows)
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 0.04), ("int8", 0.15)):
        ours = NativeEngine(checkpoint, dtype=dtype).encode(batch).rows
        assert np.abs(ours - expected).max() <= tolerance * max(1.0, float(np.abs(expected).max())), dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("repository", "config"), VARIANTS)
def test_batches_and_threads_change_no_bit(
    tmp_path: Path, level: str, dtype: str, repository: str, config: dict[str, Any]
) -> None:
    save_jina(tmp_path, repository, **config)
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec, (5, 1, 40, 130, 12, 33, 2))
    one, three = (NativeEngine(checkpoint, dtype=dtype, threads=n) for n in (1, 3))
    together = rows_of(batch, one.encode(batch).rows)
    np.testing.assert_array_equal(np.concatenate(together), three.encode(batch).rows)
    for n, expected in enumerate(together):
        np.testing.assert_array_equal(three.encode(select(batch, [n])).rows, expected)


def test_slopes_are_those_of_alibi() -> None:
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    # Of 16 heads' slopes 2 ** -0.5, 2 ** -1, 2 ** -1.5, ... the first, third, fifth and seventh follow those of 8.
    np.testing.assert_allclose(alibi_slopes(12)[:8], alibi_slopes(8), rtol=0, atol=0)
    np.testing.assert_allclose(alibi_slopes(12)[8:], [0.70710678, 0.35355339, 0.17677670, 0.08838835], rtol=1e-7)
    np.testing.assert_array_equal(alibi_by_distance(2, 2), -np.outer([2**-4, 2**-8], [2, 1, 0, 1, 2]))


def test_reranks_as_described(tmp_path: Path, minilm: Path) -> None:
    """jina-reranker-v1 has BERT's head: one score from the pooler's output."""
    changes = {
        "vocab_size": 30522,
        "id2label": {"0": "LABEL_0"},
        "architectures": ["JinaBertForSequenceClassification"],
    }
    tensors = save_jina(tmp_path, prefix="bert.", **changes)
    copy_tokenizer(minilm, tmp_path)
    random = np.random.default_rng(1)
    weight, bias, out = (random.normal(0, 0.3, shape).astype(np.float32) for shape in ((12, 12), (12,), (1, 12)))
    head = {"bert.pooler.dense.weight": weight, "bert.pooler.dense.bias": bias}
    head |= {"classifier.weight": out, "classifier.bias": np.full(1, 0.5, np.float32)}
    save_file(load_file(tmp_path / "model.safetensors") | head, tmp_path / "model.safetensors")
    model = Encoder.from_pretrained(tmp_path)
    ranked = model.rerank("where is it", ["it is here", "no"], raw_scores=True)
    for result in ranked:
        pair = model.tokenizer.tokenize([("where is it", ["it is here", "no"][result.index])])[0]
        first = JinaTwin(JINA, tensors).hidden_states(pair.ids, pair.token_types)[-1][0]
        expected = out @ np.tanh(weight @ first + bias) + 0.5
        np.testing.assert_allclose(result.score, expected[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("repository", [IMPLEMENTATION, QK_POST_NORM])
def test_every_tensor_has_its_place(tmp_path: Path, repository: str) -> None:
    stored = save_jina(tmp_path, repository)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.surplus == ()
    assert sum(tensor.array.size for tensor in checkpoint.tensors.values()) == sum(a.size for a in stored.values())


def test_config_says_bert_and_points_to_jinas_code() -> None:
    for repository in (IMPLEMENTATION, QK_POST_NORM):
        spec = spec_of(repository)
        assert (spec.family, spec.alibi, spec.position_table, spec.max_tokens) == ("jina_bert", True, False, 8192)
        assert (spec.gated, spec.activation) == (True, "gelu")
        assert spec.query_key_norm == (repository == QK_POST_NORM)
    assert spec_of(IMPLEMENTATION, feed_forward_type="reglu", hidden_act="silu").activation == "relu"


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoModel": "modeling_bert.JinaBertModel"},
        {"AutoModel": "someone/jina-bert-implementation--modeling_bert.JinaBertModel"},
        {"AutoModel": "jinaai/jina-bert-implementation-2--modeling_bert.JinaBertModel"},
        {"AutoModel": f"{IMPLEMENTATION}--modeling_bert.JinaBertModel", "AutoModelForMaskedLM": "mine.Model"},
        {"AutoModel": f"{IMPLEMENTATION}--a.A", "AutoConfig": f"{QK_POST_NORM}--b.B"},
        {"AutoModel": [f"{IMPLEMENTATION}--a.A", None]},
    ],
)
def test_other_code_is_refused(auto_map: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match="own code for .*never runs a checkpoint's code"):
        spec_of(IMPLEMENTATION, auto_map=auto_map)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"position_embedding_type": "absolute"}, UnsupportedModel, "position_embedding_type 'absolute'"),
        ({"position_embedding_type": ...}, UnsupportedModel, "position_embedding_type 'absolute'"),
        ({"feed_forward_type": "original"}, UnsupportedModel, "'original', but .* geglu and reglu only"),
        ({"feed_forward_type": ...}, UnsupportedModel, "feed_forward_type is None"),
        ({"is_decoder": True}, UnsupportedModel, "is_decoder"),
        ({"max_position_embeddings": 2**17 + 1}, CheckpointError, "131072 at most"),
        ({"model_type": "roberta"}, UnsupportedModel, "own code"),
    ],
)
def test_other_networks_are_refused(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        spec_of(QK_POST_NORM, **change)


def test_one_layout_under_the_other_codes_name_is_refused(tmp_path: Path) -> None:
    save_jina(tmp_path / "a", IMPLEMENTATION)
    save_jina(tmp_path / "b", QK_POST_NORM)
    shutil.copy(tmp_path / "a" / "config.json", tmp_path / "b" / "config.json")
    with pytest.raises(CheckpointError, match="tensors that config.json calls for are missing"):
        open_checkpoint(tmp_path / "b")


def test_texts_embed_as_described(tmp_path: Path, minilm: Path) -> None:
    """End to end, with a real tokenizer and one text far past BERT's 512 tokens."""
    tensors = save_jina(tmp_path, vocab_size=30522)
    copy_tokenizer(minilm, tmp_path)
    model = Encoder.from_pretrained(tmp_path)
    texts = ["the quick brown fox", "jumps over the lazy dog " * 150]
    twin = JinaTwin(JINA, tensors)
    for text, vector in zip(texts, model.embed(texts), strict=True):
        sequence = model.tokenizer.tokenize([text])[0]
        expected = twin.hidden_states(sequence.ids, sequence.token_types)[-1].mean(axis=0)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-4)
    assert len(model.tokenizer.tokenize(texts)[1]) == 752


def test_the_masked_language_head_keeps_hidden_act(tmp_path: Path) -> None:
    config = jina_config(IMPLEMENTATION, feed_forward_type="reglu", hidden_act="gelu")
    family = families.find(config)
    assert family.spec(config).activation == "relu"
    assert family.heads_of(config)["masked_lm"].steps[0].activation == "gelu"
