"""Sparse embeddings: sentence-transformers' SparseEncoder from the same files, and scores made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import TEXTS, save_task

from bothways import Encoder, SparseEmbedding
from bothways.embed_spec import SpladeSpec
from bothways.errors import CheckpointError, InputError, TaskError, UnsupportedModel
from bothways.tasks.scores import Fold
from bothways.tasks.sparse import _FOLDS, sparse_similarities

LoadEncoder = Callable[..., Encoder]


def save_splade(folder: Path, pooling: str = "max", activation: str = "relu", **options: Any) -> Any:
    """Save a SparseEncoder on a random masked language model, and return it."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    network = save_task(folder.with_name("network"), options.pop("family", "bert"), "masked_lm")
    parts = [
        Transformer(str(network), transformer_task="fill-mask"),
        SpladePooling(pooling_strategy=pooling, activation_function=activation),
    ]
    model = SparseEncoder(modules=parts, device="cpu", **options)
    model.save_pretrained(str(folder))
    return model


def wide(embedding: SparseEmbedding, size: int) -> np.ndarray:
    weights = np.zeros(size, np.float32)
    weights[embedding.ids] = embedding.weights
    return weights


@pytest.mark.parametrize(
    ("family", "pooling", "activation"),
    [
        ("bert", "max", "relu"),
        ("bert", "sum", "log1p_relu"),
        ("distilbert", "max", "log1p_relu"),
        ("roberta", "sum", "relu"),
    ],
)
def test_weights_equal_sparse_encoder(
    load: LoadEncoder, tmp_path: Path, family: str, pooling: str, activation: str
) -> None:
    model = save_splade(tmp_path / "splade", pooling, activation, family=family)
    encoder, expected = load(tmp_path / "splade"), model.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert encoder.spec.embed.splade == SpladeSpec(pooling, activation)
    found = encoder.embed(TEXTS, sparse=True)
    for embedding, weights in zip(found, expected, strict=True):
        np.testing.assert_allclose(wide(embedding, len(weights)), weights, rtol=1e-4, atol=3e-4)
        assert embedding.ids.dtype == np.int32 and embedding.weights.dtype == np.float32
        assert (np.diff(embedding.weights) <= 0).all() and (embedding.weights > 0).all()
        assert embedding.terms == tuple(model.tokenizer.convert_ids_to_tokens(embedding.ids.tolist()))
    scores = model.similarity(model.encode(TEXTS), model.encode(TEXTS)).numpy()
    np.testing.assert_allclose(encoder.similarity(found, found), scores, rtol=1e-3)
    np.testing.assert_array_equal(encoder.similarity(TEXTS, found), encoder.similarity(found, found))


