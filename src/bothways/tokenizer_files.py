"""The tokenizer files of a checkpoint folder, turned into a `tokenizers.Tokenizer`.

tokenizer.json is taken as it is, but for what transformers builds anew from tokenizer_config.json. Where it is
missing, the tokenizer is built from vocab.txt, vocab.json + merges.txt, or sentencepiece.bpe.model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import CheckpointError
from bothways.sentencepiece import read_pieces

if TYPE_CHECKING:
    import tokenizers

__all__ = ["TokenizerFiles", "build", "build_static", "highest_numbers", "is_panic", "open_files", "read_json"]

# The classes that transformers 5.23 derives from its BERT tokenizer, and the model types that it gives that
# tokenizer to when no class is named: for these it builds the normaliser and the pre-tokenizer anew.
_BERT_NAMES = ("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "MobileBert", "SqueezeBert")
_BERT_CLASSES = frozenset(f"{name}Tokenizer" for name in _BERT_NAMES)
_BERT_MODELS = frozenset(name.lower() for name in _BERT_NAMES) | {"ernie", "megatron-bert", "nomic_bert"}
# MPNet splits as BERT does and has RoBERTa's special tokens.
_MPNET = (frozenset({"MPNetTokenizer"}), frozenset({"mpnet"}))

_BERT_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
_ROBERTA_TOKENS: dict[str, Any] = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    # RoBERTa learnt its mask as a word that has swallowed the space in front of it.
    "mask_token": {"content": "<mask>", "lstrip": True},
}
_MPNET_TOKENS = _ROBERTA_TOKENS | {"unk_token": "[UNK]"}
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


def build(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """Build the tokenizer of a checkpoint, with padding and truncation switched off.

    Raises:
        CheckpointError: No tokenizer file is there, or one is damaged or contradicts another.
    """
    for names, builder in _BUILDERS.items():
        if all((files.folder / name).is_file() for name in names):
            with _reading(files.folder, names):
                raw = builder(files)
                raw.no_padding()
                raw.no_truncation()
            return raw
    understood = "; ".join(" with ".join(names) for names in _BUILDERS)
    raise CheckpointError(
        f"{files.folder} has no tokenizer file that Bothways reads ({understood}); make tokenizer.json with "
        "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def build_static(folder: Path) -> tuple[tokenizers.Tokenizer, int | None]:
    """Load the tokenizer of static embeddings: tokenizer.json as it is, but without special tokens around a text.

    Returns:
        The tokenizer, with padding and truncation switched off, and the number of tokens at which it would have cut.

    Raises:
        CheckpointError: tokenizer.json is missing or damaged, or cuts texts at their beginning.
    """
    import tokenizers

    name = "tokenizer.json"
    if not (folder / name).is_file():
        raise CheckpointError(f"{folder} has no {name}, which static embeddings need; fetch the checkpoint again")
    with _reading(folder, (name,)):
        raw = tokenizers.Tokenizer.from_file(str(folder / name))
        cut = raw.truncation
        if cut is not None and cut["direction"] != "right":
            raise CheckpointError(f"{name} cuts texts at their beginning; set its truncation's direction to Right")
        raw.no_padding()
        raw.no_truncation()
        raw.post_processor = None
    return raw, None if cut is None else int(cut["max_length"])


def highest_numbers(raw: tokenizers.Tokenizer) -> tuple[int, int]:
    """The highest token id and the highest token type that a tokenizer can give; -1 where it can give none."""
    ids = [-1, *raw.get_vocab(with_added_tokens=True).values()]
    types = [-1]
    if raw.post_processor is not None:
        _collect_numbers(json.loads(raw.post_processor.__getstate__()), ids, types)
    return max(ids), max(types)


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic of tokenizers' Rust code, which is not an `Exception`."""
    return type(error).__name__ == "PanicException"


# --- tokenizer.json


