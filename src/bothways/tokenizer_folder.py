"""What the small tokenizer files of a checkpoint folder say: the class, the limit, the special and added tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "BERT_TOKENS",
    "MPNET_TOKENS",
    "ROBERTA_TOKENS",
    "TokenizerFiles",
    "add_tokens",
    "added_token",
    "needed_tokens",
    "open_files",
    "read_json",
    "special_tokens",
]

#: The special tokens of each kind of tokenizer by name, where no file says otherwise.
BERT_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS: dict[str, Any] = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    # RoBERTa learnt its mask as a word that has swallowed the space in front of it.
    "mask_token": {"content": "<mask>", "lstrip": True},
}
MPNET_TOKENS = ROBERTA_TOKENS | {"unk_token": "[UNK]"}
_TOKEN_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
_EXTRA_TOKENS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class TokenizerFiles:
    """A checkpoint's folder with what its small tokenizer files say.

    Attributes:
        folder: The checkpoint.
        config: tokenizer_config.json, empty when there is none.
        class_name: The tokenizer class that transformers would use, without "Fast"; "" when none is named.
        model_type: The model_type of config.json, "" when there is none.
    """

    folder: Path
    config: Mapping[str, Any]
    class_name: str
    model_type: str

    @property
    def max_tokens(self) -> int | None:
        """The tokenizer's own length limit; None where it has none (transformers writes that as 1e30)."""
        limit = self.config.get("model_max_length")
        if limit is None:
            return None
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 1:
            raise CheckpointError(
                f"{self.folder / 'tokenizer_config.json'}: model_max_length is {limit!r}; "
                "it must be a positive number, or be left out"
            )
        return None if limit >= 1e6 else int(limit)

    def builds_like(self, classes: frozenset[str], models: frozenset[str]) -> bool:
        """Whether the named class is one of `classes` or, with no class named, the model type one of `models`."""
        return self.class_name in classes if self.class_name else self.model_type in models


def open_files(folder: Path) -> TokenizerFiles:
    """Read the small JSON files of a checkpoint folder."""
    config = read_json(folder / "tokenizer_config.json")
    network = read_json(folder / "config.json")
    # transformers looks for the class in this order; config.json carries it in old checkpoints.
    class_name = config.get("tokenizer_class") or network.get("tokenizer_class") or ""
    return TokenizerFiles(folder, config, str(class_name).removesuffix("Fast"), str(network.get("model_type") or ""))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}; fetch the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; it must be a JSON object")
    return value


# --- special and added tokens, where there is no tokenizer.json


def special_tokens(files: TokenizerFiles, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens by name, as text or as a description: defaults, then the files in transformers' order."""
    named = dict(defaults)
    sources = [files.config]
    # added_tokens_decoder came when special_tokens_map.json went: transformers reads one or the other.
    if "added_tokens_decoder" not in files.config:
        sources.append(read_json(files.folder / "special_tokens_map.json"))
    for source in sources:
        for name, value in source.items():
            if (name.endswith("_token") and isinstance(value, (str, dict))) or name in _EXTRA_TOKENS:
                # A bare name for the mask says nothing about the space in front of it: the default does.
                same = _content(value) == _content(named.get(name)) if isinstance(value, str) else False
                named[name] = named[name] if same else value
    return named


def add_tokens(raw: tokenizers.Tokenizer, files: TokenizerFiles, special: Mapping[str, Any]) -> None:
    """Add the tokens that the files list with an id, then the special tokens."""
    described = [value for name, value in special.items() if name not in _EXTRA_TOKENS]
    for name in _EXTRA_TOKENS:
        extra = special.get(name) or []
        described += extra.values() if isinstance(extra, dict) else extra
    texts = {_content(value) for value in described}
    numbered = _numbered_tokens(files, texts)
    raw.add_tokens([token for _, token in numbered])
    for number, token in numbered:
        if raw.token_to_id(token.content) != number:
            raise CheckpointError(
                f"added token {token.content!r} has the id {number} in its file, but it follows the vocabulary "
                f"as {raw.token_to_id(token.content)}; the added tokens belong to another vocabulary"
            )
    done = {token.content for _, token in numbered}
    own = set(BERT_TOKENS.values()) | {_content(value) for value in ROBERTA_TOKENS.values()}
    for value in described:
        text = _content(value)
        # A usual special token that this vocabulary lacks has no row in the word table either.
        if text not in done and not (text in own and raw.token_to_id(text) is None):
            raw.add_tokens([added_token(value)])


def _numbered_tokens(files: TokenizerFiles, special: set[str]) -> list[tuple[int, tokenizers.AddedToken]]:
    """The added tokens that have an id of their own, in the order of their ids."""
    listed = files.config.get("added_tokens_decoder")
    if listed is not None:
        return sorted(((int(n), added_token(t, t.get("special", False))) for n, t in listed.items()), key=_number)
    added = read_json(files.folder / "added_tokens.json")
    return sorted(((int(n), added_token(text, text in special)) for text, n in added.items()), key=_number)


def _number(numbered: tuple[int, tokenizers.AddedToken]) -> int:
    return numbered[0]


def needed_tokens(special: Mapping[str, Any], vocab: set[str], file: str) -> tuple[str, str, str]:
    """The texts of the cls, sep and unk tokens, which the vocabulary must have."""
    texts = []
    for name in ("cls_token", "sep_token", "unk_token"):
        text = _content(special[name])
        if text not in vocab:
            raise CheckpointError(
                f"{file} has no line for the {name} {text!r}; name the one that it has in tokenizer_config.json, "
                f'as "{name}"'
            )
        texts.append(text)
    return texts[0], texts[1], texts[2]


def _content(value: Any) -> str:
    return str(value["content"]) if isinstance(value, dict) else str(value)


def added_token(value: Any, special: bool = True) -> tokenizers.AddedToken:
    """Turn a token's text or description into tokenizers' own form; a special token is matched in the raw text."""
    import tokenizers

    flags = {"normalized": not special}
    if isinstance(value, dict):
        flags |= {name: bool(value[name]) for name in _TOKEN_FLAGS if name in value}
    return tokenizers.AddedToken(_content(value), special=special, **flags)
