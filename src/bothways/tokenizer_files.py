"""The tokenizer files of a checkpoint folder, turned into a `tokenizers.Tokenizer`.

tokenizer.json is taken as it is, but for what transformers builds anew from tokenizer_config.json. Where it is
missing, the tokenizer is built from vocab.txt, vocab.json + merges.txt, sentencepiece.bpe.model or spm.model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import CheckpointError
from bothways.sentencepiece import read_model
from bothways.spec import Spec
from bothways.tokenizer_folder import (
    BERT_TOKENS,
    MPNET_TOKENS,
    ROBERTA_TOKENS,
    TokenizerFiles,
    add_tokens,
    added_token,
    needed_tokens,
    special_tokens,
)

if TYPE_CHECKING:
    import tokenizers

__all__ = ["build", "build_static", "check_room", "check_tables", "highest_numbers", "is_panic", "lower_case_first"]

# The classes that transformers 5.23 derives from its BERT tokenizer, and the model types that it gives that
# tokenizer to when no class is named: for these it builds the normaliser and the pre-tokenizer anew.
_BERT_NAMES = ("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "MobileBert", "SqueezeBert")
_BERT_CLASSES = frozenset(f"{name}Tokenizer" for name in _BERT_NAMES)
_BERT_MODELS = frozenset(name.lower() for name in _BERT_NAMES) | {"ernie", "megatron-bert", "nomic_bert"}
# MPNet splits as BERT does and has RoBERTa's special tokens.
_MPNET = (frozenset({"MPNetTokenizer"}), frozenset({"mpnet"}))


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
        _add_known_tokens(raw, BERT_TOKENS)
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
    raw.add_tokens([added_token(text) for text in known])


# --- the files that came before tokenizer.json


def _from_vocab_txt(files: TokenizerFiles) -> tokenizers.Tokenizer:
    import tokenizers

    mpnet = files.builds_like(*_MPNET)
    special = special_tokens(files, MPNET_TOKENS if mpnet else BERT_TOKENS)
    vocab = tokenizers.models.WordPiece.read_file(str(files.folder / "vocab.txt"))
    cls, sep, unk = needed_tokens(special, set(vocab), "vocab.txt")
    raw = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token=unk))
    _use_bert_splitting(raw, files.config)
    raw.decoder = tokenizers.decoders.WordPiece()
    add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0" if mpnet else f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    return raw


def _from_vocab_and_merges(files: TokenizerFiles) -> tokenizers.Tokenizer:
    import tokenizers

    special = special_tokens(files, ROBERTA_TOKENS)
    vocab, merges = tokenizers.models.BPE.read_file(str(files.folder / "vocab.json"), str(files.folder / "merges.txt"))
    cls, sep, _ = needed_tokens(special, set(vocab), "vocab.json")
    prefix_space = _flag(files, "add_prefix_space", False)
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    raw.decoder = tokenizers.decoders.ByteLevel()
    add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.RobertaProcessing(
        (sep, vocab[sep]), (cls, vocab[cls]), _flag(files, "trim_offsets", True), prefix_space
    )
    return raw


def _from_sentencepiece(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """Build XLM-RoBERTa's or CamemBERT's tokenizer: the pieces, with fairseq's special tokens in front."""
    import tokenizers

    special = special_tokens(files, ROBERTA_TOKENS)
    pieces, charsmap, *_ = read_model(files.folder / "sentencepiece.bpe.model")
    if files.builds_like(frozenset({"CamembertTokenizer"}), frozenset({"camembert"})):
        front = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
        vocab = [*front, *pieces[1:], ("<mask>", 0.0)]
    else:
        front = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        vocab = [*front, *pieces[3:], ("<mask>", 0.0)]
    cls, sep, _ = needed_tokens(special, {text for text, _ in vocab}, "sentencepiece.bpe.model")
    raw = tokenizers.Tokenizer(tokenizers.models.Unigram(vocab, unk_id=3, byte_fallback=False))
    if charsmap:
        raw.normalizer = tokenizers.normalizers.Precompiled(charsmap)
    scheme: Any = "always" if _flag(files, "add_prefix_space", True) else "never"
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    raw.decoder = tokenizers.decoders.Metaspace(prepend_scheme=scheme)
    add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} {sep} $B {sep}",
        special_tokens=[(cls, raw.token_to_id(cls)), (sep, raw.token_to_id(sep))],
    )
    return raw