def _from_tokenizer_json(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """Read tokenizer.json, then apply the settings of tokenizer_config.json that transformers lets override it."""
    import tokenizers

    raw = tokenizers.Tokenizer.from_file(str(files.folder / "tokenizer.json"))
    if isinstance(raw.model, tokenizers.models.WordPiece) and files.builds_like(_BERT_CLASSES, _BERT_MODELS):
        _use_bert_splitting(raw, files.config)
        _add_known_tokens(raw, _BERT_TOKENS)
    elif isinstance(raw.model, tokenizers.models.WordPiece) and files.builds_like(*_MPNET):
        _use_bert_splitting(raw, files.config)
    elif isinstance(raw.pre_tokenizer, tokenizers.pre_tokenizers.ByteLevel) and files.builds_like(
        frozenset({"RobertaTokenizer"}), frozenset({"roberta"})
    ):
        raw.pre_tokenizer.add_prefix_space = _flag(files, "add_prefix_space", False)
    return raw


def _use_bert_splitting(raw: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Set the normaliser and pre-tokenizer that transformers builds for BERT, whatever tokenizer.json says.

    So a cased tokenizer.json without do_lower_case beside it is lower-cased: wrong at first sight, but it is what
    checkpoints of this class are trained and served with (transformers 5.23, tokenization_bert.py).
    """
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if raw.normalizer is None or raw.normalizer.__getstate__() != normalizer.__getstate__():
        raw.normalizer = normalizer
        # Added tokens are matched in normalised text and were normalised by the old normaliser: add them again.
        raw.add_tokens(list(raw.get_added_tokens_decoder().values()))


def _add_known_tokens(raw: tokenizers.Tokenizer, tokens: Mapping[str, Any]) -> None:
    """Have special tokens that the vocabulary knows, but tokenizer.json doesn't list, recognised in a text."""
    listed = {token.content for token in raw.get_added_tokens_decoder().values()}
    known = [text for text in tokens.values() if text not in listed and raw.token_to_id(text) is not None]
    raw.add_tokens([_added_token(text) for text in known])


# --- the files that came before tokenizer.json


def _from_vocab_txt(files: TokenizerFiles) -> tokenizers.Tokenizer:
    import tokenizers

    mpnet = files.builds_like(*_MPNET)
    special = _special_tokens(files, _MPNET_TOKENS if mpnet else _BERT_TOKENS)
    vocab = tokenizers.models.WordPiece.read_file(str(files.folder / "vocab.txt"))
    cls, sep, unk = _needed(special, set(vocab), "vocab.txt")
    raw = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token=unk))
    _use_bert_splitting(raw, files.config)
    raw.decoder = tokenizers.decoders.WordPiece()
    _add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0" if mpnet else f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    return raw


def _from_vocab_and_merges(files: TokenizerFiles) -> tokenizers.Tokenizer:
    import tokenizers

    special = _special_tokens(files, _ROBERTA_TOKENS)
    vocab, merges = tokenizers.models.BPE.read_file(str(files.folder / "vocab.json"), str(files.folder / "merges.txt"))
    cls, sep, _ = _needed(special, set(vocab), "vocab.json")
    prefix_space = _flag(files, "add_prefix_space", False)
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    raw.decoder = tokenizers.decoders.ByteLevel()
    _add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.RobertaProcessing(
        (sep, vocab[sep]), (cls, vocab[cls]), _flag(files, "trim_offsets", True), prefix_space
    )
    return raw


def _from_sentencepiece(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """Build XLM-RoBERTa's or CamemBERT's tokenizer: the pieces, with fairseq's special tokens in front."""
    import tokenizers

    special = _special_tokens(files, _ROBERTA_TOKENS)
    pieces, charsmap = read_pieces(files.folder / "sentencepiece.bpe.model")
    if files.builds_like(frozenset({"CamembertTokenizer"}), frozenset({"camembert"})):
        front = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
        vocab = [*front, *pieces[1:], ("<mask>", 0.0)]
    else:
        front = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        vocab = [*front, *pieces[3:], ("<mask>", 0.0)]
    cls, sep, _ = _needed(special, {text for text, _ in vocab}, "sentencepiece.bpe.model")
    raw = tokenizers.Tokenizer(tokenizers.models.Unigram(vocab, unk_id=3, byte_fallback=False))
    if charsmap:
        raw.normalizer = tokenizers.normalizers.Precompiled(charsmap)
    scheme: Any = "always" if _flag(files, "add_prefix_space", True) else "never"
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    raw.decoder = tokenizers.decoders.Metaspace(prepend_scheme=scheme)
    _add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} {sep} $B {sep}",
        special_tokens=[(cls, raw.token_to_id(cls)), (sep, raw.token_to_id(sep))],
    )
    return raw


