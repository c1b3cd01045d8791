"""Late interaction: hand-computed scores, float64 at every level, and what is no text's vectors."""

from __future__ import annotations

import numpy as np
import pytest

import bothways
from bothways import maxsim
from bothways.errors import InputError


def vectors(*lengths: int, size: int = 24, seed: int = 0) -> list[np.ndarray]:
    source = np.random.default_rng(seed)
    return [source.normal(size=(length, size)).astype(np.float32) for length in lengths]


def test_scores_worked_out_by_hand() -> None:
    queries = [[[1, 0], [0, 1]], [[2, 1]]]
    documents = [[[1, 0]], [[0, -1], [0.5, 0.25]], [[-1, -1]]]
    np.testing.assert_array_equal(maxsim(queries, documents), [[1, 0.75, -2], [2, 1.25, -3]])


def test_texts_without_vectors_and_no_texts() -> None:
    nothing, one = np.zeros((0, 2)), np.ones((1, 2))
    np.testing.assert_array_equal(maxsim([one, nothing], [one, nothing]), [[2, -np.inf], [0, 0]])
    assert maxsim([], [one]).shape == (0, 1)
    assert maxsim([one, one], []).shape == (2, 0)
    np.testing.assert_array_equal(maxsim(one, one), [[2]])  # one array is one text


def test_every_level_is_right_and_no_score_depends_on_company(level: str) -> None:
    queries, documents = vectors(32, 1, 5, 200, 400), vectors(1, 180, 3, 129, 16, seed=1)
    scores = maxsim(queries, documents)
    assert scores.dtype == np.float32
    wide = [[(q.astype(np.float64) @ d.T.astype(np.float64)).max(axis=1).sum() for d in documents] for q in queries]
    np.testing.assert_allclose(scores, wide, rtol=1e-6, atol=1e-4)
    for n, query in enumerate(queries):
        np.testing.assert_array_equal(maxsim([query], documents[::-1], threads=1)[0], scores[n][::-1])
    np.testing.assert_array_equal(maxsim(queries[2:4], documents[1:2], threads=3), scores[2:4, 1:2])


@pytest.mark.parametrize(
    ("queries", "documents", "message"),
    [
        (vectors(2), vectors(2, size=3), "vectors have 3 values here and 24 there"),
        (["text"], vectors(2), r"queries\[0\] is 'text'; it must be an array \(n, D\)"),
        ("text", vectors(2), "queries is 'text'; pass a list of arrays"),
        (vectors(2), [np.ones(3)], r"documents\[0\] is array.*; it must be an array \(n, D\)"),
        (vectors(2), [np.full((1, 24), np.nan)], r"documents\[0\] holds NaN or infinite values"),
        (3, vectors(2), "queries is 3"),
    ],
)
def test_what_is_no_texts_vectors_is_named(queries: object, documents: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        maxsim(queries, documents)  # type: ignore[arg-type]


def test_threads_must_be_a_number_above_zero() -> None:
    with pytest.raises(InputError, match="threads is 0"):
        bothways.maxsim(vectors(1), vectors(1), threads=0)
