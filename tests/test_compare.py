"""Products of two sets of vectors: the same bits per pair whatever the sets, on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from bothways.engines import compare
from bothways.engines.compare import Comparer, Vectors, products


def random(rows: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)


@pytest.mark.parametrize(("a_rows", "b_rows", "dimensions"), [(1, 1, 1), (3, 200, 17), (700, 300, 24)])
def test_products_are_those_of_numpy(level: str, a_rows: int, b_rows: int, dimensions: int) -> None:
    a, b = random(a_rows, dimensions, 1), random(b_rows, dimensions, 2)
    expected = a.astype(np.float64) @ b.T.astype(np.float64)
    np.testing.assert_allclose(products(a, b, 2), expected, atol=1e-4)


def test_a_pair_has_the_same_bits_in_sets_of_any_size(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random(600, 50, 1), random(300, 50, 2)
    monkeypatch.setattr(compare, "_SMALL", 0)  # threads from the first pair on
    whole = products(a, b, 3)
    assert (products(b, a, 1).T == whole).all()
    assert (products(a[7:8], b[290:], 2) == whole[7:8, 290:]).all()
    monkeypatch.setattr(compare, "_QUERY_ROWS", 100)
    monkeypatch.setattr(compare, "_VALUES", 1)
    assert (products(a, b, 2) == whole).all()


def test_the_nearest_pairwise_scores_and_counts_agree_to_the_bit(level: str) -> None:
    a, b = Vectors(random(150, 30, 1), "a"), Vectors(random(150, 30, 2), "b")
    for cosine in (True, False):
        comparer = Comparer(cosine=cosine, threads=2)
        scores, indices = comparer.nearest(a, b, 200)
        assert scores.shape == (150, 150)
        own = scores[indices == np.arange(150)[:, None]]
        assert (comparer.pairwise(a, b) == own).all()
        assert (comparer.counts(a, b, float(own[3])) == (scores >= own[3]).sum(axis=1)).all()


def test_selected_rows_keep_their_numbers_in_messages() -> None:
    values = random(9, 4, 1)
    values[6, 1] = np.nan
    some = Vectors(values, "corpus").select(np.array([8, 6, 1]))
    with pytest.raises(Exception, match="row 6 of corpus"):
        Comparer(cosine=True).nearest(some, some, 1)
