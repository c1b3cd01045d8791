"""Reads the sentence-transformers files of a checkpoint: how token vectors become one embedding.

No weights are read here. Both generations of file are understood: a module's type counts by its last
dotted part, and a pooling is spelled as booleans (before version 6) or as names.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bothways.errors import CheckpointError, UnsupportedModel
from bothways.spec import DenseSpec, EmbedSpec

__all__ = ["DENSE_ACTIVATIONS", "is_static", "network_folder", "read_embed_spec", "read_rank_activation"]

#: torch class name -> Bothways' name, for the activation behind a Dense module or a cross-encoder's score.
DENSE_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}

# What computes: token vectors with their context, or a text's mean vector from a table.
_TRANSFORMER, _STATIC = _NETWORKS = ("Transformer", "StaticEmbedding")
_KNOWN_TYPES = (*_NETWORKS, "Pooling", "Dense", "Normalize", "Dropout")
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

_POOLING_NAMES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
    "lasttoken": "lasttoken",
}

#: In the order in which several true flags are concatenated.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_LENGTH_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True)
class _File:
    """A JSON object on disk, read with the type of every value checked."""

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


def read_embed_spec(folder: Path, hidden_size: int | None = None, usual: EmbedSpec | None = None) -> EmbedSpec:
    """Read how a checkpoint's token vectors become one embedding.

    Without a modules.json the pooling is the mean, as in sentence-transformers.

    Args:
        folder: The checkpoint's.
        hidden_size: The network's, which the Pooling's own number must equal; unchecked when None.
        usual: What holds where the files say nothing.

    Raises:
        CheckpointError: A file is damaged, points outside the folder or contradicts the network.
        UnsupportedModel: A module, or an option of one, that changes the embedding in a way not computed here.
    """
    spec = _read_settings(folder, _read_length(network_folder(folder), usual or EmbedSpec()))
    return _read_modules(folder, spec, hidden_size)


def network_folder(folder: Path) -> Path:
    """Find the folder of the network and its tokenizer: the checkpoint's own, or the one that modules.json names.

    Raises:
        CheckpointError: modules.json is damaged, or points outside the folder.
        UnsupportedModel: modules.json lists modules in an order that is not computed here.
    """
    path = folder / "modules.json"
    return folder / _list_modules(path)[0][1] if path.is_file() else folder


def is_static(folder: Path) -> bool:
    """Whether modules.json names a StaticEmbedding as the network."""
    path = folder / "modules.json"
    return path.is_file() and _list_modules(path)[0][0] == _STATIC


def read_rank_activation(folder: Path, config: Mapping[str, Any], num_labels: int = 1) -> str:
    """Read what a cross-encoder's score goes through, looked for where sentence-transformers looks for it.

    In this order: `activation_fn` of config_sentence_transformers.json, the same below `sentence_transformers` in
    config.json, `sbert_ce_default_activation_function` there (before version 4), the sigmoid for a single label.

    Raises:
        CheckpointError: A file is damaged.
        UnsupportedModel: The activation is none that is computed here.
    """
    path = folder / "config_sentence_transformers.json"
    own = _File(network_folder(folder) / "config.json", dict(config))
    section = _File(own.path, own.get("sentence_transformers", dict, {}))
    file = _read_object(path) if path.is_file() else _File(path, {})
    for place, key in (
        (file, "activation_fn"),
        (section, "activation_fn"),
        (own, "sbert_ce_default_activation_function"),
    ):
        name = place.get(key, str, None)
        if name is not None:
            return _activation(place, key, name)
    return "sigmoid" if num_labels == 1 else "identity"


def _activation(file: _File, key: str, name: str) -> str:
    """A torch class's name as Bothways' name for the activation."""
    last = name.rpartition(".")[2]
    if not name.startswith("torch.") or last not in DENSE_ACTIVATIONS:
        known = ", ".join(DENSE_ACTIVATIONS)
        raise UnsupportedModel(f"{file.path} has {key!r}: {name!r}; supported are torch's {known}")
    return DENSE_ACTIVATIONS[last]


def _read_length(folder: Path, spec: EmbedSpec) -> EmbedSpec:
    for name in _LENGTH_FILES:
        if (folder / name).is_file():
            file = _read_object(folder / name)
            lower_case = file.get("do_lower_case", bool, False)
            return replace(spec, max_tokens=file.positive("max_seq_length"), lower_case=lower_case)
    return spec


def _read_settings(folder: Path, spec: EmbedSpec) -> EmbedSpec:
    path = folder / "config_sentence_transformers.json"
    file = _read_object(path) if path.is_file() else _File(path, {})
    # "query" and "document" always exist, empty unless the checkpoint fills them (sentence-transformers 5 and later).
    prompts = {"query": "", "document": "", **file.get("prompts", dict, {})}
    for name, prompt in prompts.items():
        if not isinstance(prompt, str | None):
            raise CheckpointError(f"{path} has prompt {name!r}: {prompt!r}; it must be a string")
    default = file.get("default_prompt_name", str, None)
    if default is not None and default not in prompts:
        raise CheckpointError(f"{path} names the default prompt {default!r}, but has only {sorted(prompts)}")
    similarity = file.get("similarity_fn_name", str, "cosine")
    if similarity not in _SIMILARITIES:
        raise UnsupportedModel(f"{path} asks for similarity {similarity!r}; supported are {', '.join(_SIMILARITIES)}")
    return replace(
        spec,
        prompts={name: prompt or "" for name, prompt in prompts.items()},
        default_prompt=default,
        dimensions=file.positive("truncate_dim"),
        similarity=similarity,
    )


def _read_modules(folder: Path, spec: EmbedSpec, hidden_size: int | None) -> EmbedSpec:
    path = folder / "modules.json"
    if not path.is_file():
        return replace(spec, pooling_from="default: the checkpoint has no modules.json")
    (network, _), *others = _list_modules(path)
    reason = "StaticEmbedding" if network == _STATIC else "default: modules.json has no Pooling"
    spec = replace(spec, pooling_from=reason)
    for kind, subfolder in others:
        spec = _READERS[kind](folder, subfolder, spec)
        if kind == "Pooling" and hidden_size is not None:
            _check_size(_read_object(folder / subfolder / "config.json"), hidden_size)
    return spec


def _list_modules(path: Path) -> list[tuple[str, str]]:
    """The modules' types and subfolders, the network first."""
    modules = [_module(path, entry) for entry in _read_list(path)]
    kinds = [kind for kind, _ in modules]
    listed = ", ".join(kinds)
    networks = [kind for kind in kinds if kind in _NETWORKS]
    if len(networks) != 1 or kinds[0] not in _NETWORKS or kinds.count("Pooling") > 1:
        raise UnsupportedModel(f"{path} lists {listed}; supported are one Transformer, one Pooling, Dense, Normalize")
    working = [kind for kind in kinds if kind != "Dropout"]
    if networks == [_STATIC] and "Pooling" in working:
        raise UnsupportedModel(f"{path} lists {listed}; a StaticEmbedding gives a text's mean, and no Pooling follows")
    if networks == [_TRANSFORMER] and working[1:] and working[1] != "Pooling":
        raise UnsupportedModel(
            f"{path} lists {listed}; supported is a Pooling right behind the Transformer, then others"
        )
    return modules