_BUILDERS = {
    ("tokenizer.json",): _from_tokenizer_json,
    ("vocab.txt",): _from_vocab_txt,
    ("vocab.json", "merges.txt"): _from_vocab_and_merges,
    ("sentencepiece.bpe.model",): _from_sentencepiece,
}


# --- special and added tokens, where there is no tokenizer.json


def _special_tokens(files: TokenizerFiles, defaults: Mapping[str, Any]) -> dict[str, Any]:
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


def _add_tokens(raw: tokenizers.Tokenizer, files: TokenizerFiles, special: Mapping[str, Any]) -> None:
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
    own = set(_BERT_TOKENS.values()) | {_content(value) for value in _ROBERTA_TOKENS.values()}
    for value in described:
        text = _content(value)
        # A usual special token that this vocabulary lacks has no row in the word table either.
        if text not in done and not (text in own and raw.token_to_id(text) is None):
            raw.add_tokens([_added_token(value)])


def _numbered_tokens(files: TokenizerFiles, special: set[str]) -> list[tuple[int, tokenizers.AddedToken]]:
    """The added tokens that have an id of their own, in the order of their ids."""
    listed = files.config.get("added_tokens_decoder")
    if listed is not None:
        return sorted(((int(n), _added_token(t, t.get("special", False))) for n, t in listed.items()), key=_number)
    added = read_json(files.folder / "added_tokens.json")
    return sorted(((int(n), _added_token(text, text in special)) for text, n in added.items()), key=_number)


def _number(numbered: tuple[int, tokenizers.AddedToken]) -> int:
    return numbered[0]


def _needed(special: Mapping[str, Any], vocab: set[str], file: str) -> tuple[str, str, str]:
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


def _added_token(value: Any, special: bool = True) -> tokenizers.AddedToken:
    """Turn a token's text or description into tokenizers' own form; a special token is matched in the raw text."""
    import tokenizers

    flags = {"normalized": not special}
    if isinstance(value, dict):
        flags |= {name: bool(value[name]) for name in _TOKEN_FLAGS if name in value}
    return tokenizers.AddedToken(_content(value), special=special, **flags)


# --- reading


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


def _flag(files: TokenizerFiles, name: str, default: bool) -> bool:
    return bool(files.config.get(name, default))


@contextmanager
def _reading(folder: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Turn whatever goes wrong with a tokenizer file, a panic of the Rust code included, into a CheckpointError."""
    files = " and ".join(names)
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise CheckpointError(
            f"{folder}: no tokenizer can be built from {files} and the small tokenizer files beside it: {error}; "
            "fetch the checkpoint again"
        ) from error


def _collect_numbers(state: Any, ids: list[int], types: list[int]) -> None:
    """Walk a post-processor's JSON form and note every token id and token type in it."""
    if isinstance(state, list):
        for part in state:
            _collect_numbers(part, ids, types)
    elif isinstance(state, dict):
        if len(state.get("ids", ())) != len(state.get("tokens", ())):
            raise CheckpointError(
                f"the template in tokenizer.json gives {state['tokens']} the ids {state['ids']}, it must give one id "
                "to each token; fetch the checkpoint again"
            )
        for name, value in state.items():
            if name == "type_id":
                types.append(value)
            elif name == "ids":
                ids.extend(value)
            elif name in ("cls", "sep") and isinstance(value, list):
                ids.append(value[1])
            else:
                _collect_numbers(value, ids, types)
