"""Precision: byte for byte what sentence-transformers' quantize_embeddings gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bothways.errors import InputError
from bothways.precision import PRECISIONS, check_precision, quantize


def random_vectors(count: int, size: int) -> np.ndarray:
    vectors = np.random.default_rng(count).normal(size=(count, size)).astype(np.float32)
    vectors[:, 0] = 0.25  # a value that never varies has steps of no size
    return vectors


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(2, 5), (120, 16), (130, 13)])
def test_result_equals_sentence_transformers(precision: str, shape: tuple[int, int]) -> None:
    from sentence_transformers.util import quantize_embeddings

    vectors = random_vectors(*shape)
    expected = quantize_embeddings(vectors, precision)
    found = quantize(vectors, precision)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_given_ranges_are_used_and_values_beyond_them_are_clipped(precision: str) -> None:
    from sentence_transformers.util import quantize_embeddings

    vectors = random_vectors(9, 6)
    ranges = np.stack([np.full(6, -0.5), np.full(6, 0.5)])
    np.testing.assert_array_equal(
        quantize(vectors, precision, ranges), quantize_embeddings(vectors, precision, ranges=ranges)
    )


@pytest.mark.parametrize(
    ("precision", "shape", "dtype"),
    [
        ("float32", (0, 9), np.float32),
        ("int8", (0, 9), np.int8),
        ("uint8", (0, 9), np.uint8),
        ("binary", (0, 2), np.int8),
        ("ubinary", (0, 2), np.uint8),
    ],
)
def test_no_vectors_give_an_empty_array_of_the_right_kind(precision: str, shape: tuple[int, int], dtype: type) -> None:
    found = quantize(np.zeros((0, 9), np.float32), precision)
    assert found.shape == shape
    assert found.dtype == dtype


def test_ranges_of_a_single_vector_are_refused() -> None:
    with pytest.raises(InputError, match="single text; pass ranges"):
        quantize(random_vectors(1, 4), "int8")


def test_ranges_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"ranges has the shape \(2, 3\); it must be \(2, 4\)"):
        quantize(random_vectors(3, 4), "uint8", np.zeros((2, 3)))


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(InputError, match="'int4' is unknown; use one of float32, int8"):
        quantize(random_vectors(3, 4), "int4")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("low to high", "can't be read as numbers"),
        ([[0.0, 1.0], ["a", "b"]], "can't be read as numbers"),
        ([[0.0], [1.0, 2.0]], "can't be read as numbers"),
        ([[0.0, np.nan], [1.0, 2.0]], "not finite"),
    ],
)
def test_ranges_that_are_no_numbers_are_refused(ranges: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantize(np.ones((3, 2), np.float32), "int8", ranges)


def test_a_precision_that_is_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="is unknown; use one of float32"):
        check_precision(np.array(["int8", "uint8"]))  # type: ignore[arg-type]
