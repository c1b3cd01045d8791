"""What `import bothways` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys

import bothways

HEAVY = ("torch", "transformers", "huggingface_hub", "pyarrow", "rich", "click", "concurrent.futures", "logging")


def test_the_public_names_are_these() -> None:
    assert bothways.__all__ == [
        "BothwaysError",
        "CheckpointError",
        "DeviceError",
        "EmbedSpec",
        "Encoded",
        "Encoder",
        "InputError",
        "ModelNotFound",
        "OutOfMemory",
        "ServerError",
        "Spec",
        "TaskError",
        "UnsupportedModel",
    ]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in bothways.__all__:
        assert getattr(bothways, name).__doc__


def test_importing_loads_nothing_heavy() -> None:
    program = f"import sys, bothways; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
