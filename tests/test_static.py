"""Static embeddings: sentence-transformers' StaticEmbedding is an oracle, model2vec's rules are worked out by hand.

model2vec itself is no requirement of the tests; what is worked out here is what its version 0.10 gives.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import models, pre_tokenizers

from bothways import Encoder
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine
from bothways.errors import CheckpointError, InputError, UnsupportedModel
from bothways.spec import DTYPES

TEXTS = [
    "hello world",
    "",
    "   ",
    "The quick brown fox jumps over it.",
    "word " * 700,
    "Straße, 中文, \u0f00 😀",
    "[CLS] a",
]

# Tokens of 1, 1, 2, 3 and 5 characters: the median is 2.
VOCABULARY = {"?": 0, "a": 1, "bb": 2, "ccc": 3, "ddddd": 4}
TABLE = np.array([[100, 100], [1, 0], [0, 2], [4, 4], [-8, 16]], np.float32)


def save_static(folder: Path, minilm: Path, *more: Any, size: int = 50, truncation: bool = False) -> Any:
    """Save a random StaticEmbedding with MiniLM's tokenizer, and give the model that sentence-transformers loads."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(3)
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    if not truncation:
        tokenizer.no_truncation()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=size), *more], device="cpu").save(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


def save_model2vec(
    folder: Path, config: dict[str, Any] | None = None, tokenizer: tokenizers.Tokenizer | None = None, **tensors: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"embeddings": TABLE} | tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"} | (config or {})))
    (tokenizer or words()).save(str(folder / "tokenizer.json"))
    return folder


def words() -> tokenizers.Tokenizer:
    """Words between spaces, with a special token in front that static embeddings must not have."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="a $A", special_tokens=[("a", 1)])
    return tokenizer


@pytest.mark.parametrize("normalize", [False, True])
def test_equals_sentence_transformers(
    load: Callable[..., Encoder], tmp_path: Path, minilm: Path, normalize: bool
) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    oracle = save_static(tmp_path, minilm, *([Normalize()] if normalize else []))
    model = load(tmp_path)
    # Both add in float32; the naive engine's sum is exact.
    tolerance = 1e-6 if model.engine.name == "native" else 5e-5
    np.testing.assert_allclose(model.embed(TEXTS), oracle.encode(TEXTS), rtol=0, atol=tolerance)
    assert not model.embed("").any()
    assert model.spec.family == "static" and model.tasks == ("encode", "embed", "similarity")
    assert model.spec.embed.pooling_from == "StaticEmbedding"
    expected = oracle.similarity(oracle.encode(TEXTS[:2]), oracle.encode(TEXTS[3:])).numpy()
    np.testing.assert_allclose(model.similarity(TEXTS[:2], TEXTS[3:]), expected, rtol=0, atol=1e-5)


def test_equals_sentence_transformers_with_modules_behind(tmp_path: Path, minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    save_static(tmp_path, minilm, Dense(50, 24), Normalize())
    for name in ("model.safetensors", "tokenizer.json"):  # as older versions save it, in a folder of its own
        (tmp_path / "0_StaticEmbedding").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "0_StaticEmbedding" / name)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0] |= {"path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    settings = json.loads((tmp_path / "config_sentence_transformers.json").read_text())
    prompts = {"prompts": {"query": "find: "}, "default_prompt_name": "query", "truncate_dim": 9}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings | prompts))
    oracle = SentenceTransformer(str(tmp_path), device="cpu", truncate_dim=9)
    ours = Encoder.from_pretrained(tmp_path).embed(TEXTS)
    assert ours.shape == (len(TEXTS), 9)
    # There the cut comes behind the scaling; here what is kept has length 1.
    expected = oracle.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_tokenizers_own_truncation_holds(tmp_path: Path, minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    """MiniLM's tokenizer.json cuts at 128 tokens, and so do static embeddings that are made with it."""
    oracle = save_static(tmp_path, minilm, truncation=True)
    model = Encoder.from_pretrained(tmp_path)
    assert model.tokenizer.max_tokens == 128
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(model.embed(TEXTS), oracle.encode(TEXTS), rtol=0, atol=1e-6)
    assert "1 of 7 texts were longer than 128 tokens" in caplog.text
    whole = model.embed(TEXTS[4], truncation="window")
    np.testing.assert_allclose(whole, model.embed("word"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_level_and_dtype_gives_the_same_bits(tmp_path: Path, minilm: Path, level: str, dtype: str) -> None:
    """There are no products: a mean of float32 numbers, whose order of addition depends on the text alone."""
    save_static(tmp_path, minilm, size=17)
    model = Encoder.from_pretrained(tmp_path, dtype=dtype, threads=3)
    together = model.embed(TEXTS * 40)
    table = open_checkpoint(tmp_path).tensors["embeddings.word"].float32()
    for n, text in enumerate(TEXTS):
        ids = model.tokenizer.tokenize([text])[0].ids
        expected = np.zeros(17, np.float32)
        for row in table[ids]:
            expected += row
        expected /= np.float32(max(len(ids), 1))
        np.testing.assert_array_equal(together[n :: len(TEXTS)], np.tile(expected, (40, 1)))
        np.testing.assert_array_equal(model.embed(text)[0], expected)


def test_token_vectors_are_rows_of_the_table(load: Callable[..., Encoder], tmp_path: Path, minilm: Path) -> None:
    save_static(tmp_path, minilm)
    out = load(tmp_path).encode(["hello world", ""], hidden_states=True, attentions=True)
    table = open_checkpoint(tmp_path).tensors["embeddings.word"].float32()
    assert out.tokens == [["hello", "world"], []]
    np.testing.assert_array_equal(out.last_hidden_state[0], table[out.input_ids[0]])
    assert out.last_hidden_state.shape == (2, 2, 50) and not out.last_hidden_state[1].any()
    assert out.hidden_states is not None and len(out.hidden_states) == 1
    assert out.pooler_output is None and "no pooler" in out.pooler_reason


def test_other_poolings_of_an_empty_text_are_zeros(load: Callable[..., Encoder], tmp_path: Path, minilm: Path) -> None:
    save_static(tmp_path, minilm)
    model = load(tmp_path)
    table = open_checkpoint(tmp_path).tensors["embeddings.word"].float32()
    ids = model.tokenizer.tokenize(["hello world"])[0].ids
    for pooling, expected in (("cls", table[ids[0]]), ("max", table[ids].max(axis=0)), ("lasttoken", table[ids[1]])):
        vectors = model.embed(["", "hello world"], pooling=pooling)
        np.testing.assert_array_equal(vectors, [np.zeros(50), expected])


def test_streams_of_many_texts_take_the_fast_tokenizer(tmp_path: Path, minilm: Path) -> None:
    save_static(tmp_path, minilm)
    texts = [f"{n} is a number, ünlike {TEXTS[n % len(TEXTS)][:40]}" for n in range(2000)] + [""] * 5000
    model, fresh = Encoder.from_pretrained(tmp_path), Encoder.from_pretrained(tmp_path)
    streamed = list(model.embed(iter(texts)))
    assert model.tokenizer._fast_made and model.tokenizer._fast_made[0] is not None
    for n in (0, 1, 2, 3, 4, 5, 6, 1999, 2000, 6999):
        np.testing.assert_array_equal(streamed[n], fresh.embed(texts[n])[0])


def test_text_of_many_tokens_equals_sentence_transformers(tmp_path: Path, minilm: Path) -> None:
    text = "".join(TEXTS) * 50
    oracle = save_static(tmp_path, minilm)
    np.testing.assert_allclose(
        Encoder.from_pretrained(tmp_path).embed([text]), oracle.encode([text]), rtol=0, atol=1e-6
    )


# --- model2vec: what is dropped, cut, weighted


def test_unknown_tokens_are_left_out_and_nothing_is_put_around(load: Callable[..., Encoder], tmp_path: Path) -> None:
    model = load(save_model2vec(tmp_path))
    vectors = model.embed(["a bb", "zz a zz bb zz", "zz", "", "ccc"])
    np.testing.assert_array_equal(vectors, [[0.5, 1], [0.5, 1], [0, 0], [0, 0], [4, 4]])
    out = model.encode("zz a zz bb")
    assert out.tokens == [["a", "bb"]]
    assert out.offsets[0].tolist() == [[3, 4], [8, 10]]
    np.testing.assert_array_equal(out.last_hidden_state[0], [[1, 0], [0, 2]])


def test_limit_counts_unknown_tokens_and_cuts_characters_first(tmp_path: Path) -> None:
    """With max_length 3, 3 * 2 characters are tokenized, 3 tokens of them are kept, and the known ones counted."""
    model = Encoder.from_pretrained(save_model2vec(tmp_path, {"max_length": 3}))
    assert model.spec.embed.max_tokens == 3
    assert model.spec.max_tokens > 10**9  # token vectors have no limit
    cases = {
        "a bb ccc": [0.5, 1],  # "a bb c": c is unknown
        "a a bb ccc": [2 / 3, 2 / 3],
        "zz a bb": [1, 0],  # "zz a b"
        "ccc ddddd": [4, 4],  # "ccc dd"
        "a a": [1, 0],
        "z z z a": [0, 0],
    }
    np.testing.assert_allclose(model.embed(list(cases)), list(cases.values()), rtol=1e-6)
    counts = [s.truncated for s in model.tokenizer.tokenize(list(cases), max_length=3)]
    assert counts == [1, 1, 1, 1, 0, 1]
    assert len(model.encode("a " * 1000).tokens[0]) == 1000


def test_cut_texts_are_told_and_refused(tmp_path: Path) -> None:
    model = Encoder.from_pretrained(save_model2vec(tmp_path, {"max_length": 3}))
    seen: list[tuple[int, int, int]] = []
    model.embed(["a", "a bb ccc"], progress=lambda *counts: seen.append(counts))
    assert seen == [(2, 3, 1)]
    with pytest.raises(InputError, match="text 1 has .* tokens, max_length is 3"):
        model.embed(["a", "a bb ccc"], truncation=False)
    np.testing.assert_array_equal(model.embed(["a a"], truncation=False), [[1, 0]])
    # Windows of 3 tokens: (a, ?, ?) and (bb, bb), each with its mean, weighted by known tokens.
    np.testing.assert_allclose(model.embed("a zz zz bb bb", truncation="window"), [[1 / 3, 4 / 3]], rtol=1e-6)
    np.testing.assert_array_equal(model.embed("zz " * 9, truncation="window"), [[0, 0]])


def test_length_is_512_tokens_unless_config_says_otherwise(tmp_path: Path) -> None:
    long = "a " * 512 + "bb " * 512
    limited = Encoder.from_pretrained(save_model2vec(tmp_path / "a"))
    np.testing.assert_array_equal(limited.embed(long), [[1, 0]])  # 1024 characters
    free = Encoder.from_pretrained(save_model2vec(tmp_path / "b", {"max_length": None}))
    np.testing.assert_array_equal(free.embed(long), [[0.5, 1]])
    np.testing.assert_array_equal(free.embed(long, max_length=2), [[1, 0]])


def test_mapping_and_weights_give_every_token_its_row(tmp_path: Path) -> None:
    rows = np.array([[1, 2], [10, 20]], np.float32)
    mapping, weights = np.array([0, 0, 1, 1, 0]), np.array([9, 1, 0.5, 2, 4.0])
    config = {"normalize": True}
    model = Encoder.from_pretrained(save_model2vec(tmp_path, config, embeddings=rows, mapping=mapping, weights=weights))
    np.testing.assert_array_equal(
        model.embed(["a", "bb", "ccc", "ddddd"], normalize=False), [[1, 2], [5, 10], [20, 40], [4, 8]]
    )
    np.testing.assert_allclose(model.embed(["a bb", ""]), [[0.2**0.5, 0.8**0.5], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8])
def test_tables_of_every_dtype_are_exact(tmp_path: Path, dtype: type) -> None:
    folder = save_model2vec(tmp_path, embeddings=TABLE.astype(dtype))
    np.testing.assert_array_equal(Encoder.from_pretrained(folder).embed(["bb", "ccc ddddd"]), [[0, 2], [-2, 10]])


def test_a_bfloat16_table_stays_where_it_is_mapped(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    folder = save_model2vec(tmp_path)
    save_torch({"embeddings": torch.from_numpy(TABLE).bfloat16()}, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors["embeddings.word"].dtype == "BF16"
    np.testing.assert_array_equal(Encoder.from_pretrained(folder).embed("ccc ddddd"), [[-2, 10]])


def test_unknown_ids_of_other_tokenizers(tmp_path: Path) -> None:
    unigram = tokenizers.Tokenizer(models.Unigram([("?", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    model = Encoder.from_pretrained(save_model2vec(tmp_path / "u", tokenizer=unigram))
    np.testing.assert_array_equal(model.embed(["azb", "z"]), [[0.5, 1], [0, 0]])
    none = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    model = Encoder.from_pretrained(save_model2vec(tmp_path / "b", tokenizer=none))
    np.testing.assert_array_equal(model.embed(["azb"]), [[50.5, 50]])


def test_sentence_transformers_reads_the_same_folder(tmp_path: Path) -> None:
    """Where every token is known and the text short, model2vec's rules and its own come to the same."""
    from sentence_transformers import SentenceTransformer

    weights = np.array([1, 2, 3, 4, 5], np.float32)
    folder = save_model2vec(tmp_path, {"normalize": True}, weights=weights, mapping=np.array([4, 3, 2, 1, 0]))
    modules = [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]
    modules += [{"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    texts = ["a bb", "ccc ddddd a", ""]
    ours = Encoder.from_pretrained(folder).embed(texts)
    np.testing.assert_allclose(ours, SentenceTransformer(str(folder), device="cpu").encode(texts), rtol=0, atol=1e-6)


# --- what is refused


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"embeddings": np.zeros((5, 2, 1), np.float32)}, r"shape \(5, 2, 1\), it must be \(tokens, values\)"),
        ({"embeddings": np.zeros((0, 2), np.float32)}, r"shape \(0, 2\)"),
        ({"embeddings": np.zeros((5, 2), np.int32)}, "table of static embeddings is I32"),
        ({"embeddings": np.zeros((4, 2), np.float32)}, "highest token id is 4, the word table has 4 rows"),
        ({"mapping": np.array([0, 1, 2, 3, 5])}, "mapping of tokens to rows has 0 to 5, but the table has 5 rows"),
        ({"mapping": np.array([-1, 1, 2, 3, 4])}, "has -1 to 4"),
        ({"mapping": np.zeros(5, np.float32)}, "mapping of tokens to rows is F32"),
        ({"mapping": np.zeros((5, 1), np.int64)}, r"of shape \(5, 1\), not whole numbers"),
        ({"weights": np.zeros(4, np.float32)}, r"of shape \(4,\), not floats of shape \(5,\)"),
        ({"weights": np.zeros(5, np.int64)}, "weights are I64"),
    ],
)
def test_tables_that_contradict_themselves_are_named(tmp_path: Path, tensors: dict[str, Any], match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        Encoder.from_pretrained(save_model2vec(tmp_path, **tensors))


def test_missing_parts_are_named(tmp_path: Path, minilm: Path) -> None:
    folder = save_model2vec(tmp_path / "m")
    save_file({"vectors": TABLE}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="'embedding.weight' or 'embeddings', .* their names: vectors"):
        open_checkpoint(folder)
    (save_model2vec(folder) / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer.json, which static embeddings need"):
        Encoder.from_pretrained(folder)
    for change, match in (({"max_length": 0}, "max_length is 0"), ({"normalize": "yes"}, "normalize is 'yes'")):
        with pytest.raises(CheckpointError, match=match):
            open_checkpoint(save_model2vec(folder, change))
    left = words()
    left.enable_truncation(5, direction="left")
    with pytest.raises(CheckpointError, match="cuts texts at their beginning"):
        Encoder.from_pretrained(save_model2vec(folder, tokenizer=left))


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        (["StaticEmbedding", "Pooling"], "no Pooling follows"),
        (["StaticEmbedding", "StaticEmbedding"], "one Transformer"),
        (["Transformer", "StaticEmbedding"], "one Transformer"),
    ],
)
def test_other_modules_around_a_table_are_refused(tmp_path: Path, kinds: list[str], match: str) -> None:
    folder = save_model2vec(tmp_path)
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModel, match=match):
        open_checkpoint(folder)


def test_a_network_with_layers_takes_no_empty_sequence(tmp_path: Path, bert_folder: Path) -> None:
    engine = NativeEngine(open_checkpoint(bert_folder))
    empty = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="sequence 0 of the batch has no tokens"):
        engine._model.encode(
            empty, empty, empty, np.zeros(2, np.int32), rows="mean", hidden_states=False, attentions=False
        )


def test_command_line_embeds(tmp_path: Path) -> None:
    folder = save_model2vec(tmp_path)
    command = [sys.executable, "-m", "bothways", "embed", "a bb", "", "--model", str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["embedding"] for line in done.stdout.splitlines()] == [[0.5, 1.0], [0.0, 0.0]]
