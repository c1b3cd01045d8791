"""Reading how a config.json turns queries and keys by their positions, for the families that do."""

from __future__ import annotations

from typing import Any

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.base import Config, check_positions
from bothways.spec import Rotary, Spec

__all__ = ["check_turnable", "read_base", "read_rotary"]


def read_rotary(config: Config, *, default: float | None, head_size: int) -> Rotary:
    """Read today's rope_parameters, or rope_theta and rope_scaling as configs had them before.

    "ntk" is the scaling that gte's own code fixed when such a checkpoint is loaded (https://kexue.fm/archives/9706).
    """
    parameters = _object(config, "rope_parameters") or _object(config, "rope_scaling")
    base = read_base({"rope_theta": default, **_present(config), **_present(parameters)}, "rope_theta")
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return Rotary(base)
    if kind == "ntk":
        factor = read_base(parameters, "factor")
        return Rotary(base * factor, factor ** (-2 / head_size))
    raise UnsupportedModel(
        f"config.json: rotary positions of type {kind!r:.100} are not supported; Bothways computes 'default' and 'ntk'"
    )


def read_base(config: Config, key: str) -> float:
    """Read a number of at least 1."""
    value = config.get(key)
    if value is None:
        raise CheckpointError(f"config.json has no {key}; the network can't be known without it")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value < 1e30:
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be a number of at least 1, such as 10000")
    return float(value)


def check_turnable(spec: Spec) -> None:
    """Refuse heads whose values can't be paired, and more positions than there is reason to compute angles of."""
    check_positions(spec)
    if spec.head_size % 2:
        raise UnsupportedModel(
            f"config.json: heads of {spec.head_size} values can't be turned in pairs; the head size must be even"
        )


def _object(config: Config, key: str) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be an object")
    return value


def _present(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}
