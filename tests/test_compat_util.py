"""compat.util beside sentence_transformers.util: vectors of every kind, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from same import assert_same

from bothways.compat import util

RANDOM = np.random.default_rng(5)
A, B, C = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((4, 7), (6, 7), (4, 7)))
A[2] = 0  # a vector of no length


def tensors(value: Any) -> Any:
    import torch

    return torch.tensor(value)


#: Ways of giving the same vectors.
WAYS: dict[str, Callable[[Any], Any]] = {
    "arrays": lambda values: values,
    "doubles": lambda values: values.astype(np.float64),
    "lists": lambda values: values.tolist(),
    "lists of arrays": list,
    "tensors": tensors,
    "lists of tensors": lambda values: list(tensors(values)),
    "halves": lambda values: tensors(values).half(),
    "bfloat16": lambda values: tensors(values).bfloat16(),
    "gradients": lambda values: tensors(values).requires_grad_(),
}


def assert_alike(found: Any, expected: Any, given: Any) -> None:
    """Tensors for tensors, arrays for all else; the numbers and their type those of sentence-transformers."""
    import torch

    first = given[0] if isinstance(given, list) else given
    expected = expected.detach()
    assert_same(found, expected if isinstance(first, torch.Tensor) else expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["cos_sim", "pytorch_cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_each_is_compared_with_each(name: str, way: str) -> None:
    from sentence_transformers import util as real

    for a, b in ((A, B), (A[0], B), (A, B[0]), (A[1], B[1])):
        given = WAYS[way](a), WAYS[way](b)
        assert_alike(getattr(util, name)(*given), getattr(real, name)(*given), given[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim", "angle_sim"])
def test_pairs_are_compared(name: str, way: str) -> None:
    from sentence_transformers import util as real

    for a, b in ((A, C), (A[:1], C[:1]), *(((A[1], C[1]),) if name != "angle_sim" else ())):
        given = WAYS[way](a), WAYS[way](b)
        expected = getattr(real, f"pairwise_{name}")(*given)
        if name == "euclidean_sim" and way in ("arrays", "lists") and a.ndim == 1:
            assert float(getattr(util, f"pairwise_{name}")(*given)) == pytest.approx(float(expected), abs=2e-5)
        else:
            found = getattr(util, f"pairwise_{name}")(*given)
            assert_alike(np.asarray(found) if isinstance(found, np.floating) else found, expected, given[0])


def test_vectors_are_scaled_and_cut() -> None:
    from sentence_transformers import util as real

    for values in (A, A[0], A[2]):
        assert_same(util.normalize_embeddings(tensors(values)), real.normalize_embeddings(tensors(values)), atol=1e-6)
        assert isinstance(util.normalize_embeddings(values), np.ndarray)
    for size in (None, 0, 3, 99):
        np.testing.assert_array_equal(util.truncate_embeddings(A, size), real.truncate_embeddings(A, size))


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.filterwarnings("ignore")
def test_quantized_vectors_are_bit_for_bit_the_same(precision: str) -> None:
    from sentence_transformers import util as real

    many = RANDOM.normal(size=(120, 13)).astype(np.float32)
    many[:, 3] = 0.25  # a dimension without a range
    ranges = np.array([many.min(axis=0) / 2, many.max(axis=0) / 2])
    for vectors in (many, many.astype(np.float64), tensors(many), list(many), many[:5], many[:0]):
        for options in ({}, {"ranges": ranges}, {"calibration_embeddings": many[:60]}):
            expected = real.quantize_embeddings(vectors, precision, **options)
            found = util.quantize_embeddings(vectors, precision, **options)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    single = util.quantize_embeddings(many[0], precision, ranges=ranges)
    np.testing.assert_array_equal(single, real.quantize_embeddings(many[0], precision, ranges=ranges))


def test_what_can_t_be_quantized_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    for vector in (A[0], A[:1]):
        with pytest.raises(ValueError, match="Cannot compute int8 quantization ranges from a single embedding"):
            util.quantize_embeddings(vector, "int8")
    with pytest.raises(ValueError, match="Precision 'int4' is not supported"):
        util.quantize_embeddings(A, "int4")
    with pytest.raises(ValueError, match="int8 or uint8 already"):
        util.quantize_embeddings(A.astype(np.int8), "int8")
    with pytest.raises(ValueError, match=r"shape \(1, 4, 7\)"):
        util.quantize_embeddings([A], "binary")
    assert not caplog.text
    util.quantize_embeddings(A, "int8")
    assert "int8 takes its ranges from 4 vectors" in caplog.text


def test_measures_have_the_names_and_functions_of_sentence_transformers() -> None:
    from sentence_transformers import SimilarityFunction as Real

    for measure in util.SimilarityFunction:
        real = Real(measure.value)
        assert util.SimilarityFunction.to_similarity_fn(measure.value).__name__ == Real.to_similarity_fn(real).__name__
        pairwise = util.SimilarityFunction.to_similarity_pairwise_fn(measure)
        assert pairwise.__name__ == Real.to_similarity_pairwise_fn(real).__name__
    assert util.SimilarityFunction.possible_values() == Real.possible_values()[:4]
    assert util.SimilarityFunction.DOT is util.SimilarityFunction.DOT_PRODUCT


@pytest.fixture(scope="module")
def crowd() -> Any:
    """Vectors in groups, so that some are near each other."""
    random = np.random.default_rng(11)
    centres = random.normal(size=(12, 16))
    return (centres[np.arange(180) % 12] + 0.25 * random.normal(size=(180, 16))).astype(np.float32)


@pytest.mark.parametrize("way", ["arrays", "tensors"])
@pytest.mark.parametrize("score", ["cos_sim", "dot_score"])
def test_search_is_that_of_sentence_transformers(crowd: Any, score: str, way: str) -> None:
    from sentence_transformers import util as theirs

    given = WAYS[way](crowd)
    for queries in (given[:7], given[3]):
        expected = theirs.semantic_search(queries, given, top_k=5, score_function=getattr(theirs, score))
        found = util.semantic_search(queries, given, top_k=5, score_function=getattr(util, score))
        assert_same(found, expected)
        assert_same(util.semantic_search(queries, given, top_k=5, score_function=getattr(theirs, score)), expected)
    expected_pairs = theirs.paraphrase_mining_embeddings(
        given, top_k=4, max_pairs=60, score_function=getattr(theirs, score)
    )
    found_pairs = util.paraphrase_mining_embeddings(given, top_k=4, max_pairs=60, score_function=getattr(util, score))
    assert_same([pair[0] for pair in found_pairs], [pair[0] for pair in expected_pairs])
    assert {tuple(pair[1:]) for pair in found_pairs} == {tuple(pair[1:]) for pair in expected_pairs}


def test_communities_are_those_of_sentence_transformers(crowd: Any) -> None:
    from sentence_transformers import util as theirs

    for threshold, smallest in ((0.75, 10), (0.9, 2), (0.99, 1)):
        found = util.community_detection(crowd, threshold, smallest)
        expected = theirs.community_detection(crowd, threshold, smallest)
        assert [(group[0], set(group)) for group in found] == [(group[0], set(group)) for group in expected]


def test_sentences_are_embedded_before_they_are_mined() -> None:
    class Model:
        """Knows three sentences."""

        def encode(self, sentences: list[str], **how: Any) -> Any:
            assert how["truncate_dim"] == 2
            assert how["prompt"] == "p"
            return np.array([{"a": [1, 0], "b": [0, 1], "c": [0.6, 0.8]}[s] for s in sentences], np.float32)

    pairs = util.paraphrase_mining(Model(), ["a", "b", "c"], truncate_dim=2, prompt="p")
    assert [pair[1:] for pair in pairs] == [[1, 2], [0, 2], [0, 1]]
    np.testing.assert_allclose([pair[0] for pair in pairs], [0.8, 0.6, 0.0], atol=1e-6)


def test_another_score_is_refused() -> None:
    with pytest.raises(ValueError, match="score_function is euclidean_sim; Bothways searches by cos_sim and dot_score"):
        util.semantic_search(B, B, score_function=util.euclidean_sim)
