"""Tiny checkpoints with a head and a tokenizer of their own, and what transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_checkpoints import save_model
from tokenizer_folders import train_bert, train_roberta, train_xlm_roberta

HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "question_answering": "AutoModelForQuestionAnswering",
}

_TOKENIZERS: dict[str, tuple[Any, str]] = {
    "bert": (lambda: train_bert(False), "BertTokenizer"),
    "distilbert": (lambda: train_bert(False), "DistilBertTokenizer"),
    "roberta": (train_roberta, "RobertaTokenizer"),
    "xlm-roberta": (train_xlm_roberta, "XLMRobertaTokenizer"),
    "camembert": (train_xlm_roberta, "CamembertTokenizer"),
}
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
    make, class_name = _TOKENIZERS[model_type]
    raw = make()
    positions = MAX_TOKENS + (2 if "roberta" in model_type or model_type == "camembert" else 0)
    sizes = {"vocab_size": raw.get_vocab_size(), "max_position_embeddings": positions, "pad_token_id": None}
    sizes["pad_token_id"] = raw.token_to_id("[PAD]") if "distil" in model_type or model_type == "bert" else 1
    if "id2label" in config:
        config["label2id"] = {name: number for number, name in config["id2label"].items()}
    save_model(folder, model_type, HEADS[head], **(sizes | config))
    raw.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": class_name, "model_max_length": MAX_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def pipeline(task: str, folder: Path) -> Any:
    """The same checkpoint in transformers."""
    import transformers

    return transformers.pipeline(task, model=str(folder), device="cpu")
