"""What can be measured: Bothways in a level and dtype, or a rival library in a dtype, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

from bothways.errors import InputError

__all__ = ["RIVALS", "Candidate", "environment", "ours", "rival"]


@dataclass(frozen=True)
class Rival:
    """A library that Bothways is compared with.

    Attributes:
        module: Its file in `rivals/`.
        packages: Import names and the pip names that bring them, all of which it needs.
        dtypes: What it can be asked for, the default first.
    """

    module: str
    packages: dict[str, str]
    dtypes: tuple[str, ...]


_TORCH = {"torch": "torch", "transformers": "transformers"}

RIVALS = {
    "sentence-transformers": Rival(
        "sentence_transformers", {**_TORCH, "sentence_transformers": "sentence-transformers"}, ("float32", "bfloat16")
    ),
    "onnxruntime": Rival(
        "onnxruntime",
        {**_TORCH, "onnxruntime": "onnxruntime", "onnx": "onnx", "onnxscript": "onnxscript"},
        ("float32",),
    ),
    "openvino": Rival("openvino", {**_TORCH, "openvino": "openvino"}, ("float32", "bfloat16")),
    "ctranslate2": Rival("ctranslate2", {**_TORCH, "ctranslate2": "ctranslate2"}, ("float32", "int8")),
    "torch.compile": Rival("torch_compile", _TORCH, ("float32", "bfloat16")),
}


@dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    Attributes:
        name: What results call it.
        module: "bothways", or a rival's file.
        dtype: The dtype of its arithmetic.
        environment: What its process gets beside this one's environment.
    """

    name: str
    module: str
    dtype: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether this is Bothways."""
        return self.module == "bothways"


def ours(level: str, dtype: str) -> Candidate:
    """Bothways in a level and dtype."""
    return Candidate(f"bothways {level} {dtype}", "bothways", dtype, (("BOTHWAYS_LEVEL", level),))


def rival(wanted: str) -> Candidate:
    """Find a rival by `name` or `name:dtype`.

    Raises:
        InputError: There is no such rival, it has no such dtype, or what it needs is not installed.
    """
    name, _, dtype = wanted.partition(":")
    if name not in RIVALS:
        raise InputError(f"rival {name!r} is unknown; Bothways can be measured against {', '.join(RIVALS)}")
    found = RIVALS[name]
    dtype = dtype or found.dtypes[0]
    if dtype not in found.dtypes:
        raise InputError(f"{name} is measured in {' or '.join(found.dtypes)}, not in {dtype!r}")
    missing = [pip for module, pip in found.packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"{name} needs what is not installed here: pip install {' '.join(missing)}")
    return Candidate(f"{name} {dtype}", found.module, dtype)


def environment(candidate: Candidate, threads: int) -> dict[str, str]:
    """The environment of a candidate's process: all libraries are told the same number of threads."""
    return {**os.environ, **dict(candidate.environment), "OMP_NUM_THREADS": str(threads)}
