"""The task embed at its limits: long texts, windows, budgets, progress, many threads, little memory."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import cosines
from texts import varied_texts

from bothways import Encoder
from bothways.errors import InputError
from bothways.tasks.embed import token_limit

LoadEncoder = Callable[..., Encoder]


def test_a_long_text_is_cut_at_the_checkpoints_limit_for_embedding(encoder: Encoder, oracle: Any) -> None:
    text = "word " * 400
    counts = []
    found = encoder.embed(["short", text], progress=lambda *done: counts.append(done))
    assert cosines(found, oracle.encode(["short", text])).min() >= 0.999999
    assert counts[-1] == (2, 3 + 256, 1)


def test_a_cut_is_logged_where_nobody_counts(encoder: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bothways"):
        encoder.embed(["short", "word " * 400])
    assert "1 of 2 texts were longer than 256 tokens and were cut" in caplog.text


def test_a_long_text_is_an_error_where_it_must_not_be_cut(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="text 1 has 402 tokens"):
        encoder.embed(["short", "word " * 400], truncation=False)


def test_the_embedding_limit_wins_over_the_tokenizers(
    load: LoadEncoder, bert_folder: Path, copy_of: Callable[..., Path]
) -> None:
    from sentence_transformers import SentenceTransformer

    pooling = {"word_embedding_dimension": 20, "pooling_mode_mean_tokens": True}
    types = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(types)
    ]
    settings = json.loads((bert_folder / "tokenizer_config.json").read_text())
    files: dict[str, Any] = {"modules": modules, "1_Pooling/config": pooling}
    files["tokenizer_config"] = {**settings, "model_max_length": 16}
    files["sentence_bert_config"] = {"max_seq_length": 40, "do_lower_case": False}
    folder = copy_of(bert_folder, **files)
    texts = ["one two three " * words for words in (1, 6, 12, 30)]
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    encoder = load(folder)
    assert token_limit(encoder.spec, encoder.tokenizer) == 40
    np.testing.assert_allclose(encoder.embed(texts), expected, atol=2e-5)


def test_the_embedding_limit_never_exceeds_the_position_table(
    load: LoadEncoder, bert_folder: Path, copy_of: Callable[..., Path]
) -> None:
    encoder = load(copy_of(bert_folder, sentence_bert_config={"max_seq_length": 4000}))
    assert token_limit(encoder.spec, encoder.tokenizer) == 64
    assert np.isfinite(encoder.embed("word " * 100)).all()


def test_windows_messages_name_the_text(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="text 2 has a lone surrogate"):
        encoder.embed(["a", "b", "\ud800"], truncation="window")


def test_a_prompt_that_merges_with_the_text_leaves_a_token_to_pool(
    load: LoadEncoder, bert_folder: Path, copy_of: Callable[..., Path]
) -> None:
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    encoder = load(copy_of(bert_folder, **{"modules": modules, "1_Pooling/config": pooling}))
    prompt, text = encoder.tokenizer.tokenize(["hypothesi", "hypothesis"])
    assert len(prompt) - 1 >= len(text)
    last = encoder.encode("hypothesis").last_hidden_state[0, -1]
    np.testing.assert_allclose(encoder.embed(["s"], prompt="hypothesi")[0], last, atol=1e-6)


def test_max_length_holds_per_call_and_per_encoder(load: LoadEncoder, bert_folder: Path) -> None:
    text = "one two three four five six seven eight nine ten"
    encoder = load(bert_folder)
    cut = encoder.embed(text, max_length=6)
    np.testing.assert_array_equal(cut, encoder.embed("one two three four"))
    np.testing.assert_array_equal(load(bert_folder, max_length=6).embed(text), cut)
    np.testing.assert_array_equal(load(bert_folder, max_length=6).embed(text, max_length=60), encoder.embed(text))
    with pytest.raises(InputError, match="64"):
        encoder.embed(text, max_length=65)
    with pytest.raises(InputError, match="max_length is 0; it must be a whole number above zero"):
        encoder.embed(text, max_length=0)


@pytest.mark.parametrize("batch_tokens", [10, 4096])
def test_windows_are_averaged_by_their_tokens(load: LoadEncoder, bert_folder: Path, batch_tokens: int) -> None:
    encoder = load(bert_folder, batch_tokens=batch_tokens)
    words = [f"word{n}" for n in range(30)]
    texts = ["short", " ".join(words), "", "another short one"]
    windows = encoder.tokenizer.windows(texts[1], max_length=16)
    assert len(windows) > 3
    pieces = [texts[1][w.offsets[1][0] : w.offsets[-2][1]] for w in windows]
    plain = encoder.embed(pieces, normalize=False).astype(np.float64)
    expected = np.average(plain, axis=0, weights=[len(w) for w in windows])
    found = encoder.embed(texts, truncation="window", max_length=16)
    np.testing.assert_allclose(found[1], expected, atol=1e-4)
    np.testing.assert_array_equal(found[[0, 2, 3]], encoder.embed([texts[0], texts[2], texts[3]]))


def test_progress_counts_texts_and_tokens_after_every_batch(load: LoadEncoder, bert_folder: Path) -> None:
    encoder = load(bert_folder, batch_tokens=20)
    texts = ["one two three"] * 9
    for truncation in (True, "window"):
        counts: list[tuple[int, ...]] = []
        encoder.embed(texts, truncation=truncation, progress=lambda *done, to=counts: to.append(done))
        assert counts == [(4, 20, 0), (8, 40, 0), (9, 45, 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "pooler"}, "makes poor embeddings"),
        ({"pooling": "average"}, "pooling 'average' is unknown"),
        ({"prompt_name": "poem"}, "prompt_name 'poem' is unknown; known: document, query .empty unless the"),
        ({"precision": "int4"}, "precision 'int4' is unknown"),
        ({"truncation": "cut"}, "truncation is 'cut'; use True, False"),
        ({"prompt": 3}, "prompt is 3; it must be a string, or None"),
        ({"prompt_name": ["query"]}, r"prompt_name is \['query'\]; it must be a string, or None"),
        ({"pooling": 3}, "pooling is 3; use one or more of cls"),
        ({"pooling": ["mean", 3]}, "pooling has 3 in it; use one or more of cls"),
        ({"normalize": "yes"}, "normalize is 'yes'; use True, False or None"),
        ({"precision": ["int8"]}, r"precision \['int8'\] is unknown"),
        ({"precision": "int8", "ranges": "wide"}, "ranges can't be read as numbers"),
        ({"precision": "int8", "ranges": [[0], [1]]}, r"ranges has the shape \(2, 1\); it must be \(2, 384\)"),
    ],
)
def test_an_unknown_option_is_refused_before_anything_is_read(
    encoder: Encoder, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        encoder.embed(iter(["text"]), **options)


def test_eight_threads_at_once_get_the_same_bits(encoder: Encoder) -> None:
    texts = varied_texts(40)[:12]
    expected = encoder.embed(texts)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(encoder.embed(texts))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for result in found:
        np.testing.assert_array_equal(result, expected)


def test_a_failing_batch_is_halved_down_to_what_fits(load: LoadEncoder, bert_folder: Path) -> None:
    encoder = load(bert_folder)
    whole, texts = encoder.engine.encode, varied_texts(40)
    expected = encoder.embed(texts)

    def small_only(batch: Any, **options: Any) -> Any:
        if len(batch) > 3:
            raise MemoryError
        return whole(batch, **options)

    class SmallMemory:
        name, level, dtype, threads = "small", "", "", 1
        encode = staticmethod(small_only)
        linear = staticmethod(encoder.engine.linear)

    limited = Encoder(encoder.checkpoint, encoder.tokenizer, SmallMemory())
    np.testing.assert_array_equal(limited.embed(texts), expected)
