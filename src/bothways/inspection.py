"""What a checkpoint is: sizes, parameters, heads, tokenizer, limits, files; told from its files, nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bothways import tokenizer_folder
from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.embed_spec import EmbedSpec
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.modules import network_folder
from bothways.safetensors import Tensor, map_file
from bothways.sources import resolve
from bothways.spec import DTYPES, Spec
from bothways.tasks.available import available_tasks
from bothways.tasks.embed import token_limit
from bothways.tasks.inputs import flag, one_string
from bothways.tokens import Tokenizer

__all__ = [
    "File",
    "HeadSummary",
    "Inspection",
    "LengthLimits",
    "Stored",
    "Token",
    "TokenizedText",
    "TokenizerSummary",
    "inspect",
]

_READ = 1 << 20  # bytes of a file at a time

#: Bytes of a packed weight in each dtype of the arithmetic.
_WEIGHT_BYTES = dict(zip(DTYPES, (4, 2, 1), strict=True))


@dataclass(frozen=True)
class File:
    """A file of the checkpoint's folder; `sha256` is None where it was not asked for."""

    name: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Stored:
    """The tensors that are stored in one dtype, by the name of the safetensors format ("F32")."""

    dtype: str
    tensors: int
    values: int
    bytes: int


@dataclass(frozen=True)
class HeadSummary:
    """A head by its kind, such as "classification"; labels are empty where the vocabulary is what is scored."""

    kind: str
    problem: str
    labels: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class TokenizerSummary:
    """What the tokenizer is.

    Attributes:
        kind: "WordPiece", "BPE", "Unigram" or "WordLevel".
        vocabulary: How many tokens it knows.
        lower_case: Whether letters of either case are the same to it.
        special: The special tokens with their ids.
        fast: Whether the native core tokenizes for `embed`; else the `tokenizers` library does.
    """

    kind: str
    vocabulary: int
    lower_case: bool
    special: Mapping[str, int]
    fast: bool


@dataclass(frozen=True)
class LengthLimits:
    """How many tokens a text may have, special ones included.

    Attributes:
        positions: What the network can read.
        tokenizer: The tokenizer's own limit, or None.
        embedding: The limit that the sentence-transformers files set, or None.
        tokens: What `encode` and the tasks with a head take, and `tokens_from` which of the limits that is.
        embed: What `embed` takes, and `embed_from` which of the limits that is.
    """

    positions: int
    tokenizer: int | None
    embedding: int | None
    tokens: int
    tokens_from: str
    embed: int
    embed_from: str


@dataclass(frozen=True)
class Token:
    """A token: its id, string, place in the text in code points, and whether it is a special one."""

    id: int
    token: str
    start: int
    end: int
    special: bool


