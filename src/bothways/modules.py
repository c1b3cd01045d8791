"""Reads the sentence-transformers files of a checkpoint: how token vectors become an embedding.

No weights are read here. Both generations of file are understood: a module's type counts by its last
dotted part, and a pooling is spelled as booleans (before version 6) or as names.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bothways.embed_spec import DenseSpec, EmbedSpec, SpladeSpec
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.json_files import JsonFile, read_list, read_object
from bothways.late_interaction import is_late, read_late, read_stanford

__all__ = ["DENSE_ACTIVATIONS", "known_config", "network_folder", "read_embed_spec", "read_rank_activation"]

#: torch class name -> Bothways' name, for the activation behind a Dense module or a cross-encoder's score.
DENSE_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}

# What computes: token vectors with their context, scores of a vocabulary, or a text's mean vector from a table.
_STATIC = "StaticEmbedding"
_NETWORKS = ("Transformer", "MLMTransformer", _STATIC)
_KNOWN_TYPES = (
    "Transformer",
    "MLMTransformer",
    _STATIC,
    "Pooling",
    "Dense",
    "Normalize",
    "Dropout",
    "SpladePooling",
    "MultiVectorMask",
)
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_LATE_SIMILARITIES = ("maxsim", "meanmaxsim")

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


def read_embed_spec(
    folder: Path,
    hidden_size: int | None = None,
    *,
    usual: EmbedSpec | None = None,
    config: Mapping[str, Any] | None = None,
) -> EmbedSpec:
    """Read how a checkpoint's token vectors become an embedding.

    Without a modules.json the pooling is the mean, as in sentence-transformers.

    Args:
        folder: The checkpoint's.
        hidden_size: The network's, which the Pooling's own number must equal; unchecked when None.
        usual: What holds where the files say nothing.
        config: config.json, which says that a checkpoint is Stanford's ColBERT.

    Raises:
        CheckpointError: A file is damaged, points outside the folder or contradicts the network.
        UnsupportedModel: A module, or an option of one, that changes the embedding in a way not computed here.
    """
    modules = _list_modules(folder)
    network = folder / modules[0][1] if modules else folder
    settings = _settings(folder)
    late = is_late(settings)
    spec = _read_length(network, usual or EmbedSpec())
    if not modules and hidden_size is not None and "HF_ColBERT" in ((config or {}).get("architectures") or []):
        return replace(_read_settings(settings, spec, "maxsim"), late=read_stanford(folder, hidden_size))
    if late and modules:
        return _read_late(folder, modules, settings, _read_settings(settings, spec, "maxsim"))
    similarity = "dot" if ("SpladePooling" in [kind for kind, _ in modules]) else "cosine"
    return _read_modules(folder, modules, _read_settings(settings, spec, similarity), hidden_size)


def network_folder(folder: Path) -> Path:
    """Find the folder of the network and its tokenizer: the checkpoint's own, or the one that modules.json names.

    Raises:
        CheckpointError: modules.json is damaged, or points outside the folder.
        UnsupportedModel: modules.json lists modules in an order that is not computed here.
    """
    modules = _list_modules(folder)
    return folder / modules[0][1] if modules else folder


def _settings(folder: Path) -> JsonFile:
    path = folder / "config_sentence_transformers.json"
    return read_object(path) if path.is_file() else JsonFile(path, {})


def known_config(folder: Path) -> dict[str, Any]:
    """What modules.json says of the network that a config.json would: a StaticEmbedding has none."""
    modules = _list_modules(folder)
    return {"model_type": "static"} if modules and modules[0][0] == _STATIC else {}


def read_rank_activation(folder: Path, config: Mapping[str, Any], num_labels: int = 1) -> str:
    """Read what a cross-encoder's score goes through, looked for where sentence-transformers looks for it.

    In this order: `activation_fn` of config_sentence_transformers.json, the same below `sentence_transformers` in
    config.json, `sbert_ce_default_activation_function` there (before version 4), the sigmoid for a single label.

    Raises:
        CheckpointError: A file is damaged.
        UnsupportedModel: The activation is none that is computed here.
    """
    own = JsonFile(network_folder(folder) / "config.json", dict(config))
    section = JsonFile(own.path, own.get("sentence_transformers", dict, {}))
    for place, key in (
        (_settings(folder), "activation_fn"),
        (section, "activation_fn"),
        (own, "sbert_ce_default_activation_function"),
    ):
        name = place.get(key, str, None)
        if name is not None:
            return _activation(place, key, name)
    return "sigmoid" if num_labels == 1 else "identity"


def _activation(file: JsonFile, key: str, name: str) -> str:
    """A torch class's name as Bothways' name for the activation."""
    last = name.rpartition(".")[2]
    if not name.startswith("torch.") or last not in DENSE_ACTIVATIONS:
        known = ", ".join(DENSE_ACTIVATIONS)
        raise UnsupportedModel(f"{file.path} has {key!r}: {name!r}; supported are torch's {known}")
    return DENSE_ACTIVATIONS[last]


def _read_length(folder: Path, spec: EmbedSpec) -> EmbedSpec:
    for name in _LENGTH_FILES:
        if (folder / name).is_file():
            file = read_object(folder / name)
            lower_case = file.get("do_lower_case", bool, False)
            return replace(spec, max_tokens=file.positive("max_seq_length"), lower_case=lower_case)
    return spec


def _read_settings(file: JsonFile, spec: EmbedSpec, usual: str) -> EmbedSpec:
    """Read what config_sentence_transformers.json says; `usual` is the similarity where it names none."""
    # "query" and "document" always exist, empty unless the checkpoint fills them (sentence-transformers 5 and later).
    prompts = {"query": "", "document": "", **file.get("prompts", dict, {})}
    for name, prompt in prompts.items():
        if not isinstance(prompt, str | None):
            raise CheckpointError(f"{file.path} has prompt {name!r}: {prompt!r}; it must be a string")
    default = file.get("default_prompt_name", str, None)
    if default is not None and default not in prompts:
        raise CheckpointError(f"{file.path} names the default prompt {default!r}, but has only {sorted(prompts)}")
    return replace(
        spec,
        prompts={name: prompt or "" for name, prompt in prompts.items()},
        default_prompt=default,
        dimensions=file.positive("truncate_dim"),
        similarity=_similarity(file, usual),
    )


def _similarity(file: JsonFile, usual: str) -> str:
    name = str(file.get("similarity_fn_name", str, usual))
    if usual in _LATE_SIMILARITIES:
        # PyLate writes MaxSim; what one vector a text is compared by can't compare many, so it says nothing here.
        return name.lower() if name.lower() in _LATE_SIMILARITIES else usual
    if name not in _SIMILARITIES:
        raise UnsupportedModel(f"{file.path} asks for similarity {name!r}; supported are {', '.join(_SIMILARITIES)}")
    return name


def _read_modules(folder: Path, modules: list[tuple[str, str]], spec: EmbedSpec, hidden_size: int | None) -> EmbedSpec:
    if not modules:
        return replace(spec, pooling_from="default: the checkpoint has no modules.json")
    reason = "StaticEmbedding" if modules[0][0] == _STATIC else "default: modules.json has no Pooling"
    spec = replace(spec, pooling_from=reason)
    for kind, subfolder in modules[1:]:
        spec = _READERS[kind](folder, subfolder, spec)
        if kind == "Pooling" and hidden_size is not None:
            _check_size(read_object(folder / subfolder / "config.json"), hidden_size)
    return spec


def _read_late(folder: Path, modules: list[tuple[str, str]], settings: JsonFile, spec: EmbedSpec) -> EmbedSpec:
    """Read a checkpoint whose modules follow the network token by token (PyLate, MultiVectorEncoder)."""
    dense: list[DenseSpec] = []
    masks = [read_object(folder / path / "config.json") for kind, path in modules if kind == "MultiVectorMask"]
    for kind, subfolder in modules[1:]:
        file = folder / subfolder / "config.json"
        if kind == "Dense":
            dense.append(_layer(read_object(file), subfolder, "token_embeddings"))
        elif kind == "Normalize" and subfolder and file.is_file():
            _refuse_other_vectors(read_object(file), "token_embeddings")
    # PyLate's own files list no Normalize: its vectors always have length 1.
    normal = not masks or any(kind == "Normalize" for kind, _ in modules)
    own = folder / modules[0][1] / "sentence_bert_config.json"
    transformer = read_object(own) if own.is_file() else JsonFile(own, {})
    mask = masks[0] if masks else None
    return replace(spec, late=read_late(settings, transformer, mask, tuple(dense), normalize=normal))


def _list_modules(folder: Path) -> list[tuple[str, str]]:
    """The modules' types and subfolders, the network first; none without a modules.json."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    modules = [_module(path, entry) for entry in read_list(path)]
    kinds = [kind for kind, _ in modules]
    listed = ", ".join(kinds)
    poolings = kinds.count("Pooling") + kinds.count("SpladePooling")
    if not kinds or kinds[0] not in _NETWORKS or any(kind in _NETWORKS for kind in kinds[1:]) or poolings > 1:
        raise UnsupportedModel(f"{path} lists {listed}; supported are one Transformer, one Pooling, Dense, Normalize")
    working = [kind for kind in kinds[1:] if kind != "Dropout"]
    if kinds[0] == _STATIC and poolings:
        raise UnsupportedModel(f"{path} lists {listed}; a StaticEmbedding gives a text's mean, and no Pooling follows")
    if kinds[0] == _STATIC:
        return modules
    if is_late(_settings(folder)):
        _check_late_order(path, working)
    elif "SpladePooling" in working and working != ["SpladePooling"]:
        raise UnsupportedModel(
            f"{path} lists {', '.join(kinds)}; supported is a SpladePooling alone behind the network"
        )
    elif working and working[0] not in ("Pooling", "SpladePooling"):
        raise UnsupportedModel(
            f"{path} lists {', '.join(kinds)}; supported is a Pooling right behind the Transformer, then others"
        )
    return modules


