"""Opening a checkpoint folder: config.json and safetensors files become a `Spec` and its tensors, checked.

Every tensor that the network needs is there, under its canonical name, with the shape that config.json implies.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways import families, safetensors
from bothways.errors import CheckpointError
from bothways.families import Family
from bothways.families.heads import read_heads
from bothways.late_interaction import PROJECTION
from bothways.modules import known_config, network_folder, read_embed_spec, read_rank_activation
from bothways.safetensors import MappedFile, Tensor
from bothways.spec import Spec

__all__ = ["Checkpoint", "open_checkpoint"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# Constants that old versions of transformers stored along with the weights.
_BUFFERS = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "encoder.embed_positions.weight",  # RoFormer's sines and cosines
    "rotary_emb.inv_freq",
)

# TensorFlow's names for a layer norm's parameters, which old checkpoints kept.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# What the engines read; they compute in float32, so more digits would be dropped unseen.
_DTYPES = ("F32", "F16", "BF16")

_SHOWN = 5  # names in a message before it only counts


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        folder: Where it is.
        network_folder: Where config.json, the weights and the tokenizer are: the same folder, or one inside it.
        config: config.json as it is; of static embeddings, which need none, at least a model_type.
        spec: The network, and how it embeds.
        tensors: What `spec.tensor_shapes()` lists, by canonical name; views of the mapped files.
        surplus: The checkpoint's other tensors, those of the heads in `spec` aside, by the names that `raw` has.
        raw: Every tensor by the checkpoint's own name, old LayerNorm.gamma and beta read as weight and bias.
        files: The mapped files that the tensors lie in.
    """

    folder: Path
    network_folder: Path
    config: dict[str, Any]
    spec: Spec
    tensors: dict[str, Tensor]
    surplus: tuple[str, ...]
    raw: Mapping[str, Tensor]
    files: tuple[MappedFile, ...] = ()

    def check_unchanged(self) -> None:
        """Raise CheckpointError if a weights file was written to since: the tensors show whatever it holds now."""
        for file in self.files:
            file.check_unchanged()

    def release(self, kept: Iterable[str]) -> None:
        """Give back the memory of all tensors but `kept` (canonical names); looked at again, they are read anew."""
        tensors = [self.tensors[name] for name in kept if name in self.tensors]
        for file in self.files:
            file.release(tensors)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder in the Hugging Face layout.

    Raises:
        CheckpointError: A file is missing or damaged, or config.json and the weights contradict each other.
        UnsupportedModel: config.json describes a network that Bothways does not compute.
    """
    network = network_folder(folder)
    config = _read_config(network, known_config(folder))
    family = families.find(config)
    spec = family.spec(config)
    files = _map_weights(network, config)
    raw: Mapping[str, Tensor] = _merge(network, files)
    spec, raw = _completed(network, spec, family, config, raw)
    family, prefix = _find_names(family, spec, raw)
    spec = _with_pooler(spec, family, prefix, raw)
    names = _name_tensors(spec, family, prefix, raw, tied=config.get("tie_word_embeddings") is not False)
    _check_tensors(network, family, spec, names, raw)
    spec = _with_heads(network, spec, family, names, config, raw)
    scored = spec.heads.get("classification")
    spec = dataclasses.replace(
        spec,
        embed=read_embed_spec(folder, spec.hidden_size, usual=spec.embed, config=config),
        rank_activation=read_rank_activation(folder, config, len(scored.labels) if scored else 1),
    )
    in_heads = {name for head in spec.heads.values() for step in head.steps for name in step.tensors}
    projection = {PROJECTION} if spec.embed.late is not None else set()
    surplus = tuple(sorted(raw.keys() - names.values() - in_heads - projection))
    _check_surplus(network, family, prefix, surplus)
    tensors = {key: _take_part(raw[name], *family.part(key)) for key, name in names.items()}
    return Checkpoint(folder, network, config, spec, tensors, surplus, raw, files)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not readable JSON ({error}); download the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, it must be an object")
    return value


def _read_config(folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Read config.json, which need not be there where something is known without it."""
    path = folder / "config.json"
    if path.is_file():
        return {**_read_json(path), **known}
    if not known:
        raise CheckpointError(
            f"{folder}: no config.json, so this is no checkpoint folder; it holds {_list_files(folder)}; "
            "name the folder that has config.json, model.safetensors and the tokenizer's files"
        )
    return dict(known)


