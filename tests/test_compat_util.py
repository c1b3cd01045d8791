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
