"""The models that the tests serve, one for each task, and what the libraries that they come from make of them."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from task_checkpoints import save_task

PROMPTS = {"query": "ask: ", "passage": "the passage: "}
LABELS = {0: "calm", 1: "fear", 2: "joy", 3: "rage"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC"}
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}

#: Served names, and of each the head and the config that make its checkpoint.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "moods": ("classification", {"id2label": LABELS}),
    "topics": ("classification", {"id2label": LABELS, "problem_type": "multi_label_classification"}),
    "entities": ("token_classification", {"id2label": TAGS}),
    "masks": ("masked_lm", {}),
    "answers": ("question_answering", {}),
    "nli": ("classification", {"id2label": NLI}),
    "cross": ("classification", {"num_labels": 1}),
}

#: A word that the models of `make_broken` have NaN for.
POISON = "fox"

#: A text that is no text of POISON's, and pieces of which each tokenizer knows.
SOUND = "the lazy dog"

#: A text that is too long for the tiny models.
LONG = "the quick brown fox " * 40

#: Texts that a real network and a tiny one can both read: empty, not ASCII, long, more than once.
TEXTS = ["The quick brown fox jumps over the lazy dog.", "", "Zwölf 🎉 Boxkämpfer", "Москва!", "dog " * 80, ""]

#: More texts than other servers take at once, and all different, as equal ones may be computed once.
MANY = [f"text number {n}" for n in range(1100)]


def make(root: Path, minilm: Path) -> dict[str, Path]:
    """Save every model under `root`; returns folders by served names, MiniLM's among them."""
    folders = {"minilm": minilm, "prompts": make_prompts(root / "prompts", root)}
    for name, (head, config) in HEADS.items():
        folders[name] = save_task(root / name, "bert", head, **config)
    spread(folders["entities"])
    return folders


def spread(folder: Path) -> None:
    """Make the labels of a checkpoint's tokens differ, where a random network has one label for nearly all."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0]
        model.classifier.bias -= logits.mean(0)
        model.classifier.weight *= 4
        model.classifier.bias *= 4
    model.save_pretrained(folder)


def make_prompts(folder: Path, root: Path) -> Path:
    """Save an embedding model with prompts, none of them the default."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    network = Transformer(str(save_task(root / "network", "bert", "masked_lm")))
    pooling = Pooling(network.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[network, pooling], prompts=PROMPTS, device="cpu")
    model.save_pretrained(str(folder))
    return folder


def make_broken(root: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """Copy some models, with NaN for one word of their vocabulary."""
    broken = {}
    for name in ("prompts", "moods", "entities", "cross", "nli", "answers"):
        broken[f"broken-{name}"] = target = root / f"broken-{name}"
        shutil.copytree(folders[name], target)
        poison(target)
    return broken


def poison(folder: Path) -> None:
    """Write NaN into the row of POISON in a checkpoint's word table."""
    from safetensors.numpy import load_file, save_file

    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tensors = load_file(folder / "model.safetensors")
    (table,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[table][tokens[POISON]] = np.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@contextmanager
def one_thread() -> Iterator[None]:
    """Leave the other processors to the servers: torch's threads wait for each other by spinning."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def sentence_transformer(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@functools.cache
def cross_encoder(folder: Path) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu")


@functools.cache
def pipeline(task: str, folder: Path) -> Any:
    import transformers

    return transformers.pipeline(task, model=str(folder), device="cpu")


@functools.cache
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@functools.cache
def embedded(folder: Path, texts: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    """A SentenceTransformer's embeddings, computed once for all tests."""
    with one_thread():
        return sentence_transformer(folder).encode(list(texts), **dict(options))


class Oracles:
    """sentence-transformers and transformers on the same folders; each is loaded when it is first asked for."""

    def __init__(self, folders: dict[str, Path]) -> None:
        """Keep the folders."""
        self.folders = folders

    def sentences(self, name: str) -> Any:
        """The SentenceTransformer of a model."""
        return sentence_transformer(self.folders[name])

    def pipeline(self, task: str, name: str) -> Any:
        """The pipeline of a task."""
        return pipeline(task, self.folders[name])

    def tokenizer(self, name: str) -> Any:
        """The tokenizer of transformers."""
        return tokenizer(self.folders[name])

    def vectors(self, name: str, texts: Sequence[str], **options: Any) -> Any:
        """Embeddings of length 1, or what other options of SentenceTransformer.encode say."""
        return embedded(self.folders[name], tuple(texts), tuple(({"normalize_embeddings": True} | options).items()))

    @property
    def many(self) -> Any:
        """MiniLM's embeddings of MANY."""
        return self.vectors("minilm", MANY)

    def tokens(self, name: str, texts: list[Any], max_length: int | None = None) -> int:
        """How many tokens texts or pairs have, special tokens included."""
        read = self.tokenizer(name)
        limit = max_length or self.limit(name)
        inputs = [list(text) if isinstance(text, tuple) else text for text in texts]
        return sum(map(len, read(inputs, truncation=True, max_length=limit)["input_ids"]))

    def limit(self, name: str) -> int:
        """The most tokens of a text."""
        return 256 if name == "minilm" else 48

    def ranks(self, query: str, documents: list[str], **options: Any) -> list[dict[str, Any]]:
        """Documents in order, as [{"corpus_id", "score"}]."""
        with one_thread():
            found: list[dict[str, Any]] = cross_encoder(self.folders["cross"]).rank(query, documents, **options)
        return found
