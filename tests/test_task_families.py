"""Every task on the families whose heads differ from BERT's, against transformers and sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import TEXTS, pipeline, save_task

from bothways import Encoder

pytest.importorskip("bothways._native", reason="the native engine is not built")

BASE = ("encode", "embed", "similarity")
PAIRS = [("who jumps?", "the fox"), ("naïve", "the lazy dog"), ("a", "b " * 9)]
LONG = "the quick brown fox " * 40

#: Model types, each with what makes its classifier another.
CLASSIFIERS: list[tuple[str, dict[str, Any]]] = [
    ("albert", {"embedding_size": 9}),
    ("electra", {}),
    ("ernie", {}),
    ("eurobert", {"classifier_pooling": "late"}),
    ("eurobert", {"classifier_pooling": "mean"}),
    ("gte", {}),
    ("megatron-bert", {}),
    ("modernbert", {"classifier_pooling": "mean"}),
    ("nomic_bert", {}),
    ("roformer", {"hidden_act": "silu"}),
]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    """Compare label by label: of labels that are nearly alike, rounding decides which comes first."""
    for mine, theirs in zip(found, expected, strict=True):
        scores = {label["label"]: label["score"] for label in theirs}
        assert {label.label for label in mine} == scores.keys()
        np.testing.assert_allclose([m.score for m in mine], [scores[m.label] for m in mine], atol=5e-4)


@pytest.mark.parametrize(("model_type", "config"), CLASSIFIERS)
def test_classify_gives_transformers_labels(tmp_path: Path, model_type: str, config: dict[str, Any]) -> None:
    for number, problem in ((3, None), (3, "multi_label_classification"), (1, "regression")):
        folder = save_task(
            tmp_path / str(problem), model_type, "classification", num_labels=number, problem_type=problem, **config
        )
        model, oracle = Encoder.from_pretrained(folder), pipeline("text-classification", folder)
        assert model.tasks == (*BASE, "classify", *(("rerank",) if number == 1 else ()))
        texts = [*TEXTS, LONG]
        assert_same(model.classify(texts, top_k=None), oracle(texts, top_k=None, truncation=True))
        pairs = [{"text": a, "text_pair": b} for a, b in PAIRS]
        assert_same(model.classify(PAIRS, top_k=None), oracle(pairs, top_k=None, truncation=True))
        alone = [model.classify(text, top_k=None)[0] for text in texts]
        assert model.classify(texts[::-1] * 3, top_k=None) == alone[::-1] * 3


@pytest.mark.parametrize(("model_type", "config"), CLASSIFIERS)
def test_rerank_gives_the_scores_of_sentence_transformers(
    tmp_path: Path, model_type: str, config: dict[str, Any]
) -> None:
    from sentence_transformers import CrossEncoder

    folder = save_task(tmp_path, model_type, "classification", num_labels=1, **config)
    documents = [*filter(None, TEXTS), LONG]
    oracle = CrossEncoder(str(folder), device="cpu", max_length=48).rank("who jumps?", documents)
    expected = {item["corpus_id"]: item["score"] for item in oracle}
    found = Encoder.from_pretrained(folder).rerank("who jumps?", documents)
    assert len(found) == len(expected)
    np.testing.assert_allclose([item.score for item in found], [expected[item.index] for item in found], atol=5e-4)


@pytest.mark.parametrize("model_type", ["eurobert", "modernbert", "electra"])
def test_zero_shot_gives_transformers_labels(tmp_path: Path, model_type: str) -> None:
    names = {0: "entailment", 1: "neutral", 2: "contradiction"}
    folder = save_task(tmp_path, model_type, "classification", id2label=names)
    model, oracle = Encoder.from_pretrained(folder), pipeline("zero-shot-classification", folder)
    assert model.tasks == (*BASE, "classify", "zero_shot")
    labels = ["sports", "the weather", "a fox"]
    for multi_label in (False, True):
        theirs = oracle(TEXTS[0], labels, multi_label=multi_label)
        expected = [{"label": n, "score": s} for n, s in zip(theirs["labels"], theirs["scores"], strict=True)]
        assert_same(model.zero_shot([TEXTS[0]], labels, multi_label=multi_label), [expected])


@pytest.mark.parametrize("model_type", ["albert", "electra", "eurobert", "gte", "modernbert", "nomic_bert", "roformer"])
def test_fill_mask_gives_transformers_tokens(tmp_path: Path, model_type: str) -> None:
    folder = save_task(tmp_path, model_type, "masked_lm")
    model, oracle = Encoder.from_pretrained(folder), pipeline("fill-mask", folder)
    assert model.tasks == (*BASE, "fill_mask")
    text = "the quick [MASK] fox jumps over the lazy dog"
    (found,) = model.fill_mask([text], top_k=4)
    expected = oracle(text, top_k=4)
    np.testing.assert_allclose([fill.score for fill in found], [fill["score"] for fill in expected], atol=5e-4)


@pytest.mark.parametrize("model_type", ["albert", "eurobert", "gte", "modernbert", "roformer"])
def test_tag_gives_transformers_tokens(tmp_path: Path, model_type: str) -> None:
    folder = save_task(tmp_path, model_type, "token_classification", num_labels=3)
    model, oracle = Encoder.from_pretrained(folder), pipeline("token-classification", folder)
    assert model.tasks == (*BASE, "tag")
    text = TEXTS[0]
    (found,) = model.tag([text], aggregation="none")
    expected = oracle(text, aggregation_strategy="none")
    assert [(span.start, span.end) for span in found] == [(token["start"], token["end"]) for token in expected]
    np.testing.assert_allclose([s.score for s in found], [token["score"] for token in expected], atol=5e-4)


@pytest.mark.parametrize("model_type", ["modernbert", "albert", "roformer"])
def test_answer_is_offered_and_comes_from_the_context(tmp_path: Path, model_type: str) -> None:
    """The decoding is tested on scores in test_answer.py, the scores in test_heads.py."""
    model = Encoder.from_pretrained(save_task(tmp_path, model_type, "question_answering"))
    assert model.tasks == (*BASE, "answer")
    answer = model.answer("who jumps?", TEXTS[0])
    assert TEXTS[0][answer.start : answer.end] == answer.text
