"""The JSON files beside a network, read with the type of every value checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.errors import CheckpointError

__all__ = ["JsonFile", "read_list", "read_object"]


@dataclass(frozen=True)
class JsonFile:
    """A JSON object on disk."""

    path: Path
    values: dict[str, Any]

    def get(self, key: str, kind: type, default: Any) -> Any:
        """The value of `key`; a missing or null value is the default."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CheckpointError(f"{self.path} has {key!r}: {value!r}; it must be a JSON {_JSON_NAMES[kind]}")
        return value

    def positive(self, key: str) -> int | None:
        """The value of `key` as a whole number above zero, or None."""
        value: int | None = self.get(key, int, None)
        if value is not None and value < 1:
            raise CheckpointError(f"{self.path} has {key!r}: {value!r}; it must be at least 1")
        return value


_JSON_NAMES = {int: "integer", str: "string", bool: "boolean", dict: "object"}


def read_object(path: Path) -> JsonFile:
    """Read a file that holds an object."""
    values = _read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; it must be an object")
    return JsonFile(path, values)


def read_list(path: Path) -> list[Any]:
    """Read a file that holds a list."""
    values = _read_json(path)
    if not isinstance(values, list):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; it must be a list")
    return values


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing, though modules.json names its folder; fetch it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable as JSON ({error}); fetch it again") from error