def _list_files(folder: Path) -> str:
    """Name what a folder holds, for a message."""
    if not folder.is_dir():
        return "nothing, as there is no such folder"
    return _name_some(sorted(entry.name for entry in folder.iterdir())) or "nothing"


def _name_some(items: Iterable[str]) -> str:
    """Name the first few and count the rest."""
    items = list(items)
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _map_weights(folder: Path, config: Mapping[str, Any]) -> tuple[MappedFile, ...]:
    """Map the weights, one file or shards."""
    if (folder / _WEIGHTS).is_file():
        return (safetensors.map_file(folder / _WEIGHTS),)
    if (folder / _INDEX).is_file():
        return tuple(_map_shards(folder))
    raise CheckpointError(_explain_no_weights(folder, config))


def _merge(folder: Path, files: Iterable[MappedFile]) -> dict[str, Tensor]:
    """Bring the files' tensors together under today's spelling of their names."""
    raw: dict[str, Tensor] = {}
    for stored_name, tensor in (item for file in files for item in file.tensors.items()):
        name = _modern_name(stored_name)
        if name in raw:
            raise CheckpointError(
                f"{folder}: the weights hold {name!r} under its old name and its new one; remove one of the two"
            )
        if not name.endswith(_BUFFERS):
            raw[name] = tensor
    return raw


def _modern_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _map_shards(folder: Path) -> list[MappedFile]:
    """Map the files that the index lists, and check that they hold the tensors it promises."""
    index = folder / _INDEX
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(f"{index}: weight_map must be an object of tensor names and file names")
    files: list[MappedFile] = []
    stored: set[str] = set()
    for shard in sorted(set(places.values())):
        if not _is_inside(shard):
            raise CheckpointError(f"{index}: the file name {shard!r} leads out of the checkpoint; don't trust it")
        file = safetensors.map_file(folder / shard)
        twice = stored & file.tensors.keys()
        if twice:
            raise CheckpointError(f"{folder / shard}: {_name_some(sorted(twice))} also in another shard; remove one")
        stored |= file.tensors.keys()
        files.append(file)
    absent = [name for name in places if name not in stored]
    if absent:
        raise CheckpointError(f"{index}: promises {_name_some(absent)}, but the shards lack it; download them again")
    return files


def _is_inside(shard: str) -> bool:
    """Whether a shard's name stays in the folder; by its words alone, as hub caches hold links to elsewhere."""
    return shard not in ("", ".") and not any(mark in shard for mark in ("..", "\\", ":", "\0")) and shard[0] != "/"