@dataclass(frozen=True)
class TokenizedText:
    """A text's tokens as `embed` would take them.

    Attributes:
        text: The text.
        tokens: Those that are kept.
        cut_tokens: How many are cut off.
        kept_characters: Where the text is cut, or its length.
    """

    text: str
    tokens: tuple[Token, ...]
    cut_tokens: int
    kept_characters: int


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is. Of one that Bothways can't compute, `problem` says why, and what is not known is empty.

    Attributes:
        name: The name that was asked for.
        folder: Where it is.
        revision: The hub commit, or None when it does not come from the hub.
        problem: Why Bothways can't compute it; "" where it can.
        model_type: As config.json has it.
        architectures: As config.json has them.
        family: The family that reads it.
        sizes: Layers, hidden and so on.
        parameters: How many are stored: "total", and of these "embeddings" (tables), "network" (the rest of what
            computes token vectors, a pooler included), "heads" and "dense" (layers behind the pooling).
        stored: The tensors by dtype.
        heads: The heads that are stored with the network.
        tasks: The `Encoder` methods that it can serve.
        tokenizer: What tokenizes.
        limits: How long texts may be.
        embedding: Pooling, normalization, prompts, dimensions, dense layers.
        memory: For each dtype of the arithmetic the bytes that the network's weights take when loaded, about; embedding
            tables stay in the file as they are, and count.
        surplus: The tensors that no task uses.
        files: The files of the folder.
        text: The text that was asked for.
    """

    name: str
    folder: str
    revision: str | None
    problem: str = ""
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    family: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    stored: tuple[Stored, ...] = ()
    heads: tuple[HeadSummary, ...] = ()
    tasks: tuple[str, ...] = ()
    tokenizer: TokenizerSummary | None = None
    limits: LengthLimits | None = None
    embedding: EmbedSpec | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    surplus: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    text: TokenizedText | None = None


def inspect(
    model: str | os.PathLike[str], text: str | None = None, *, revision: str | None = None, hashes: bool = True
) -> Inspection:
    """Say what a checkpoint is, without loading its weights.

    Args:
        model: A folder, `pkg:package/folder`, or a hub name, which is looked up in the cache first.
        text: Also show the tokens of this text.
        revision: A hub commit, tag or branch.
        hashes: Also compute every file's SHA-256, which reads the files.

    Raises:
        ModelNotFound: There is no such checkpoint. One that is there but can't be computed is described nevertheless.
        InputError: The text or an option is none.
    """
    wanted = None if text is None else one_string(text, "text")
    source = resolve(model, revision)
    files = tuple(_files(source.folder, hashed=flag(hashes, "hashes")))
    found = Inspection(source.name, str(source.folder), source.revision, files=files)
    try:
        checkpoint = open_checkpoint(source.folder)
    except (CheckpointError, UnsupportedModel) as error:
        return replace(_glimpse(found, source.folder), problem=str(error))
    found = _describe_network(found, checkpoint)
    try:
        tokenizer = Tokenizer.from_folder(checkpoint.network_folder, checkpoint.spec)
    except CheckpointError as error:
        return replace(found, problem=str(error))
    limits = _limits(checkpoint, tokenizer)
    return replace(
        found,
        tasks=available_tasks(checkpoint.spec),
        tokenizer=_describe_tokenizer(tokenizer),
        limits=limits,
        text=None if wanted is None else _read_text(wanted, tokenizer, limits.embed),
    )


def _files(folder: Path, *, hashed: bool) -> Iterable[File]:
    """The files of a checkpoint's folder and those below it, hidden ones aside, by name; none of any other folder."""
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        return
    paths = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    named = ((path.relative_to(folder), path) for path in paths if path.is_file())
    for name, path in sorted(named):
        if not any(part.startswith(".") for part in name.parts):
            yield File(name.as_posix(), path.stat().st_size, _sha256(path) if hashed else None)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
    return digest.hexdigest()


