"""Communities of vectors, against sentence-transformers and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from bothways import InputError, community_detection


def clusters(sizes: tuple[int, ...], noise: float, seed: int = 0) -> np.ndarray:
    """Vectors around random centres, shuffled."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((len(sizes), 24))
    vectors = np.repeat(centres, sizes, axis=0) + noise * random.standard_normal((sum(sizes), 24))
    return random.permutation(vectors)


@pytest.mark.parametrize(("threshold", "min_size"), [(0.75, 10), (0.6, 1), (0.9, 3), (-1.0, 5), (0.99, 2)])
@pytest.mark.parametrize("noise", [0.3, 0.6])
def test_communities_are_those_of_sentence_transformers(threshold, min_size, noise):
    from sentence_transformers import util

    vectors = clusters((40, 25, 12, 12, 8, 3, 1, 1), noise)  # float64, so that scores differ
    expected = util.community_detection(vectors, threshold=threshold, min_community_size=min_size)
    assert community_detection(vectors, threshold=threshold, min_size=min_size) == expected


def test_results_are_the_same_for_any_chunks_threads_and_memory(monkeypatch, level):
    vectors = clusters((60, 30, 30, 10), 0.5)
    vectors[40:80] = vectors[:40]  # ties
    expected = community_detection(vectors, min_size=4, threads=1)
    assert len(expected) > 1
    assert community_detection(vectors, min_size=4, threads=3, chunk_size=17) == expected
    monkeypatch.setattr("bothways.mining.communities._MEMBERS", 100)
    assert community_detection(vectors, min_size=4) == expected


def test_overlaps_go_to_the_larger_and_centres_stand_first():
    angles = np.radians([0, 10, 20, 30, 40, 50, 100, 105, 300])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Within 21 degrees: 2 (20) and 3 (30) have five, the smaller index goes first; of the rest, 5 (50) is alone.
    found = community_detection(vectors, threshold=float(np.cos(np.radians(21))), min_size=2)
    assert [group[0] for group in found] == [2, 6]
    assert sorted(found[0]) == [0, 1, 2, 3, 4]
    assert found[1] == [6, 7]


def test_equal_vectors_go_by_index():
    assert community_detection([[1.0, 0], [0, 2], [3, 0], [0, 4], [5, 0]], min_size=2) == [[0, 2, 4], [1, 3]]
    assert community_detection([[0.0, 0]] * 3, threshold=0, min_size=3) == [[0, 1, 2]]
    assert community_detection([[0.0, 0]] * 3, threshold=0.1, min_size=1) == []


def test_too_few_vectors_have_no_community():
    assert community_detection([]) == []
    assert community_detection([[1.0, 0]] * 9) == []
    assert community_detection([[1.0, 0]] * 10) == [list(range(10))]


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="row 1 of embeddings holds NaN"):
        community_detection([[1.0], [np.nan]])
    with pytest.raises(InputError, match="min_size is 0"):
        community_detection([[1.0]], min_size=0)
    with pytest.raises(InputError, match="threshold is nan; it must be a number"):
        community_detection([[1.0]], threshold=np.nan)