def _explain_no_weights(folder: Path, config: Mapping[str, Any]) -> str:
    """Say that safetensors weights are missing, and how to make them from a pickle file."""
    pickled = [name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json") if (folder / name).exists()]
    found = f"only {pickled[0]}, a pickle file, which can run any code and is never opened" if pickled else "neither"
    classes = config.get("architectures")
    named = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else ""
    loader = named if named.isidentifier() else "AutoModel"
    place = str(folder) if pickled else "its name or folder"
    return (
        f"{folder}: the weights must be in {_WEIGHTS} or {_INDEX}, but there is {found}; "
        "where the checkpoint has weights in the old format and you trust it, convert it once:\n"
        f"  from transformers import AutoTokenizer, {loader}\n"
        f'  for part in ({loader}, AutoTokenizer): part.from_pretrained({place!r}).save_pretrained("converted")'
    )


def _find_names(family: Family, spec: Spec, raw: Mapping[str, Tensor]) -> tuple[Family, str]:
    """Find the names that the weights have, and what stands in front of the base network's: what explains most."""

    def found(names: Family) -> int:
        own = [names.checkpoint_name(key) for key in spec.tensor_shapes()]
        return max(sum(prefix + name in raw for name in own) for prefix in ("", *names.prefixes))

    def explained(prefix: str) -> int:
        return sum(name.startswith(prefix) and name[len(prefix) :].split(".")[0] in family.roots for name in raw)

    if family.other is not None:
        family = max(family, family.other, key=found)
    return family, max(("", *family.prefixes), key=explained)


def _take_part(tensor: Tensor, number: int, count: int) -> Tensor:
    """One of `count` equal parts of a tensor's rows, where it lies."""
    rows = tensor.shape[0] // count
    return Tensor(tensor.dtype, tensor.array[number * rows : (number + 1) * rows]) if count > 1 else tensor


def _with_pooler(spec: Spec, family: Family, prefix: str, raw: Mapping[str, Tensor]) -> Spec:
    """Note whether the checkpoint carries a trained pooler."""
    if family.no_pooler:
        return dataclasses.replace(spec, pooler_reason=family.no_pooler)
    if any(prefix + family.names[key] in raw for key in ("pooler.weight", "pooler.bias")):
        return dataclasses.replace(spec, pooler=True)
    return dataclasses.replace(spec, pooler_reason="the checkpoint carries no pooler weights")


def _completed(
    folder: Path, spec: Spec, family: Family, config: Mapping[str, Any], raw: Mapping[str, Tensor]
) -> tuple[Spec, Mapping[str, Tensor]]:
    """Complete a network that config.json does not say all of by what the tensors say."""
    if family.complete is None:
        return spec, raw
    try:
        return family.complete(spec, config, raw)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def _with_heads(
    folder: Path,
    spec: Spec,
    family: Family,
    names: Mapping[str, str],
    config: Mapping[str, Any],
    raw: Mapping[str, Tensor],
) -> Spec:
    """Note the heads that the checkpoint carries; a decoder is the word table where the two are tied, or it says so."""
    tied = config.get("tie_word_embeddings") is not False
    stand_ins = {"embeddings.word": names["embeddings.word"]} | {
        name: names.get(other, other) for name, other in family.head_stand_ins.items() if tied or other not in names
    }
    try:
        return dataclasses.replace(spec, heads=read_heads(family.heads_of(config), stand_ins, config, raw, spec))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def _name_tensors(spec: Spec, family: Family, prefix: str, raw: Mapping[str, Tensor], *, tied: bool) -> dict[str, str]:
    """Give every canonical tensor name the name that the checkpoint has for it."""
    names = {key: prefix + family.checkpoint_name(key) for key in spec.tensor_shapes()}
    if tied:
        for key, stand_in in family.stand_ins.items():
            if names[key] not in raw and stand_in in raw:
                names[key] = stand_in
    return names


def _check_tensors(
    folder: Path, family: Family, spec: Spec, names: Mapping[str, str], raw: Mapping[str, Tensor]
) -> None:
    """Check that every needed tensor is there, has its shape and a dtype that is computed."""
    missing = list(dict.fromkeys(name for name in names.values() if name not in raw))
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} of the {len(names)} tensors that config.json calls for are missing: "
            f"{_name_some(missing)}; the weights are of another network, or cut short"
        )
    needed = {
        names[key]: (raw[names[key]], (family.part(key)[1] * shape[0], *shape[1:]))
        for key, shape in spec.tensor_shapes().items()
    }
    foreign = [f"{name} is {tensor.dtype}" for name, (tensor, _) in needed.items() if tensor.dtype not in _DTYPES]
    if foreign:
        raise CheckpointError(
            f"{folder}: {len(foreign)} tensors are not stored as {', '.join(_DTYPES)}: {_name_some(foreign)}; save "
            "the checkpoint as float32, with transformers: model.float().save_pretrained(FOLDER)"
        )
    wrong = [
        f"{name} is {tensor.shape}, not {shape}" for name, (tensor, shape) in needed.items() if tensor.shape != shape
    ]
    if wrong:
        raise CheckpointError(
            f"{folder}: {len(wrong)} tensors are not as config.json says: {_name_some(wrong)}; "
            "correct config.json (a resized vocabulary must be in vocab_size), or use the weights that belong to it"
        )


def _check_surplus(folder: Path, family: Family, prefix: str, surplus: tuple[str, ...]) -> None:
    """Refuse tensors inside the base network that config.json does not call for: leaving them out changes it."""
    own = {name: name.removeprefix(prefix) for name in surplus if name.startswith(prefix)}
    inside = [name for name, key in own.items() if key.split(".")[0] in family.roots and key not in family.unused]
    if inside:
        raise CheckpointError(
            f"{folder}: {len(inside)} tensors of the {family.name} network are not called for by config.json: "
            f"{_name_some(inside)}; correct config.json (number of layers?), or remove them from the weights"
        )
