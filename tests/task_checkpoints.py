"""Tiny checkpoints with a head and a tokenizer of their own, and what transformers makes of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import tokenizers
from tiny_checkpoints import save_model
from tokenizer_folders import BERT_SPECIAL, ROBERTA_SPECIAL, TRAINING, train_roberta
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "question_answering": "AutoModelForQuestionAnswering",
}

# Trained tokenizers differ from run to run (the trainers' hash tables do), and with them the tokens that random
# networks find hard to tell apart: these have vocabularies made by counting.


def _counted(normalizer: Any, splitter: Any) -> tuple[list[str], list[str]]:
    """The characters and the words of the training texts, the most frequent words first."""
    counts: Counter[str] = Counter()
    for text in TRAINING:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return sorted(set("".join(words)) - set("文日漢")), [word for word in words if 1 < len(word) < 20]


def word_pieces() -> Any:
    """BERT's kind: whole words, halves of words, characters; what it can't spell is unknown."""
    raw = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    characters, words = _counted(raw.normalizer, raw.pre_tokenizer)
    halves = [piece for word in words[::2] for piece in (word[:3], "##" + word[3:]) if piece != "##"]
    pieces = [*BERT_SPECIAL, *characters, *("##" + c for c in characters), *words[1::2], *halves]
    raw.model = models.WordPiece({piece: n for n, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
    raw.add_special_tokens(BERT_SPECIAL)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return raw


def unigrams() -> Any:
    """XLM-RoBERTa's kind, in the order of ids that its .model file has."""
    raw = tokenizers.Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    raw.decoder = decoders.Metaspace()
    characters, words = _counted(normalizers.NFC(), raw.pre_tokenizer)
    halves = [piece for word in words[::2] for piece in (word[:3], word[3:]) if piece]
    pieces = list(dict.fromkeys([*words[1::2], *halves, *characters]))
    scored = [(piece, -4 - 0.01 * n) for n, piece in enumerate(pieces)]
    raw.model = models.Unigram([*((s, 0.0) for s in ROBERTA_SPECIAL[:4]), *scored, ("<mask>", 0.0)], unk_id=3)
    raw.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True), *ROBERTA_SPECIAL[:4]])
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return raw


_TOKENIZERS: dict[str, tuple[Any, str]] = {
    "bert": (word_pieces, "BertTokenizer"),
    "distilbert": (word_pieces, "DistilBertTokenizer"),
    "roberta": (train_roberta, "RobertaTokenizer"),
    "xlm-roberta": (unigrams, "XLMRobertaTokenizer"),
}
# Without token types, which a BertTokenizer would give.
_UNTYPED = ("eurobert", "modernbert")

#: The model types that every test of a task runs on; `save_task` takes others as well.
MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "distilbert")

MAX_TOKENS = 48

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    "Zwölf 🎉 Boxkämpfer",
    "Москва не сразу строилась, (said) the naïve fox!",
    "don't stop: https://example.com/a?b=c",
]


def save_task(folder: Path, model_type: str, head: str, **config: Any) -> Path:
    """Save a random model with a head beside a tokenizer trained on a few texts."""
    other = "PreTrainedTokenizerFast" if model_type in _UNTYPED else "BertTokenizer"
    make, class_name = _TOKENIZERS.get(model_type, (word_pieces, other))
    raw = make()
    positions = MAX_TOKENS + (2 if "roberta" in model_type else 0)
    sizes = {"vocab_size": raw.get_vocab_size(), "max_position_embeddings": positions, "pad_token_id": None}
    sizes["pad_token_id"] = raw.token_to_id("[PAD]") if make is word_pieces else 1
    if "id2label" in config:
        config["label2id"] = {name: number for number, name in config["id2label"].items()}
    model = save_model(folder, model_type, HEADS[head], **(sizes | config))
    # A small random network hardly looks beyond a token itself: with norms near 1 and larger weights its texts differ
    # by far more than rounding.
    for name, weight in model.base_model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            weight.data.add_(1)
        elif "layer" in name and weight.ndim == 2:
            weight.data.mul_(2)
    model.save_pretrained(folder)
    raw.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": class_name, "model_max_length": MAX_TOKENS}
    if class_name == "PreTrainedTokenizerFast":
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        settings |= {name: f"[{name[:-6].upper()}]" for name in names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def pipeline(task: str, folder: Path) -> Any:
    """The same checkpoint in transformers."""
    import transformers

    return transformers.pipeline(task, model=str(folder), device="cpu")
