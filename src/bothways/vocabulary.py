"""What a tokenizer knows of single tokens: which one is the mask, which strings are tokens, how tokens spell a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from bothways.tokenizer_folder import TokenizerFiles, read_json

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Vocabulary", "read_special"]

#: What the special tokens are called where no file says it: by BERT, and by RoBERTa.
_USUAL = {"mask_token": ("[MASK]", "<mask>"), "unk_token": ("[UNK]", "<unk>")}


class Vocabulary:
    """The tokens of one checkpoint."""

    def __init__(self, raw: tokenizers.Tokenizer, special: Mapping[str, str]) -> None:
        """Wrap a tokenizer that nobody else changes.

        Args:
            raw: The tokenizer.
            special: The special tokens that its files name, such as "mask_token".
        """
        self._raw = raw
        self._special = special

    @cached_property
    def mask(self) -> tuple[str, int] | None:
        """The token that stands for a missing one, and its id; None where the checkpoint has none."""
        return self._find("mask_token")

    @cached_property
    def unknown_id(self) -> int | None:
        """The id of the token that stands for what the vocabulary can't spell."""
        found = self._find("unk_token")
        return None if found is None else found[1]

    @cached_property
    def marks_continuation(self) -> bool:
        """Whether a token that continues a word is spelled with a mark in front, as WordPiece's ##."""
        return bool(getattr(self._raw.model, "continuing_subword_prefix", None))

    @property
    def kind(self) -> str:
        """How it splits words: "WordPiece", "BPE", "Unigram" or "WordLevel"."""
        return type(self._raw.model).__name__

    @property
    def size(self) -> int:
        """How many tokens there are, added ones included."""
        return int(self._raw.get_vocab_size(with_added_tokens=True))

    @property
    def lower_cases(self) -> bool:
        """Whether letters of either case become the same."""
        return self._raw.normalizer is not None and self._raw.normalizer.normalize_str("A") == "a"

    @cached_property
    def special(self) -> dict[str, int]:
        """The tokens that stand for no text of their own, such as [SEP], with their ids."""
        added = self._raw.get_added_tokens_decoder().items()
        return {token.content: number for number, token in sorted(added, key=lambda item: item[0]) if token.special}

    def id(self, token: str) -> int | None:
        """The id of a token by its exact spelling in the vocabulary, or None."""
        found: int | None = self._raw.token_to_id(token)
        return found

    def split(self, text: str) -> list[int]:
        """The ids of a text's tokens, without special tokens around it."""
        ids: list[int] = self._raw.encode(text, add_special_tokens=False).ids
        return ids

    def token(self, id: int) -> str:
        """A token as the vocabulary spells it; one that only the network's table has a row for is [id 123]."""
        found = self._raw.id_to_token(id)
        return f"[id {id}]" if found is None else str(found)

    def text(self, ids: Iterable[int], *, special: bool) -> str:
        """The text that tokens spell, with the special ones among them or without."""
        return str(self._raw.decode(list(ids), skip_special_tokens=not special))

    def texts(self, lists: Iterable[Iterable[int]], *, special: bool) -> list[str]:
        """`text` of many lists, without Python's lock."""
        return [str(text) for text in self._raw.decode_batch([*map(list, lists)], skip_special_tokens=not special)]

    def joined(self, tokens: list[str]) -> str:
        """The text that tokens spell, each given as the vocabulary spells it."""
        decoder = self._raw.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))

    def _find(self, name: str) -> tuple[str, int] | None:
        if name in self._special:
            number = self.id(self._special[name])
            return None if number is None else (self._special[name], number)
        # Only among the added tokens: a vocabulary may have learnt the other's spelling as an ordinary piece.
        added = {token.content: number for number, token in self._raw.get_added_tokens_decoder().items()}
        return next(((token, added[token]) for token in _USUAL[name] if token in added), None)


def read_special(files: TokenizerFiles) -> dict[str, str]:
    """Read the special tokens that a checkpoint's tokenizer files name; tokenizer_config.json wins."""
    found: dict[str, str] = {}
    for source in (read_json(files.folder / "special_tokens_map.json"), files.config):
        for name in _USUAL:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[name] = text
    return found
