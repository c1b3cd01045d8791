"""What a family is, and the readers that its file uses to turn config.json into a `Spec`.

Every reader names the key that is missing, of a wrong type or not supported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.safetensors import Tensor
from bothways.spec import HeadSpec, Spec

__all__ = [
    "Config",
    "Family",
    "Heads",
    "check_heads",
    "check_positions",
    "own_code",
    "read_activation",
    "read_choice",
    "read_eps",
    "read_flag",
    "read_layers",
    "read_size",
    "refuse_unless",
    "refuse_variants",
    "with_bias",
]

Config = Mapping[str, Any]
Heads = Mapping[str, HeadSpec]

_Choice = TypeVar("_Choice")

#: transformers' names for the activations (its ACT2FN table) and Bothways' names for them.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_fast",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# A network without a position table computes something for every position when it is loaded, and no tensor proves that
# there are so many.
_MAX_POSITIONS = 2**17

# Far beyond any real network; a config that claims more would only exhaust memory while its tensors are listed.
_MAX_SIZE = 2**31 - 1
_MAX_LAYERS = 1000

_LAYER = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True)
class Family:
    """A family of networks: how its config.json and its weights files spell what a `Spec` says.

    Attributes:
        name: The family's name in `Spec.family`.
        model_types: The values of config.json's `model_type` that belong to it.
        complete: Makes the `Spec` and the tensors of these two, where the tensors say what config.json does not.
        repository: The hub name of the code that config.json must point to, where `model_type` is another family's.
        spec: Turns config.json into a `Spec`, without the pooler and the embedding, which other files decide.
        prefixes: What a checkpoint with a head puts in front of the base network's tensor names.
        names: Canonical tensor name -> the base network's name for it; `{n}` stands for the layer.
        parts: Canonical name of a linear layer -> which of how many equal parts of the rows of the tensors that `names`
            gives it is its own; a layer that isn't listed has all of them.
        stand_ins: Canonical tensor name -> a head's tensor that is the same one when only that is stored
            (tied weights are stored once, under either name).
        no_pooler: Why no checkpoint of this family has a pooler, or "" when they may.
        heads: The heads that its checkpoints may carry, by the checkpoint's own tensor names; a function of config.json
            where that decides what they are.
        head_stand_ins: A head's tensor name -> the name, a canonical one too, of the tensor that is the same one when
            only that is stored.
        other: The same family under the names of other weights files.
        unused: Tensors of the base network that a checkpoint may store without using them, by its own names.
    """

    name: str
    model_types: tuple[str, ...]
    spec: Callable[[Config], Spec]
    prefixes: tuple[str, ...]
    names: Mapping[str, str]
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    no_pooler: str = ""
    heads: Heads | Callable[[Config], Heads] = field(default_factory=dict)
    head_stand_ins: Mapping[str, str] = field(default_factory=dict)
    other: Family | None = None
    unused: frozenset[str] = frozenset()
    repository: str = ""
    complete: Callable[[Spec, Config, Mapping[str, Tensor]], tuple[Spec, Mapping[str, Tensor]]] | None = None

    @property
    def roots(self) -> frozenset[str]:
        """The first words of the base network's tensor names, the pooler's aside."""
        return frozenset(name.split(".")[0] for key, name in self.names.items() if not key.startswith("pooler."))

    def heads_of(self, config: Config) -> Heads:
        """The heads that a checkpoint with this config.json may carry."""
        return self.heads(config) if callable(self.heads) else self.heads

    def checkpoint_name(self, canonical: str) -> str:
        """Spell a canonical tensor name as the base network does, without a prefix."""
        match = _LAYER.match(canonical)
        if not match:
            return self.names[canonical]
        return self.names["layers.{n}." + canonical[match.end() :]].replace("{n}", match[1])

    def part(self, canonical: str) -> tuple[int, int]:
        """Which part of its tensor's rows a canonical tensor is, of how many equal ones: (0, 1) for all."""
        match = _LAYER.match(canonical)
        name = canonical[match.end() :] if match else canonical
        return self.parts.get(name.split(".")[0], (0, 1))


def with_bias(names: Mapping[str, str]) -> dict[str, str]:
    """Expand names of linear layers and norms into those of their weight and bias."""
    return {f"{key}.{part}": f"{name}.{part}" for key, name in names.items() for part in ("weight", "bias")}


#: The products of a layer, as transformers 5 names them where queries and units have a product each.
PRODUCTS = {
    "layers.{n}.query": "layers.{n}.self_attn.q_proj",
    "layers.{n}.key": "layers.{n}.self_attn.k_proj",
    "layers.{n}.value": "layers.{n}.self_attn.v_proj",
    "layers.{n}.attention_output": "layers.{n}.self_attn.o_proj",
    "layers.{n}.inner": "layers.{n}.mlp.up_proj",
    "layers.{n}.gate": "layers.{n}.mlp.gate_proj",
    "layers.{n}.output": "layers.{n}.mlp.down_proj",
}


def _read(config: Config, keys: tuple[str, ...]) -> tuple[str, Any]:
    """Find the one of several spellings of a key that config.json uses, and its value."""
    present = [key for key in keys if config.get(key) is not None]
    if not present:
        raise CheckpointError(f"config.json has no {' or '.join(keys)}; the network can't be known without it")
    if any(config[key] != config[present[0]] for key in present[1:]):
        values = " but ".join(f"{key} {config[key]!r}" for key in present)
        raise CheckpointError(f"config.json contradicts itself: {values}; remove the wrong one")
    return present[0], config[present[0]]


