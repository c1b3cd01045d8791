"""The task classify: the labels and scores of transformers' pipeline, for every family."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import MAX_TOKENS, MODEL_TYPES, TEXTS, pipeline, save_task

from bothways import Encoder, Label
from bothways.errors import CheckpointError, InputError, TaskError
from bothways.spec import HeadSpec
from bothways.tasks.classify import label_scores

PAIRS = [("who jumps?", "the fox"), ("", "the lazy dog"), ("naïve", "🎉 " * 9)]


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "classification", num_labels=4)


@pytest.fixture(scope="module")
def model(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder)


def assert_same(found: list[list[Label]], expected: list[list[dict[str, Any]]]) -> None:
    assert [[label.label for label in row] for row in found] == [[label["label"] for label in row] for row in expected]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose([m.score for m in mine], [t["score"] for t in theirs], atol=5e-4)


def test_labels_are_those_of_transformers(model: Encoder, folder: Path) -> None:
    oracle = pipeline("text-classification", folder)
    for top_k in (1, 2, None):
        assert_same(model.classify(TEXTS, top_k=top_k), oracle(TEXTS, top_k=top_k, truncation=True))
    pairs = [{"text": a, "text_pair": b} for a, b in PAIRS]
    assert_same(model.classify(PAIRS, top_k=None), oracle(pairs, top_k=None, truncation=True))


def test_long_texts_are_cut_as_transformers_cuts_them_and_counted(
    model: Encoder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["short", "the quick brown fox " * 40]
    seen: list[tuple[int, int, int]] = []
    found = model.classify(texts, progress=lambda *so_far: seen.append(so_far))
    oracle = pipeline("text-classification", folder)
    assert_same(found, oracle(texts, top_k=1, truncation=True))
    assert seen[-1][0] == 2
    assert seen[-1][2] == 1
    with caplog.at_level(logging.WARNING, "bothways"):
        model.classify(texts)
    assert f"1 of 2 texts were longer than {MAX_TOKENS} tokens and were cut; pass truncation=False" in caplog.text
    with pytest.raises(InputError, match=f"text 1 has .* tokens, the model takes {MAX_TOKENS}"):
        model.classify(texts, truncation=False)
    long_pair = ("the fox " * 40, "a lazy dog " * 30)
    assert_same(
        model.classify([long_pair]),
        [oracle({"text": long_pair[0], "text_pair": long_pair[1]}, top_k=1, truncation=True)],
    )


def test_a_texts_scores_are_the_same_bits_in_any_company(model: Encoder) -> None:
    alone = [model.classify(text, top_k=None)[0] for text in TEXTS]
    assert model.classify(TEXTS, top_k=None) == alone
    assert model.classify(TEXTS[::-1] * 9, top_k=None) == alone[::-1] * 9
    assert list(model.classify(iter(TEXTS), top_k=None)) == alone


def test_every_way_of_giving_texts_is_understood(model: Encoder) -> None:
    assert len(model.classify("one")) == 1
    assert len(model.classify(("one", "two"))) == 1
    assert len(model.classify(["one", "two"])) == 2
    assert model.classify([]) == []
    assert next(model.classify(iter(["one"]))) == model.classify("one")[0]
    with pytest.raises(InputError, match="text 1 is 3; it must be a string or a pair"):
        model.classify(["one", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="top_k is 0"):
        model.classify("one", top_k=0)


def test_a_stream_is_read_no_further_than_it_must_be(model: Encoder) -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for n in range(100_000):
            read.append(n)
            yield "the quick brown fox"

    stream = model.classify(texts())
    next(stream)
    assert len(read) < 20_000
    stream.close()  # type: ignore[attr-defined]


def test_both_engines_agree(load: Callable[..., Encoder], model: Encoder, folder: Path) -> None:
    for mine, theirs in zip(load(folder).classify(TEXTS, top_k=None), model.classify(TEXTS, top_k=None), strict=True):
        np.testing.assert_allclose([m.score for m in mine], [t.score for t in theirs], atol=5e-4)


@pytest.mark.parametrize(
    ("problem", "num_labels"),
    [
        *((problem, n) for problem in ("multi_label_classification", "regression", None) for n in (1, 3)),
        ("single_label_classification", 3),  # transformers refuses it with one label
    ],
)
def test_problem_types_are_those_of_transformers(tmp_path: Path, problem: str | None, num_labels: int) -> None:
    save_task(tmp_path, "bert", "classification", num_labels=num_labels, problem_type=problem)
    expected = pipeline("text-classification", tmp_path)(TEXTS, top_k=None)
    assert_same(Encoder.from_pretrained(tmp_path).classify(TEXTS, top_k=None), expected)


@pytest.mark.parametrize(("function", "theirs"), [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("identity", "none")])
def test_a_function_that_is_named_makes_scores(model: Encoder, folder: Path, function: str, theirs: str) -> None:
    oracle = pipeline("text-classification", folder)
    expected = oracle(TEXTS, top_k=None, function_to_apply=theirs, truncation=True, max_length=MAX_TOKENS)
    assert_same(model.classify(TEXTS, top_k=None, function=function), expected)


def test_a_function_that_is_none_is_an_error(model: Encoder) -> None:
    with pytest.raises(InputError, match="function is 'tanh'; use softmax, sigmoid, identity"):
        model.classify("a", function="tanh")


def test_scores_worked_out_by_hand() -> None:
    logits = np.array([0.0, np.log(3.0)], np.float32)
    labels = ("no", "yes")
    for problem, expected in (("single_label", [0.25, 0.75]), ("multi_label", [0.5, 0.75]), ("regression", logits)):
        spec = HeadSpec("first", (), labels, problem)  # type: ignore[arg-type]
        np.testing.assert_allclose(label_scores(logits, spec), expected, atol=1e-6)


def test_equal_scores_keep_the_checkpoints_order(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    save_task(tmp_path, "distilbert", "classification", num_labels=3)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.nn.init.zeros_(network.classifier.weight)
    torch.nn.init.zeros_(network.classifier.bias)
    network.save_pretrained(tmp_path)
    found = Encoder.from_pretrained(tmp_path).classify("text", top_k=None)[0]
    assert found == [Label(f"LABEL_{n}", 1 / 3) for n in range(3)]


def test_scores_that_are_no_numbers_are_an_error_that_names_the_text(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    save_task(tmp_path, "distilbert", "classification", num_labels=3)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.nn.init.constant_(network.classifier.bias, torch.inf)
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="text 0 gets scores that are NaN or infinite"):
        Encoder.from_pretrained(tmp_path).classify(["text", "other"])


def test_a_task_without_its_head_is_an_error_that_names_what_there_is(model: Encoder, minilm: Path) -> None:
    assert model.tasks == ("encode", "embed", "similarity", "classify")
    base = Encoder.from_pretrained(minilm)
    assert base.tasks == ("encode", "embed", "similarity")
    message = r"can't classify: it has no classification head \(.*\); it can encode, embed, similarity"
    with pytest.raises(TaskError, match=message):
        base.classify("text")
    with pytest.raises(TaskError, match=message):
        base.classify(iter(["text"]))