def _check_size(file: _File, hidden_size: int) -> None:
    """Check that a Pooling was made for the network."""
    for key in ("word_embedding_dimension", "embedding_dimension"):
        size = file.positive(key)
        if size not in (None, hidden_size):
            raise CheckpointError(
                f"{file.path} has {key!r}: {size}, but config.json gives the network {hidden_size} values; "
                "the files are of two checkpoints: fetch them again"
            )


def _module(path: Path, entry: Any) -> tuple[str, str]:
    """One entry of modules.json as its type's last dotted part and its subfolder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise CheckpointError(f"{path} has the entry {entry!r}; every entry must be an object with a 'type' string")
    kind = entry["type"].rpartition(".")[2]
    if kind not in _KNOWN_TYPES:
        raise UnsupportedModel(f"{path} uses the module {entry['type']!r}; supported are {', '.join(_KNOWN_TYPES)}")
    subfolder = _File(path, entry).get("path", str, "")
    normal = posixpath.normpath(subfolder.replace("\\", "/")) if subfolder else ""
    # Compared by name, not resolved: a hub cache holds links that lead out of the folder by design.
    if normal.startswith(("..", "/")) or ":" in normal or "\0" in normal:
        raise CheckpointError(f"{path} has 'path': {subfolder!r}; it must stay inside the checkpoint's folder")
    return kind, "" if normal == "." else normal


def _read_pooling(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    file = _read_object(folder / subfolder / "config.json")
    return replace(
        spec,
        pooling=_poolings(file),
        pooling_from=f"{subfolder}/config.json",
        include_prompt=file.get("include_prompt", bool, True),
    )


def _poolings(file: _File) -> tuple[str, ...]:
    names = file.values.get("pooling_mode")
    if names is None:
        return tuple(name for flag, name in _POOLING_FLAGS.items() if file.get(flag, bool, False)) or ("mean",)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names:
        raise CheckpointError(f"{file.path} has 'pooling_mode': {names!r}; it must be a name or a list of names")
    for name in names:
        if not isinstance(name, str) or name not in _POOLING_NAMES:
            raise UnsupportedModel(f"{file.path} has the pooling {name!r}; supported are {', '.join(_POOLING_NAMES)}")
    return tuple(_POOLING_NAMES[name] for name in names)


def _read_dense(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    file = _read_object(folder / subfolder / "config.json")
    _refuse_other_vectors(file)
    if spec.normalize:
        raise UnsupportedModel(f"{file.path} is a Dense module behind a Normalize; supported is the other order")
    if file.get("use_residual", bool, False):
        raise UnsupportedModel(f"{file.path} has 'use_residual': true; only Dense modules without it are supported")
    sizes = [file.positive(key) for key in ("in_features", "out_features")]
    if sizes[0] is None or sizes[1] is None:
        raise CheckpointError(f"{file.path} must name 'in_features' and 'out_features'")
    activation = file.get("activation_function", str, "torch.nn.modules.activation.Tanh")
    bias = file.get("bias", bool, True)
    activation = _activation(file, "activation_function", activation)
    layer = DenseSpec(subfolder, sizes[0], sizes[1], bias, activation)
    return replace(spec, dense=(*spec.dense, layer))


def _read_normalize(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    path = folder / subfolder / "config.json"
    # git keeps no empty folders, so a Normalize module usually has none; with path "" the file is the network's own.
    if subfolder and path.is_file():
        _refuse_other_vectors(_read_object(path))
    return replace(spec, normalize=True)


def _read_dropout(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    """Dropout does nothing outside training."""
    return spec


_READERS = {
    "Pooling": _read_pooling,
    "Dense": _read_dense,
    "Normalize": _read_normalize,
    "Dropout": _read_dropout,
}


def _refuse_other_vectors(file: _File) -> None:
    for key in ("module_input_name", "module_output_name"):
        value = file.get(key, str, "sentence_embedding")
        if value != "sentence_embedding":
            raise UnsupportedModel(f"{file.path} has {key!r}: {value!r}; supported is 'sentence_embedding'")


def _read_object(path: Path) -> _File:
    values = _read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; it must be an object")
    return _File(path, values)


def _read_list(path: Path) -> list[Any]:
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
