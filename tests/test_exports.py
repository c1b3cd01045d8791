"""What `import bothways` gives, and what it must not load."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import bothways

HEAVY = ("torch", "transformers", "huggingface_hub", "pyarrow", "rich", "click", "concurrent.futures", "logging")
HEAVY += ("importlib.metadata", "httpx2", "bothways.client", "starlette", "uvicorn", "msgspec", "asyncio")


def test_the_public_names_are_these() -> None:
    assert bothways.__all__ == [
        "Answer",
        "AsyncClient",
        "BothwaysError",
        "CheckpointError",
        "Client",
        "DeviceError",
        "EmbedSpec",
        "Encoded",
        "Encoder",
        "Fill",
        "HeadSpec",
        "InputError",
        "InputTooLong",
        "Inspection",
        "Label",
        "ModelNotFound",
        "OutOfMemory",
        "Pair",
        "Ranked",
        "ServerError",
        "Span",
        "SparseEmbedding",
        "Spec",
        "TaskError",
        "UnsupportedModel",
        "__version__",
        "community_detection",
        "inspect",
        "maxsim",
        "mine_hard_negatives",
        "paraphrase_mining",
        "semantic_search",
    ]
    assert bothways.__all__ == sorted(bothways.__all__)


def test_every_public_name_exists_and_is_documented() -> None:
    for name in bothways.__all__:
        assert getattr(bothways, name).__doc__


def test_importing_loads_nothing_heavy() -> None:
    program = f"import sys, bothways; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_version_is_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1.2.3")
    assert bothways.__version__ == "bothways 1.2.3"
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = bothways.version  # type: ignore[attr-defined]