def test_a_masked_language_model_without_modules_is_a_splade_too(load: LoadEncoder, tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    folder = save_task(tmp_path, "bert", "masked_lm")
    expected = SparseEncoder(str(folder), device="cpu").encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    for embedding, weights in zip(load(folder).embed(TEXTS, sparse=True), expected, strict=True):
        np.testing.assert_allclose(wide(embedding, len(weights)), weights, atol=3e-4)


def test_prompts_and_limits_are_the_checkpoints(load: LoadEncoder, tmp_path: Path) -> None:
    prompts = {"query": "find: ", "document": "text: "}
    model = save_splade(tmp_path / "splade", prompts=prompts, default_prompt_name="document")
    encoder, long = load(tmp_path / "splade"), "fox dog " * 60
    size = encoder.spec.vocab_size
    counts: list[tuple[int, int, int]] = []
    for name in (None, "query"):
        expected = model.encode([long, "fox"], prompt_name=name, convert_to_sparse_tensor=False).numpy()
        found = encoder.embed([long, "fox"], sparse=True, prompt_name=name, progress=lambda *n: counts.append(n))
        np.testing.assert_allclose([wide(each, size) for each in found], expected, atol=3e-4)
        assert counts[-1][::2] == (2, 1)
    with pytest.raises(InputError, match="text 0 has"):
        encoder.embed(long, sparse=True, truncation=False)


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_a_texts_bits_do_not_depend_on_company(load: LoadEncoder, tmp_path: Path, pooling: str) -> None:
    save_splade(tmp_path / "splade", pooling)
    texts = [*TEXTS, "a longer text about foxes and dogs, " * 4] * 2
    together = load(tmp_path / "splade").embed(texts, sparse=True)
    stream = load(tmp_path / "splade", batch_tokens=30).embed(iter(texts[::-1]), sparse=True)
    assert isinstance(stream, Iterator)
    for one, other in zip(together, list(stream)[::-1], strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.weights, other.weights)


def folded(fold: Fold, *rows: list[float]) -> list[list[float]]:
    scores = [np.array(row, np.float32) for row in rows]
    total = fold.begin(scores[0])
    for row in scores[1:]:
        total = fold.add(total, row)
    return fold.end(total).tolist()


def test_scores_become_weights_as_worked_out_by_hand() -> None:
    e = float(np.e)
    first, second = [e - 1, -3.0, 0.0, e**2 - 1], [e**2 - 1, -1.0, 0.0, e**2 - 1]
    maxima = folded(_FOLDS["max"]("relu"), first, second)
    np.testing.assert_allclose(maxima, [[0, 2], [3, 2]], rtol=1e-6)  # equal weights: the lower id first
    sums = folded(_FOLDS["sum"]("relu"), first, second)
    np.testing.assert_allclose(sums, [[3, 4], [0, 3]], rtol=1e-6)
    twice = folded(_FOLDS["sum"]("log1p_relu"), first, second)
    np.testing.assert_allclose(twice, [[3, 2 * np.log(3)], [0, np.log(2) + np.log(3)]], rtol=1e-6)
    assert folded(_FOLDS["max"]("relu"), [-1.0, 0.0]) == []
    assert np.isnan(folded(_FOLDS["max"]("relu"), [1.0, np.nan], [1.0, 1.0])).all()


def embedding(**weights: float) -> SparseEmbedding:
    ids = [ord(term) for term in weights]
    return SparseEmbedding(np.array(ids, np.int32), np.array([*weights.values()], np.float32), tuple(weights))


def test_dot_products_of_terms_that_both_have() -> None:
    one, other = embedding(c=3, a=2, b=1), embedding(b=5, d=4, c=0.5)
    assert one.dot(other) == other.dot(one) == 6.5
    assert one.dot(embedding(z=1)) == 0
    assert len(one) == 3
    assert repr(one) == "SparseEmbedding('c': 3, 'a': 2, 'b': 1)"


def test_scores_that_are_no_numbers_name_the_text(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_task(tmp_path, "bert", "masked_lm")
    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.bias"][5] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="text 0 gets scores that are NaN or infinite"):
        Encoder.from_pretrained(folder).embed("fox", sparse=True)


def test_wrong_uses_are_refused(encoder: Encoder, load: LoadEncoder, tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"can't embed\(sparse=True\): it has no masked lm head .*; it can encode, embed"
    ):
        encoder.embed("text", sparse=True)
    save_splade(tmp_path / "splade")
    splade = load(tmp_path / "splade")
    with pytest.raises(TaskError, match="not made for one dense vector a text; pass sparse=True"):
        splade.embed("text")
    for options in ({"pooling": "mean"}, {"normalize": True}, {"dimensions": 3}, {"precision": "int8"}):
        with pytest.raises(
            InputError, match=f"{next(iter(options))}=.* is for one dense vector a text, not for sparse"
        ):
            splade.embed("text", sparse=True, **options)
    with pytest.raises(InputError, match="a mixes sparse embeddings with something else"):
        splade.similarity([embedding(a=1), "text"], "text")
    with pytest.raises(InputError, match="sparse is 'yes'"):
        splade.embed("text", sparse="yes")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"pooling_strategy": "mean"}, "supported are max, sum"), ({"activation_function": "gelu"}, "relu, log1p_relu")],
)
def test_a_splade_pooling_that_is_not_computed_is_refused(
    load: LoadEncoder, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    save_splade(tmp_path / "splade")
    path = tmp_path / "splade" / "1_SpladePooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnsupportedModel, match=message):
        load(tmp_path / "splade")


def test_rows_that_the_tokenizer_has_no_token_for_keep_names_of_their_own(load: LoadEncoder, tmp_path: Path) -> None:
    folder = save_task(tmp_path, "bert", "masked_lm", vocab_size=700)
    encoder = load(folder)
    known = encoder.tokenizer.vocabulary.size
    assert known < 700
    found = encoder.embed(TEXTS[0], sparse=True)[0]
    assert max(found.ids) >= known
    assert len(set(found.terms)) == len(found.terms) == len(found.ids)
    assert f"[id {max(found.ids)}]" in found.terms


def test_each_is_compared_with_each() -> None:
    random = np.random.default_rng(4)
    some = []
    for size in (0, 1, 5, 40, 0, 90):
        ids = random.choice(200, size, replace=False).astype(np.int32)
        some.append(SparseEmbedding(ids, random.random(size).astype(np.float32), tuple(map(str, ids))))
    table = np.stack([wide(one, 200) for one in some]).astype(np.float64)
    np.testing.assert_allclose(sparse_similarities(some, some[1:], "dot"), table @ table[1:].T, rtol=1e-6)
    for a, b in ((some, []), ([], some), ([some[0]], [some[4]])):
        assert not sparse_similarities(a, b, "cosine").any()
        assert sparse_similarities(a, b, "dot").shape == (len(a), len(b))
    np.testing.assert_array_equal(
        sparse_similarities(some[3:4], some[5:], "dot"), sparse_similarities(some, some, "dot")[3:4, 5:]
    )