def _check_late_order(path: Path, working: list[str]) -> None:
    dense = [kind for kind in working if kind == "Dense"]
    if sorted(working[len(dense) :]) not in ([], ["MultiVectorMask"], ["MultiVectorMask", "Normalize"], ["Normalize"]):
        raise UnsupportedModel(
            f"{path} lists {', '.join(working)} behind the network of a ColBERT; supported are Dense modules, then a "
            "MultiVectorMask and a Normalize"
        )


def _check_size(file: JsonFile, hidden_size: int) -> None:
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
    if kind not in (*_KNOWN_TYPES, *_NETWORKS):
        raise UnsupportedModel(f"{path} uses the module {entry['type']!r}; supported are {', '.join(_KNOWN_TYPES)}")
    subfolder = JsonFile(path, entry).get("path", str, "")
    normal = posixpath.normpath(subfolder.replace("\\", "/")) if subfolder else ""
    # Compared by name, not resolved: a hub cache holds links that lead out of the folder by design.
    if normal.startswith(("..", "/")) or ":" in normal or "\0" in normal:
        raise CheckpointError(f"{path} has 'path': {subfolder!r}; it must stay inside the checkpoint's folder")
    return kind, "" if normal == "." else normal


def _read_pooling(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    file = read_object(folder / subfolder / "config.json")
    return replace(
        spec,
        pooling=_poolings(file),
        pooling_from=f"{subfolder}/config.json",
        include_prompt=file.get("include_prompt", bool, True),
    )


def _poolings(file: JsonFile) -> tuple[str, ...]:
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
    file = read_object(folder / subfolder / "config.json")
    if spec.normalize:
        raise UnsupportedModel(f"{file.path} is a Dense module behind a Normalize; supported is the other order")
    return replace(spec, dense=(*spec.dense, _layer(file, subfolder, "sentence_embedding")))


def _layer(file: JsonFile, subfolder: str, vectors: str) -> DenseSpec:
    _refuse_other_vectors(file, vectors)
    sizes = [file.positive(key) for key in ("in_features", "out_features")]
    if sizes[0] is None or sizes[1] is None:
        raise CheckpointError(f"{file.path} must name 'in_features' and 'out_features'")
    activation = file.get("activation_function", str, "torch.nn.modules.activation.Tanh")
    bias = file.get("bias", bool, True)
    activation = _activation(file, "activation_function", activation)
    return DenseSpec(subfolder, sizes[0], sizes[1], bias, activation, file.get("use_residual", bool, False))


def _read_splade(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    file = read_object(folder / subfolder / "config.json")
    pooling = file.get("pooling_strategy", str, "max")
    activation = file.get("activation_function", str, "relu")
    for key, value, known in (
        ("pooling_strategy", pooling, ("max", "sum")),
        ("activation_function", activation, ("relu", "log1p_relu")),
    ):
        if value not in known:
            raise UnsupportedModel(f"{file.path} has {key!r}: {value!r}; supported are {', '.join(known)}")
    return replace(spec, splade=SpladeSpec(pooling, activation))


def _read_normalize(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    path = folder / subfolder / "config.json"
    # git keeps no empty folders, so a Normalize module usually has none; with path "" the file is the network's own.
    if subfolder and path.is_file():
        _refuse_other_vectors(read_object(path), "sentence_embedding")
    return replace(spec, normalize=True)


def _read_dropout(folder: Path, subfolder: str, spec: EmbedSpec) -> EmbedSpec:
    """Dropout does nothing outside training."""
    return spec


_READERS = {
    "Pooling": _read_pooling,
    "SpladePooling": _read_splade,
    "Dense": _read_dense,
    "Normalize": _read_normalize,
    "Dropout": _read_dropout,
}


def _refuse_other_vectors(file: JsonFile, supported: str) -> None:
    for key in ("module_input_name", "module_output_name"):
        value = file.get(key, str, supported)
        if value != supported:
            raise UnsupportedModel(f"{file.path} has {key!r}: {value!r}; supported is {supported!r}")
