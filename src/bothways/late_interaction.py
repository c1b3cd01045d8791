"""Reads how a checkpoint of ColBERT's kind makes a vector of every token, as queries and as documents.

Three libraries write such checkpoints: Stanford's ColBERT (artifact.metadata), PyLate (its options in
config_sentence_transformers.json), and sentence-transformers' MultiVectorEncoder (options with the modules that they
concern). No weights are read here.
"""

from __future__ import annotations

import string
from pathlib import Path

from bothways.embed_spec import DenseSpec, LateSpec, SideSpec
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.json_files import JsonFile, read_object

__all__ = ["PROJECTION", "is_late", "read_late", "read_stanford"]

#: The tensor of Stanford's linear layer, among the network's own.
PROJECTION = "linear.weight"

_PUNCTUATION = tuple(string.punctuation)

# What PyLate, or Stanford's ColBERT, takes where its file says nothing.
_QUERY_TOKENS = 32
_DOCUMENT_TOKENS, _STANFORD_DOCUMENT_TOKENS = 180, 220

# Options that PyLate alone writes: old files of its have no model_type.
_PYLATE_KEYS = ("query_prefix", "document_prefix", "do_query_expansion", "attend_to_expansion_tokens")


def is_late(settings: JsonFile) -> bool:
    """Whether config_sentence_transformers.json says that token vectors are what the checkpoint is made for."""
    return settings.values.get("model_type") == "MultiVectorEncoder" or _is_pylate(settings)


def _is_pylate(settings: JsonFile) -> bool:
    return settings.values.get("model_type") == "ColBERT" or any(key in settings.values for key in _PYLATE_KEYS)


def read_late(
    settings: JsonFile, transformer: JsonFile, mask: JsonFile | None, dense: tuple[DenseSpec, ...], *, normalize: bool
) -> LateSpec:
    """Read what PyLate or MultiVectorEncoder wrote.

    Args:
        settings: config_sentence_transformers.json.
        transformer: The network module's own options.
        mask: A MultiVectorMask's options, None without one.
        dense: The linear layers.
        normalize: Whether vectors are scaled to length 1.

    Raises:
        CheckpointError: An option has a value that it can't have.
        UnsupportedModel: An option that changes the vectors in a way not computed here.
    """
    skipped = _skipped(settings, mask)
    markers = [settings.get(f"{side}_prefix", str, "") for side in ("query", "document")]
    limit = _length("document_length", transformer, settings)
    document = SideSpec(
        markers[1],
        limit or (_DOCUMENT_TOKENS if _is_pylate(settings) else None),
        skipped.get("document", ()),
    )
    return LateSpec(_query(settings, transformer, markers[0], skipped.get("query", ())), document, dense, normalize)


def read_stanford(folder: Path, hidden_size: int) -> LateSpec:
    """Read artifact.metadata, what Stanford's ColBERT writes; where it says nothing, its own defaults hold."""
    path = folder / "artifact.metadata"
    file = read_object(path) if path.is_file() else JsonFile(path, {})
    length = file.positive("query_maxlen") or _QUERY_TOKENS
    attend = file.get("attend_to_mask_tokens", bool, False)
    skip = _PUNCTUATION if file.get("mask_punctuation", bool, True) else ()
    query = file.get("query_token_id", str, "[unused0]")
    document = file.get("doc_token_id", str, "[unused1]")
    return LateSpec(
        SideSpec(query, length, fill_to=length, attend=attend),
        SideSpec(document, file.positive("doc_maxlen") or _STANFORD_DOCUMENT_TOKENS, skip),
        (DenseSpec("", hidden_size, file.positive("dim") or 128, bias=False, activation="identity"),),
    )


def _length(key: str, *files: JsonFile) -> int | None:
    return next((length for file in files if (length := file.positive(key)) is not None), None)


def _query(settings: JsonFile, transformer: JsonFile, marker: str, skip: tuple[str, ...]) -> SideSpec:
    """Read how queries are taken: filled up with masks, "query expansion", or as they are."""
    limit = _length("query_length", transformer, settings)
    own = next((file for file in (transformer, settings) if "query_expansion" in file.values), None)
    if own is None and not _is_pylate(settings):
        return SideSpec(marker, limit, skip)
    if own is None:
        limit = limit or _QUERY_TOKENS
        if not settings.get("do_query_expansion", bool, True):
            return SideSpec(marker, limit, skip)
        attend = settings.get("attend_to_expansion_tokens", bool, False)
        return SideSpec(marker, limit, skip, fill_to=limit, attend=attend)
    expansion = JsonFile(own.path, own.get("query_expansion", dict, {}))
    if not expansion.values:
        return SideSpec(marker, limit, skip)
    strategy, fill_to = expansion.get("strategy", str, ""), expansion.positive("length")
    if strategy not in ("fixed", "min") or fill_to is None:
        raise CheckpointError(
            f"{own.path} has 'query_expansion': {expansion.values!r:.100}; it must have a 'strategy', fixed or min, "
            "and a 'length'"
        )
    return SideSpec(
        marker,
        fill_to if strategy == "fixed" else limit,
        skip,
        fill_to,
        expansion.get("token", str, None),
        expansion.get("attend", bool, False),
    )


def _skipped(settings: JsonFile, mask: JsonFile | None) -> dict[str, tuple[str, ...]]:
    """Read the tokens whose vectors are left out, by side."""
    if mask is None:
        return {"document": _words(settings, "skiplist_words", _PUNCTUATION if _is_pylate(settings) else ())}
    if mask.values.get("keep_only_token_ids"):
        raise UnsupportedModel(f"{mask.path} has 'keep_only_token_ids', which is for images; only texts are embedded")
    words = _words(mask, "skiplist_words", ())
    return {side: words for side in _words(mask, "skiplist_tasks", ("document",))}


def _words(file: JsonFile, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = file.values.get(key)
    if value is None:
        return default
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise CheckpointError(f"{file.path} has {key!r}: {value!r:.100}; it must be a list of strings")
    return tuple(value)
