"""The task embed: the numbers of sentence-transformers from the same files, on every engine."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import cosines
from texts import varied_texts

from bothways import Encoder
from bothways.checkpoint import open_checkpoint
from bothways.embed_spec import POOLINGS
from bothways.errors import CheckpointError, InputError

LoadEncoder = Callable[..., Encoder]


@pytest.fixture
def small(bert_folder: Path, tmp_path: Path, load: LoadEncoder) -> Callable[..., tuple[Any, Encoder]]:
    """Builds a sentence-transformers model on the small network, and opens what it saves as an Encoder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    def build(*modules: Any, mode: Any = "mean", include_prompt: bool = True, **settings: Any) -> tuple[Any, Encoder]:
        first = [Transformer(str(bert_folder)), Pooling(20, mode, include_prompt=include_prompt)]
        model = SentenceTransformer(modules=[*first, *modules], device="cpu", **settings)
        model.save_pretrained(str(tmp_path / "saved"))
        return model, load(tmp_path / "saved")

    return build


def dense(size: int, out: int, activation: str = "Tanh", bias: bool = True) -> Any:
    import torch
    from sentence_transformers.base.modules import Dense

    torch.manual_seed(out)
    return Dense(size, out, bias=bias, activation_function=getattr(torch.nn, activation)())


def test_embeddings_equal_sentence_transformers(encoder: Encoder, oracle: Any) -> None:
    texts = varied_texts()
    found = encoder.embed(texts)
    assert found.shape == (len(texts), 384)
    assert found.dtype == np.float32
    assert cosines(found, oracle.encode(texts)).min() >= 0.999999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("mode", [*POOLINGS, ("cls", "mean", "lasttoken")])
def test_every_pooling_of_the_real_model_equals_sentence_transformers(encoder: Encoder, oracle: Any, mode: Any) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    names = [{"mean_sqrt_len": "mean_sqrt_len_tokens"}.get(m, m) for m in ([mode] if isinstance(mode, str) else mode)]
    model = SentenceTransformer(modules=[oracle[0], Pooling(384, names)], device="cpu")
    texts = varied_texts(36)
    found = encoder.embed(texts, pooling=mode, normalize=False)
    expected = model.encode(texts)
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.999999
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("mode", ["max", ("mean", "cls"), ("weightedmean", "lasttoken", "mean_sqrt_len_tokens")])
def test_the_checkpoints_own_pooling_is_used_in_its_own_order(small: Any, mode: Any) -> None:
    model, encoder = small(mode=mode)
    texts = varied_texts(60)
    np.testing.assert_allclose(encoder.embed(texts), model.encode(texts), atol=2e-5)


