"""Checkpoints with heads and random weights, behind MiniLM's tokenizer, for bench/tasks.py."""

from __future__ import annotations

import shutil
from pathlib import Path

from common import MODEL

from bothways.sources import resolve

__all__ = ["SHAPES", "make_models"]

_BASE = {"vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
SHAPES = {
    "MiniLM": _BASE | {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6},
    "BERT-base": _BASE,
}

_SEED = 0
_ENTITIES = ["O"] + [f"{letter}-{tag}" for tag in ("PER", "ORG", "LOC", "MISC") for letter in "BI"]
_HEADS = {
    "classify": ("BertForSequenceClassification", ["negative", "neutral", "positive"]),
    "tag": ("BertForTokenClassification", _ENTITIES),
    "rerank": ("BertForSequenceClassification", ["relevant"]),
    "zero_shot": ("BertForSequenceClassification", ["contradiction", "neutral", "entailment"]),
    "answer": ("BertForQuestionAnswering", []),
}
# Random heads are nearly indifferent; with larger weights results differ from text to text.
_SPREAD = 20.0


def make_models(folder: Path, shape: dict[str, int]) -> None:
    """Save one checkpoint for each task below the folder."""
    import torch
    import transformers

    tokenizer = shutil.ignore_patterns("model.safetensors", "config.json", "modules.json", "1_Pooling", "sentence_*")
    for task, (name, labels) in _HEADS.items():
        shutil.copytree(resolve(MODEL).folder, folder / task, ignore=tokenizer)
        names = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
        torch.manual_seed(_SEED)
        config = transformers.BertConfig(**shape, num_attention_heads=12, **(names if labels else {}))
        model = getattr(transformers, name)(config).eval()
        head = model.qa_outputs if task == "answer" else model.classifier
        with torch.no_grad():
            head.weight *= _SPREAD
        model.save_pretrained(folder / task)
