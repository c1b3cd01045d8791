"""Pooling: every mode against sentence-transformers' own module, and its independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest

from bothways.embed_spec import POOLINGS
from bothways.errors import InputError
from bothways.pooling import choose_poolings, normalize, pool, pool_batch

LENGTHS = (5, 1, 9, 3)


def random_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).normal(size=(sum(LENGTHS), 7)).astype(np.float32)
    return rows, np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)


def sentence_transformers_pooling(mode: str, rows: np.ndarray, starts: np.ndarray, skip: int) -> np.ndarray:
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling

    padded = np.zeros((len(LENGTHS), max(LENGTHS), rows.shape[1]), np.float32)
    mask = np.zeros(padded.shape[:2], np.int64)
    for n, length in enumerate(LENGTHS):
        padded[n, :length], mask[n, :length] = rows[starts[n] : starts[n + 1]], 1
    name = {"mean_sqrt_len": "mean_sqrt_len_tokens"}.get(mode, mode)
    features = {"token_embeddings": torch.tensor(padded), "attention_mask": torch.tensor(mask), "prompt_length": skip}
    module = Pooling(rows.shape[1], name, include_prompt=not skip)
    return module(features)["sentence_embedding"].numpy()


@pytest.mark.parametrize("mode", POOLINGS)
def test_every_mode_equals_sentence_transformers(mode: str) -> None:
    rows, starts = random_rows()
    expected = sentence_transformers_pooling(mode, rows, starts, 0)
    np.testing.assert_allclose(pool_batch(rows, starts, (mode,)), expected, atol=1e-6)


@pytest.mark.parametrize("mode", POOLINGS)
def test_prompt_tokens_are_left_out_as_in_sentence_transformers(mode: str) -> None:
    rows, starts = random_rows()
    keep = [n for n, length in enumerate(LENGTHS) if length > 2]
    expected = sentence_transformers_pooling(mode, rows, starts, 2)[keep]
    pooled = np.stack([pool(rows[starts[n] : starts[n + 1]], (mode,), 2) for n in keep])
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_several_modes_are_concatenated_in_the_given_order() -> None:
    rows, starts = random_rows()
    both = pool_batch(rows, starts, ("max", "mean"))
    np.testing.assert_array_equal(both[:, :7], pool_batch(rows, starts, ("max",)))
    np.testing.assert_array_equal(both[:, 7:], pool_batch(rows, starts, ("mean",)))


def test_a_sequence_pools_to_the_same_bits_alone_and_in_a_batch() -> None:
    rows, starts = random_rows(3)
    together = normalize(pool_batch(rows, starts, POOLINGS))
    for n, length in enumerate(LENGTHS):
        own = np.ascontiguousarray(rows[starts[n] : starts[n + 1]])
        alone = normalize(pool_batch(own, np.array([0, length], np.int32), POOLINGS))
        np.testing.assert_array_equal(alone[0], together[n])


@pytest.mark.parametrize("size", [1, 3, 8, 17, 384, 1000])
def test_normalizing_rounds_a_row_the_same_whatever_the_number_of_rows(size: int) -> None:
    vectors = np.random.default_rng(size).normal(size=(37, size)).astype(np.float32)
    together = normalize(vectors)
    for n in range(len(vectors)):
        np.testing.assert_array_equal(normalize(vectors[n : n + 1].copy())[0], together[n])
    np.testing.assert_allclose(np.linalg.norm(together.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_row_of_zeros_stays_zero_when_normalized() -> None:
    np.testing.assert_array_equal(normalize(np.zeros((2, 4), np.float32)), 0)


def test_a_callers_poolings_are_put_in_the_fixed_order() -> None:
    assert choose_poolings("mean") == ("mean",)
    assert choose_poolings(["lasttoken", "cls", "mean"]) == ("cls", "mean", "lasttoken")


@pytest.mark.parametrize("name", ["pooler", "pooler_output"])
def test_the_pooler_is_refused_as_an_embedding(name: str) -> None:
    with pytest.raises(InputError, match="next-sentence prediction.*encode"):
        choose_poolings(name)


def test_an_unknown_pooling_lists_the_known() -> None:
    with pytest.raises(InputError, match="'average' is unknown; use one or more of cls, max, mean"):
        choose_poolings(["mean", "average"])
    with pytest.raises(InputError, match="pooling is empty"):
        choose_poolings([])


@pytest.mark.parametrize("name", POOLINGS)
def test_a_prompt_as_long_as_the_sequence_leaves_the_last_token(name: str) -> None:
    rows = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    for skip in (2, 3, 9):
        pooled = pool(rows, (name,), skip)
        np.testing.assert_allclose(pooled, rows[-1], rtol=1e-6)
