"""Arrays and torch tensors: either is read, and torch is imported only where a caller wants or brings tensors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_given", "is_tensor", "read_array", "to_tensor"]


def to_tensor(array: npt.NDArray[Any], wanted_by: str) -> Any:
    """Make a tensor of an array; `wanted_by` is the argument that asked for one, for the message without torch."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ImportError(f"{wanted_by} gives torch tensors, and torch is not installed: pip install torch") from None
    # A tensor shares the array's memory, which must be its own and in order.
    return torch.from_numpy(np.array(array, order="C"))


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, without importing torch: if nobody has, it is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def read_array(values: Any) -> npt.NDArray[Any]:
    """Read an array, a tensor, or a list of numbers, arrays or tensors, as an array of floats.

    float64 stays as it is, and all else becomes float32.
    """
    if is_tensor(values):
        values = values.detach().cpu()
        values = (values if values.dtype.itemsize >= 4 else values.float()).numpy()
    elif isinstance(values, list | tuple) and any(
        is_tensor(value) or isinstance(value, np.ndarray) for value in values
    ):
        values = np.stack([read_array(value) for value in values])
    # torch makes float32 of Python's numbers.
    array = values if isinstance(values, np.ndarray) else np.asarray(values, np.float32)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def as_given(result: npt.NDArray[Any], *given: Any) -> Any:
    """Turn a result into what its inputs were: a tensor where one of them was or held one."""
    held = (value[0] if isinstance(value, list | tuple) and value else value for value in given)
    return to_tensor(result, "a tensor among the inputs") if any(map(is_tensor, held)) else result
