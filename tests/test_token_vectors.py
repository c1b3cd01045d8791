"""Token embeddings: the numbers of sentence-transformers' MultiVectorEncoder from the same files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from late_checkpoints import DOCUMENT_TOKENS, QUERY_TOKENS, TEXTS, save_multi_vector, save_pylate, save_stanford

from bothways import Encoder
from bothways.errors import CheckpointError, InputError, TaskError, UnsupportedModel

LoadEncoder = Callable[..., Encoder]

FORMS: dict[str, Callable[[Path], Path]] = {
    "pylate": save_pylate,
    "pylate, masks seen": lambda folder: save_pylate(folder, attend_to_expansion_tokens=True),
    "pylate, queries as they are": lambda folder: save_pylate(folder, do_query_expansion=False),
    "pylate, prompts too": lambda folder: save_pylate(folder, prompts={"query": "find: ", "document": "[D] text: "}),
    "pylate, punctuation by default": lambda folder: save_pylate(folder, skiplist_words=None),
    "stanford": save_stanford,
    "stanford, punctuation kept": lambda folder: save_stanford(
        folder, mask_punctuation=False, attend_to_mask_tokens=True
    ),
    "multi vector, fixed": lambda folder: save_multi_vector(
        folder, expansion={"strategy": "fixed", "length": QUERY_TOKENS}, mask={"skiplist_words": [",", "."]}
    ),
    "multi vector, at least": lambda folder: save_multi_vector(
        folder,
        expansion={"strategy": "min", "length": 9, "token": "[PAD]", "attend": True},
        mask={"skiplist_words": ["o", "fox"], "skiplist_tasks": ["query", "document"]},
    ),
    "multi vector, as they are": lambda folder: save_multi_vector(folder, expansion=None, mask={}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_token_vectors_equal_sentence_transformers(load: LoadEncoder, tmp_path: Path, form: str) -> None:
    from sentence_transformers import MultiVectorEncoder

    folder = FORMS[form](tmp_path / "checkpoint")
    oracle, encoder = MultiVectorEncoder(str(folder), device="cpu"), load(folder)
    for name, expected in (("query", oracle.encode_query(TEXTS)), (None, oracle.encode_document(TEXTS))):
        found = encoder.embed(TEXTS, tokens=True, prompt_name=name)
        assert [vectors.shape for vectors in found] == [vectors.shape for vectors in expected]
        for vectors, others in zip(found, expected, strict=True):
            # Scaling a random projection's short vectors to length 1 enlarges the network's own errors.
            np.testing.assert_allclose(vectors, others, rtol=0, atol=5e-4)
    scores = oracle.similarity(oracle.encode_query(TEXTS), oracle.encode_document(TEXTS))
    np.testing.assert_allclose(encoder.similarity(TEXTS, TEXTS), scores, rtol=0, atol=2e-3)


def test_queries_are_filled_up_with_masks_and_documents_lose_what_is_skipped(load: LoadEncoder, tmp_path: Path) -> None:
    encoder = load(save_pylate(tmp_path))
    queries = encoder.embed(["fox", "fox?"], tokens=True, prompt_name="query")
    assert [vectors.shape for vectors in queries] == [(QUERY_TOKENS, 7)] * 2
    one, two = encoder.embed(["fox", "fox?!"], tokens=True)  # [CLS] [D] fox [SEP], and the same without ? and !
    assert len(one) == len(two) == 4
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    assert len(encoder.embed("fox " * 90, tokens=True)[0]) == DOCUMENT_TOKENS
    lengths = np.linalg.norm(encoder.embed("fox", tokens=True, normalize=False)[0], axis=1)
    assert abs(lengths - 1).min() > 0.01


def test_masks_that_are_not_seen_leave_the_text_as_it_is_alone(load: LoadEncoder, tmp_path: Path) -> None:
    encoder = load(save_pylate(tmp_path / "filled"))
    plain = load(save_pylate(tmp_path / "plain", do_query_expansion=False))
    text = TEXTS[0][:20]
    filled, own = (each.embed(text, tokens=True, prompt_name="query")[0] for each in (encoder, plain))
    assert len(own) < len(filled) == QUERY_TOKENS
    np.testing.assert_array_equal(filled[: len(own)], own)


def test_a_texts_vectors_have_the_same_bits_in_any_company(load: LoadEncoder, tmp_path: Path) -> None:
    folder = save_pylate(tmp_path)
    encoder, small = load(folder), load(folder, batch_tokens=20)
    for name in ("query", "document"):
        together = encoder.embed(TEXTS, tokens=True, prompt_name=name)
        streamed = small.embed(iter(TEXTS[::-1]), tokens=True, prompt_name=name)
        assert isinstance(streamed, Iterator)
        for one, other in zip(together, list(streamed)[::-1], strict=True):
            np.testing.assert_array_equal(one, other)


def test_any_other_checkpoint_gives_its_networks_vectors(encoder: Encoder, oracle: Any) -> None:
    texts = ["The sky is clear.", "no"]
    expected = oracle.encode(texts, output_value="token_embeddings")
    found = encoder.embed(texts, tokens=True)
    for vectors, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(vectors, others.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found[0], encoder.encode(texts[0]).last_hidden_state[0])
    np.testing.assert_allclose(
        np.linalg.norm(encoder.embed(texts, tokens=True, normalize=True)[0], axis=1), 1, atol=1e-5
    )


def test_long_texts_are_cut_counted_or_refused(load: LoadEncoder, tmp_path: Path) -> None:
    encoder, counts = load(save_pylate(tmp_path)), []
    long = "fox " * 60
    encoder.embed(["fox", long], tokens=True, progress=lambda *seen: counts.append(seen))
    assert counts == [(2, 4 + DOCUMENT_TOKENS, 1)]
    assert len(encoder.embed(long, tokens=True, max_length=40, progress=lambda *_: None)[0]) == 40
    assert len(encoder.embed("fox", tokens=True, prompt_name="query", max_length=9)[0]) == 9
    with pytest.raises(InputError, match=r"text 1 has \d+ tokens"):
        encoder.embed(["fox", long], tokens=True, truncation=False)


def test_what_one_dense_vector_alone_has_is_refused(load: LoadEncoder, tmp_path: Path) -> None:
    encoder = load(save_pylate(tmp_path))
    for options in ({"pooling": "mean"}, {"dimensions": 3}, {"precision": "int8"}, {"ranges": [[0], [1]]}):
        with pytest.raises(
            InputError, match=f"{next(iter(options))}=.* is for one dense vector a text, not for tokens"
        ):
            encoder.embed("fox", tokens=True, **options)
    with pytest.raises(InputError, match="truncation='window' is for one dense vector"):
        encoder.embed("fox", tokens=True, truncation="window")
    with pytest.raises(InputError, match="two kinds of embedding"):
        encoder.embed("fox", tokens=True, sparse=True)
    with pytest.raises(TaskError, match="not made for one dense vector a text; pass tokens=True"):
        encoder.embed("fox")
    assert encoder.embed("fox", pooling="mean").shape == (1, 12)


def test_files_that_can_not_be_right_are_refused(load: LoadEncoder, tmp_path: Path) -> None:
    folder = save_pylate(tmp_path)
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    for change, error, message in (
        ({"skiplist_words": [3]}, CheckpointError, "'skiplist_words': .* must be a list of strings"),
        ({"query_expansion": {"strategy": "other"}}, CheckpointError, "must have a 'strategy', fixed or min"),
        ({"document_length": 0}, CheckpointError, "'document_length': 0; it must be at least 1"),
    ):
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings | change))
        with pytest.raises(error, match=message):
            load(folder)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    modules = json.loads((folder / "modules.json").read_text())
    pooling = {"idx": 2, "name": "2", "path": "2_Pooling", "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps([*modules, pooling]))
    with pytest.raises(UnsupportedModel, match="lists Dense, Pooling behind the network of a ColBERT"):
        load(folder)


def test_a_tokenizer_without_a_mask_can_not_fill_queries_up(load: LoadEncoder, tmp_path: Path) -> None:
    folder = save_pylate(tmp_path, query_expansion={"strategy": "fixed", "length": 9, "token": "nowhere"})
    with pytest.raises(CheckpointError, match="filled up to 9 tokens, but the tokenizer has no token 'nowhere'"):
        load(folder).embed("fox", tokens=True, prompt_name="query")


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_unseen_masks_work_at_every_level_and_dtype(tmp_path: Path, level: str, dtype: str) -> None:
    folder = save_pylate(tmp_path)
    exact = Encoder.from_pretrained(folder).embed(TEXTS, tokens=True, prompt_name="query")
    found = Encoder.from_pretrained(folder, dtype=dtype, threads=2).embed(TEXTS, tokens=True, prompt_name="query")
    assert min((a * b).sum(axis=1).min() for a, b in zip(exact, found, strict=True)) > 0.9


def test_a_window_that_ends_before_the_masks_gives_them_no_keys(tmp_path: Path) -> None:
    """ModernBERT's local layers: far masks see nothing, and attention adds nothing to them, as in torch's."""
    from reference import ReferenceEngine
    from tiny_checkpoints import save_model

    from bothways.batch import TokenBatch
    from bothways.checkpoint import open_checkpoint
    from bothways.engines.native import NativeEngine

    save_model(tmp_path, "modernbert", local_attention=4)
    checkpoint = open_checkpoint(tmp_path)
    ids, count = np.arange(1, 17, dtype=np.int32), 16
    batch = TokenBatch(
        ids,
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        np.array([0, count], np.int32),
        np.array([5], np.int32),
    )
    expected = ReferenceEngine(checkpoint).encode(batch).rows
    np.testing.assert_allclose(NativeEngine(checkpoint).encode(batch).rows, expected, rtol=0, atol=1e-4)


def test_a_projection_of_another_networks_size_is_refused(load: LoadEncoder, tmp_path: Path) -> None:
    folder = save_pylate(tmp_path)
    path = next(folder.glob("*_Dense/config.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_features": 13}))
    encoder = load(folder)
    with pytest.raises(CheckpointError, match="takes vectors of 13 values, but is given"):
        encoder.embed("fox", tokens=True)


def test_texts_in_iterators_are_compared_too(load: LoadEncoder, tmp_path: Path) -> None:
    encoder = load(save_pylate(tmp_path))
    np.testing.assert_array_equal(encoder.similarity(iter(TEXTS), iter(TEXTS)), encoder.similarity(TEXTS, TEXTS))
