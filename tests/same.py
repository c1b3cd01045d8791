"""Compares what Bothways returns with what another library does: types, shapes, order, and values nearly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

ATOL = 5e-4


def assert_same(found: Any, expected: Any, atol: float = ATOL) -> None:
    """Compare results of any nesting; a NumPy scalar may stand for another, and for a Python float."""
    import torch

    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype
        found, expected = found.numpy(), expected.numpy()
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=1 if expected.dtype.kind in "iu" else atol)
        # Rounding may carry a value over the border of a step, most easily the largest of each dimension.
        assert expected.dtype.kind not in "iu" or np.mean(found != expected) < 0.06
    elif isinstance(expected, Mapping):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for name in expected:
            assert_same(found[name], expected[name], atol)
    elif isinstance(expected, list | tuple):
        assert isinstance(found, type(expected))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, atol)
    elif isinstance(expected, float | np.floating):
        assert isinstance(found, float | np.floating)
        np.testing.assert_allclose(found, expected, atol=atol)
    else:
        assert found == expected


def assert_both(ours: Callable[..., Any], theirs: Callable[..., Any], /, *args: Any, **options: Any) -> None:
    """Make the same call of both: the same result, or the same error."""
    try:
        expected = theirs(*args, **copy.deepcopy(options))  # transformers writes into dicts that it is given
    except Exception as error:
        with pytest.raises(type(error)):
            ours(*args, **options)
    else:
        assert_same(ours(*args, **options), expected)