def _from_spm(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """Build DeBERTa-v2's tokenizer, as transformers 4 did: version 5 leaves out the model's own normalisation."""
    import tokenizers
    from tokenizers import normalizers, pre_tokenizers

    special = special_tokens(files, BERT_TOKENS)
    model = read_model(files.folder / "spm.model")
    names = [text for text, _ in model.pieces]
    cls, sep, unk = needed_tokens(special, set(names), "spm.model")
    raw = tokenizers.Tokenizer(tokenizers.models.Unigram(model.pieces, unk_id=names.index(unk), byte_fallback=False))
    steps: list[Any] = [normalizers.Lowercase()] if _flag(files, "do_lower_case", False) else []
    steps += [normalizers.Strip(), *([normalizers.Precompiled(model.charsmap)] if model.charsmap else [])]
    raw.normalizer = normalizers.Sequence([*steps, normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    punctuation = [pre_tokenizers.Punctuation(behavior="isolated")] if _flag(files, "split_by_punct", False) else []
    raw.pre_tokenizer = pre_tokenizers.Sequence([*punctuation, pre_tokenizers.Metaspace()])
    raw.decoder = tokenizers.decoders.Metaspace()
    raw.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in model.user_defined])
    raw.add_special_tokens([added_token(text) for text in model.controls])
    raw.add_special_tokens([added_token(special["mask_token"])])  # the model lacks it, but the word table has its row
    add_tokens(raw, files, special)
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, raw.token_to_id(cls)), (sep, raw.token_to_id(sep))],
    )
    return raw


_BUILDERS = {
    ("tokenizer.json",): _from_tokenizer_json,
    ("vocab.txt",): _from_vocab_txt,
    ("vocab.json", "merges.txt"): _from_vocab_and_merges,
    ("sentencepiece.bpe.model",): _from_sentencepiece,
    ("spm.model",): _from_spm,
}


# --- reading


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


def check_tables(raw: tokenizers.Tokenizer, spec: Spec, folder: Path) -> None:
    """Check that every id and token type that the tokenizer can give has a row in the network's tables."""
    highest_id, highest_type = highest_numbers(raw)
    if highest_id >= spec.vocab_size or highest_id < 0:
        raise CheckpointError(
            f"{folder}: the tokenizer's highest token id is {highest_id}, the word table has {spec.vocab_size} rows; "
            "the tokenizer files belong to another checkpoint, or the word table was not resized for added tokens"
        )
    if spec.num_token_types > 1 and highest_type >= spec.num_token_types:
        raise CheckpointError(
            f"{folder}: the tokenizer gives token type {highest_type}, the network has {spec.num_token_types} types; "
            "the tokenizer files belong to another checkpoint"
        )


def check_room(raw: tokenizers.Tokenizer, limit: int, folder: Path) -> None:
    """Check that the checkpoint's own length limit has room for a text."""
    special = raw.num_special_tokens_to_add(False)
    if limit <= special:
        raise CheckpointError(
            f"{folder}: the checkpoint takes {limit} tokens, which leaves no room for a text beside {special} special "
            "tokens; correct model_max_length in tokenizer_config.json, max_seq_length in sentence_bert_config.json "
            "or max_position_embeddings in config.json"
        )


def lower_case_first(raw: tokenizers.Tokenizer) -> None:
    """Put a lower-casing step in front, as sentence-transformers does for do_lower_case."""
    from tokenizers import normalizers

    steps = [normalizers.Lowercase(), *([raw.normalizer] if raw.normalizer is not None else [])]
    raw.normalizer = normalizers.Sequence(steps)