def _glimpse(found: Inspection, folder: Path) -> Inspection:
    """What can be said of a checkpoint that can't be opened."""
    try:
        network = network_folder(folder)
    except (CheckpointError, UnsupportedModel):
        network = folder
    try:
        config = json.loads((network / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = {}
    tensors: list[Tensor] = []
    for path in sorted(network.glob("*.safetensors")):
        try:
            tensors += map_file(path).tensors.values()
        except CheckpointError:
            continue
    total = {"total": _count(tensors)} if tensors else {}
    return replace(
        found, **_names(config if isinstance(config, dict) else {}), stored=_stored(tensors), parameters=total
    )


def _names(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json calls the network."""
    model_type, classes = config.get("model_type"), config.get("architectures")
    return {
        "model_type": model_type if isinstance(model_type, str) else None,
        "architectures": tuple(c for c in classes if isinstance(c, str)) if isinstance(classes, list) else (),
    }


def _describe_network(found: Inspection, checkpoint: Checkpoint) -> Inspection:
    spec, raw = checkpoint.spec, checkpoint.raw
    tables = [tensor for name, tensor in checkpoint.tensors.items() if _is_table(name)]
    layers = spec.embed.dense if spec.embed.late is None else spec.embed.late.dense
    dense = [_dense_tensors(checkpoint.folder / layer.folder) for layer in layers if layer.folder]
    known = {id(tensor.array) for tensor in checkpoint.tensors.values()}
    heads = tuple(
        HeadSummary(
            kind,
            head.problem if head.labels else "",
            head.labels,
            # A decoder may be the word table itself.
            _count(raw[name] for step in head.steps for name in step.tensors if id(raw[name].array) not in known),
        )
        for kind, head in spec.heads.items()
    )
    parts = {
        "embeddings": _count(tables),
        "network": _count(checkpoint.tensors.values()) - _count(tables),
        "heads": sum(head.parameters for head in heads),
        "dense": sum(map(_count, dense)),
    }
    return replace(
        found,
        **_names(checkpoint.config),
        family=spec.family,
        sizes=_sizes(spec),
        parameters={"total": _count(raw.values()) + parts["dense"], **parts},
        stored=_stored([*raw.values(), *(tensor for layer in dense for tensor in layer)]),
        heads=heads,
        embedding=spec.embed,
        memory=_memory(spec, tables),
        surplus=checkpoint.surplus,
    )


def _is_table(name: str) -> bool:
    return name in ("embeddings.word", "embeddings.position", "embeddings.token_type", "embeddings.task_type")


def _dense_tensors(folder: Path) -> list[Tensor]:
    try:
        return list(map_file(folder / "model.safetensors").tensors.values())
    except CheckpointError:  # in another format: `embed` will say so
        return []


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.array.size for tensor in tensors)


def _stored(tensors: Iterable[Tensor]) -> tuple[Stored, ...]:
    by_dtype: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    return tuple(
        Stored(dtype, len(some), _count(some), sum(tensor.array.nbytes for tensor in some))
        for dtype, some in sorted(by_dtype.items())
    )


def _sizes(spec: Spec) -> dict[str, int]:
    if not spec.num_layers:
        return {"hidden": spec.hidden_size, "vocabulary": spec.vocab_size}
    return {
        "layers": spec.num_layers,
        "hidden": spec.hidden_size,
        "heads": spec.num_heads,
        "key_heads": spec.key_heads,
        "head_size": spec.head_size,
        "inner": spec.inner_size,
        "embedding": spec.embedding_width,
        "vocabulary": spec.vocab_size,
        "positions": spec.num_positions,
        "token_types": spec.num_token_types,
    }


def _memory(spec: Spec, tables: Iterable[Tensor]) -> dict[str, int]:
    """The tables as they are stored, weights packed in the arithmetic's dtype, biases and norms in float32."""
    shapes = [shape for name, shape in spec.tensor_shapes().items() if not _is_table(name)]
    weights = sum(math.prod(shape) for shape in shapes if len(shape) > 1)
    others = sum(math.prod(shape) for shape in shapes if len(shape) < 2)
    kept = sum(tensor.array.nbytes for tensor in tables) + 4 * others
    return {dtype: kept + size * weights for dtype, size in _WEIGHT_BYTES.items()}


def _describe_tokenizer(tokenizer: Tokenizer) -> TokenizerSummary:
    known = tokenizer.vocabulary
    return TokenizerSummary(known.kind, known.size, known.lower_cases, known.special, tokenizer.has_fast_path)


def _limits(checkpoint: Checkpoint, tokenizer: Tokenizer) -> LengthLimits:
    spec, own = checkpoint.spec, tokenizer_folder.open_files(checkpoint.network_folder).max_tokens
    embedding, taken = spec.embed.max_tokens, token_limit(spec, tokenizer)
    tokens_from = "tokenizer" if tokenizer.max_tokens < spec.max_tokens else "positions"
    embed_from = tokens_from if embedding is None else "embedding" if embedding < spec.max_tokens else "positions"
    return LengthLimits(spec.max_tokens, own, embedding, tokenizer.max_tokens, tokens_from, taken, embed_from)


def _read_text(text: str, tokenizer: Tokenizer, limit: int) -> TokenizedText:
    [sequence] = tokenizer.tokenize([text], max_length=limit)
    special = set(tokenizer.vocabulary.special.values())
    rows = zip(sequence.ids.tolist(), sequence.tokens, sequence.offsets.tolist(), sequence.parts.tolist(), strict=True)
    tokens = tuple(
        Token(number, token, start, end, part < 0 or number in special) for number, token, (start, end), part in rows
    )
    kept = max((token.end for token in tokens), default=0) if sequence.truncated else len(text)
    return TokenizedText(text, tokens, sequence.truncated, kept)