def test_a_network_in_a_subfolder_embeds_as_in_sentence_transformers(
    load: LoadEncoder, minilm: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    modules = json.loads((minilm / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    shutil.copytree(minilm / "1_Pooling", tmp_path / "1_Pooling")
    shutil.copytree(minilm, tmp_path / "0_Transformer", ignore=shutil.ignore_patterns("1_Pooling", "modules.json"))
    texts = ["The network lies one folder down.", "short"]
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    np.testing.assert_allclose(load(tmp_path).embed(texts), expected, rtol=0, atol=2e-5)


def test_prompts_are_put_in_front_as_in_sentence_transformers(small: Any) -> None:
    prompts = {"query": "query: ", "passage": "a passage to be found: "}
    model, encoder = small(prompts=prompts, default_prompt_name="passage")
    texts = varied_texts(40)
    for options in ({}, {"prompt_name": "query"}, {"prompt": "other "}, {"prompt": ""}, {"prompt_name": "document"}):
        np.testing.assert_allclose(encoder.embed(texts, **options), model.encode(texts, **options), atol=2e-5)
    both = encoder.embed(texts, prompt="other ", prompt_name="query")
    np.testing.assert_array_equal(both, encoder.embed(texts, prompt="other "))


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "weightedmean", ("cls", "mean")])
def test_prompt_tokens_are_left_out_of_the_pooling_where_the_checkpoint_says_so(small: Any, mode: Any) -> None:
    model, encoder = small(mode=mode, include_prompt=False, prompts={"query": "represent this sentence: "})
    texts = varied_texts(40)
    for options in ({}, {"prompt_name": "query"}, {"prompt": "x"}):
        np.testing.assert_allclose(encoder.embed(texts, **options), model.encode(texts, **options), atol=2e-5)


def test_a_prompt_that_leaves_nothing_of_a_text_is_an_error(small: Any) -> None:
    _, encoder = small(include_prompt=False)
    with pytest.raises(InputError, match="has 32 tokens, the limit is 12: nothing of a text would be left"):
        encoder.embed(["text"], prompt="word " * 30, max_length=12)
    with pytest.raises(InputError, match="only the first window has them"):
        encoder.embed(["text"], prompt="word", truncation="window")


@pytest.mark.parametrize("activation", ["Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"])
def test_dense_layers_equal_sentence_transformers(small: Any, activation: str) -> None:
    model, encoder = small(dense(20, 9, activation), dense(9, 33, "Identity", bias=False))
    texts = varied_texts(40)
    found = encoder.embed(texts)
    np.testing.assert_allclose(found, model.encode(texts), atol=2e-5)
    np.testing.assert_array_equal(encoder.embed(texts[7])[0], found[7])


def test_dense_weights_of_another_shape_are_refused(small: Any) -> None:
    _, encoder = small(dense(20, 9))
    folder = encoder.checkpoint.folder / encoder.spec.embed.dense[0].folder
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"out_features": 9', '"out_features": 8'))
    other = Encoder(open_checkpoint(encoder.checkpoint.folder), encoder.tokenizer, encoder.engine)
    with pytest.raises(CheckpointError, match=r"'linear.weight' with shape \(9, 20\); .* asks for \(8, 20\)"):
        other.embed("text")


def test_dense_weights_that_are_missing_are_refused(small: Any) -> None:
    _, encoder = small(dense(20, 9))
    (encoder.checkpoint.folder / encoder.spec.embed.dense[0].folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="pytorch_model.bin is never read"):
        encoder.embed("text")


def test_a_pooling_that_the_dense_layer_does_not_take_is_refused(small: Any) -> None:
    _, encoder = small(dense(20, 9))
    with pytest.raises(InputError, match=r"takes 20 values, but cls\+mean pooling gives 40; leave pooling at"):
        encoder.embed("text", pooling=["mean", "cls"])


def test_dimensions_are_cut_then_normalized(encoder: Encoder, oracle: Any) -> None:
    texts = varied_texts(40)
    found = encoder.embed(texts, dimensions=100)
    expected = oracle.encode(texts, truncate_dim=100, normalize_embeddings=True)
    assert found.shape == (40, 100)
    assert cosines(found, expected).min() >= 0.999999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    plain = encoder.embed(texts, normalize=False)
    np.testing.assert_array_equal(encoder.embed(texts, normalize=False, dimensions=100), plain[:, :100])


def test_the_checkpoints_own_dimensions_are_used(small: Any) -> None:
    model, encoder = small(truncate_dim=12)
    texts = varied_texts(40)
    np.testing.assert_allclose(encoder.embed(texts), model.encode(texts), atol=2e-5)
    assert encoder.embed(texts, dimensions=20).shape == (40, 20)


@pytest.mark.parametrize("dimensions", [0, -1, 385, True, 2.5])
def test_dimensions_outside_the_vector_are_refused(encoder: Encoder, dimensions: Any) -> None:
    with pytest.raises(InputError, match="the embeddings have 384 values, so pass 1 to 384"):
        encoder.embed("text", dimensions=dimensions)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precision_equals_sentence_transformers_on_the_same_vectors(encoder: Encoder, precision: str) -> None:
    from sentence_transformers.util import quantize_embeddings

    texts = varied_texts(120)
    expected = quantize_embeddings(encoder.embed(texts), precision)
    found = encoder.embed(texts, precision=precision)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_stream_in_int8_needs_ranges(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="which a stream does not have; pass ranges"):
        encoder.embed(iter(["a", "b"]), precision="int8")
    vectors = encoder.embed(["a", "b"])
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    found = list(encoder.embed(iter(["a", "b"]), precision="int8", ranges=ranges))
    np.testing.assert_array_equal(found, encoder.embed(["a", "b"], precision="int8"))
    assert next(encoder.embed(iter(["a"]), precision="binary")).shape == (48,)


def test_a_texts_vector_has_the_same_bits_in_any_company(encoder: Encoder) -> None:
    texts = varied_texts(60)
    together = encoder.embed(texts)
    order = random.Random(5).sample(range(len(texts)), len(texts))
    np.testing.assert_array_equal(encoder.embed([texts[n] for n in order]), together[order])
    for n in range(0, len(texts), 7):
        np.testing.assert_array_equal(encoder.embed(texts[n])[0], together[n])


def test_the_token_budget_never_changes_a_bit(load: LoadEncoder, bert_folder: Path) -> None:
    texts = varied_texts(80)
    options: dict[str, Any] = {"pooling": ["max", "mean", "weightedmean"], "normalize": True, "dimensions": 37}
    results = [load(bert_folder, batch_tokens=n).embed(texts, **options) for n in (1, 50, 700, 100_000)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_an_iterator_gives_an_iterator_of_rows(encoder: Encoder) -> None:
    texts = varied_texts(40)
    rows = encoder.embed(iter(texts))
    assert isinstance(rows, Iterator)
    first = next(rows)
    assert first.shape == (384,)
    np.testing.assert_array_equal(np.stack([first, *rows]), encoder.embed(texts))


def test_one_text_gives_one_row_and_no_text_gives_none(encoder: Encoder) -> None:
    assert encoder.embed("hello").shape == (1, 384)
    assert encoder.embed(("hello", "world")).shape == (2, 384)
    assert encoder.embed(np.array(["hello", "world"])).shape == (2, 384)
    assert encoder.embed([]).shape == (0, 384)
    assert encoder.embed([], dimensions=7, precision="int8").shape == (0, 7)
    assert encoder.embed([], truncation="window").dtype == np.float32
    assert list(encoder.embed(iter([]))) == []


def test_awkward_texts_are_embedded(encoder: Encoder) -> None:
    texts = ["", "\0", "a" * 100_000, "🎉" * 50, "\u200b", "\n\n"]
    assert np.isfinite(encoder.embed(texts)).all()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", 3], "text 1 is 3; it must be a string"),
        ([("a", "b")], r"text 0 is \('a', 'b'\); it must be a string"),
        (None, "texts is None; pass a string, a list of them or an iterator"),
        (b"bytes", "texts is b'bytes'"),
        ({"a": 1}, "texts is {'a': 1}"),
        (["fine", "\ud800"], "text 1 has a lone surrogate"),
    ],
)
def test_what_is_no_text_is_named(encoder: Encoder, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.embed(texts)


def test_a_stream_delivers_what_came_before_a_bad_text(encoder: Encoder) -> None:
    rows = encoder.embed(iter(["a", "b", 3]))
    assert len([next(rows), next(rows)]) == 2
    with pytest.raises(InputError, match="text 2 is 3"):
        next(rows)
