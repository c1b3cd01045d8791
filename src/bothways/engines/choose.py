"""Chooses the engine that computes a checkpoint, or says why the one asked for can't."""

from __future__ import annotations

import numpy as np

from bothways.checkpoint import Checkpoint
from bothways.engines.base import Engine
from bothways.errors import DeviceError
from bothways.spec import DTYPES

__all__ = ["choose"]

_ENGINES = ("auto", "native")
_DEVICES = ("auto", "cpu")


def choose(
    checkpoint: Checkpoint,
    *,
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
) -> Engine:
    """Load a checkpoint into the engine asked for; "auto" is the native engine on the CPU.

    Raises:
        DeviceError: This version, or this machine, has no such engine, device or dtype.
    """
    for word, given, available in (
        ("engine", engine, _ENGINES),
        ("device", device, _DEVICES),
        ("dtype", dtype, DTYPES),
    ):
        if not isinstance(given, str) or given not in available:
            raise DeviceError(f"{word} {given!r} is not available in this version; use {' or '.join(available)}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1):
        raise DeviceError(f"threads is {threads!r}; it must be a whole number above zero, or None for Bothways' choice")
    from bothways.engines.native import NativeEngine

    return NativeEngine(checkpoint, dtype=dtype, threads=None if threads is None else int(threads))