def read_size(config: Config, *keys: str, least: int = 1, most: int = _MAX_SIZE) -> int:
    """Read a whole number. Several keys are spellings of the same one."""
    key, value = _read(config, keys)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be a whole number from {least} to {most}")
    return value


def read_layers(config: Config, *keys: str) -> int:
    """Read the number of layers."""
    return read_size(config, *keys, most=_MAX_LAYERS)


def read_eps(config: Config, key: str) -> float:
    """Read what layer norms add to the variance: a small number, 0 or more."""
    _, value = _read(config, (key,))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be a number from 0 to 1, such as 1e-12")
    return float(value)


def read_flag(config: Config, key: str, default: bool) -> bool:
    """Read true or false; `default` where config.json says nothing."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be true or false")
    return value


def refuse_unless(config: Config, **supported: object) -> None:
    """Refuse a config in which one of these keys has another value than the one that is supported."""
    for key, value in supported.items():
        given = config.get(key)
        if given is not None and given != value:
            raise UnsupportedModel(f"config.json: {key} {given!r:.100} is not supported, only {value!r} is")


def read_activation(config: Config, key: str) -> str:
    """Read the feed-forward activation, as one of `spec.ACTIVATIONS`."""
    _, value = _read(config, (key,))
    if not isinstance(value, str):
        raise CheckpointError(f"config.json: {key} is {value!r:.100}, it must be a string, such as 'gelu'")
    if value not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"config.json: {key} {value!r:.100} is not an activation that Bothways computes; "
            f"it computes {', '.join(sorted(_ACTIVATIONS))}"
        )
    return _ACTIVATIONS[value]


def read_choice(config: Config, keys: tuple[str, ...], choices: Mapping[str, _Choice], default: str) -> _Choice:
    """Read one of several words as what it stands for; `default` where config.json has none of the keys."""
    if all(config.get(key) is None for key in keys):
        return choices[default]
    key, value = _read(config, keys)
    if not isinstance(value, str) or value not in choices:
        raise UnsupportedModel(f"config.json: {key} {value!r:.100} is not supported, only {', '.join(choices)} are")
    return choices[value]


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Refuse a network whose heads do not share the hidden values evenly."""
    if hidden_size % num_heads:
        raise UnsupportedModel(
            f"config.json: hidden size {hidden_size} can't be shared evenly by {num_heads} attention heads; "
            "Bothways computes heads of one size only"
        )


def check_positions(spec: Spec) -> None:
    """Refuse more positions than there is reason to prepare for, in a network without a position table."""
    if spec.num_positions > _MAX_POSITIONS:
        raise CheckpointError(
            f"config.json: the longest text is {spec.num_positions} tokens, it must be {_MAX_POSITIONS} at most"
        )


def refuse_variants(config: Config, *, own_code: bool = False, positions: str = "absolute") -> None:
    """Refuse config values that make another network out of the same tensor names.

    Args:
        config: config.json.
        own_code: The family is what its checkpoints' own code computes, so they may point to that.
        positions: The supported position_embedding_type.
    """
    if not own_code:
        _refuse_own_code(config)
    position_type = config.get("position_embedding_type") or positions
    if position_type != positions:
        raise UnsupportedModel(
            f"config.json: position_embedding_type {position_type!r:.100} is not supported, only {positions!r} is"
        )
    for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder", "is_causal"):
        value = config.get(key)
        if value not in (None, False):
            raise UnsupportedModel(
                f"config.json: {key} is {value!r:.100}, but Bothways computes encoders only, where it is false"
            )
    _refuse_reduced(config)


def own_code(config: Config) -> dict[str, Any]:
    """Read which classes of the checkpoint's own code compute its network: transformers' class -> where the code is."""
    auto_map = config.get("auto_map") or {}
    if not isinstance(auto_map, dict):
        raise CheckpointError(f"config.json: auto_map is {auto_map!r:.100}, it must be an object")
    return {key: place for key, place in auto_map.items() if key.startswith(("AutoConfig", "AutoModel"))}


def _refuse_own_code(config: Config) -> None:
    custom = own_code(config)
    if custom:
        raise UnsupportedModel(
            f"config.json: auto_map points to the checkpoint's own code for {', '.join(sorted(custom))}, so the "
            f"network is not the {config.get('model_type')!r} that it claims; Bothways never runs a checkpoint's code; "
            "use a checkpoint without auto_map"
        )


def _refuse_reduced(config: Config) -> None:
    pruned = config.get("pruned_heads") or {}
    if not isinstance(pruned, dict):
        raise CheckpointError(f"config.json: pruned_heads is {pruned!r:.100}, it must be an object")
    if any(pruned.values()):
        raise UnsupportedModel(
            f"config.json: pruned_heads {pruned!r:.100} is not supported; use the unpruned checkpoint"
        )
    if config.get("quantization_config"):
        raise UnsupportedModel(
            "config.json: quantization_config says that the weights are stored quantized, which is not supported; "
            "use the checkpoint in float32, float16 or bfloat16"
        )
