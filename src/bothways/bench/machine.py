"""Where, when and with what figures were taken, and what the machine could do at most."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from bothways.spec import Spec

__all__ = ["operations", "peak_mib", "record"]

_PACKAGES = (
    "bothways",
    "numpy",
    "tokenizers",
    "torch",
    "transformers",
    "sentence-transformers",
    "onnxruntime",
    "openvino",
    "ctranslate2",
)


def record() -> dict[str, Any]:
    """Describe the machine and the versions that a figure depends on."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def operations(spec: Spec, lengths: list[int]) -> float:
    """Floating-point operations of sequences with these numbers of tokens: products and attention, nothing else.

    A product with a weight costs two for each of its numbers and token. Attention costs two for each of H columns,
    query and key that the query sees, once for the scores and once for the sums of values.
    """
    hidden = spec.hidden_size
    keys = spec.key_heads * spec.head_size  # columns of keys, and of values
    weights = 2 * hidden * (hidden + keys) + (3 if spec.gated else 2) * hidden * spec.inner_size  # a layer's
    windows = spec.windows or (None,) * spec.num_layers
    total = 0.0
    for n in lengths:
        total += 2 * n * (spec.num_layers * weights + (spec.embedding_size or 0) * hidden)
        total += sum(4 * hidden * _pairs(n, window) for window in windows)
    return total


def _pairs(tokens: int, window: int | None) -> int:
    """How many pairs of a query and a key there are where a query sees keys up to `window` tokens away."""
    if window is None or window >= tokens:
        return tokens * tokens
    return tokens * (2 * window + 1) - window * (window + 1)


def peak_mib() -> float | None:
    """This process's peak memory in MiB, or None where the system does not say (getrusage also counts its parent's)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    from bothways import _native

    levels = ", ".join(name for name, why in _native.levels() if not why)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.processor() or platform.machine()} (levels {levels})"
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name, family, model = (fields.get(key, "?") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model}; levels {levels})"
