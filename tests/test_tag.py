"""The task tag: the spans of transformers' pipeline for every family and aggregation, and long documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import MAX_TOKENS, MODEL_TYPES, TEXTS, pipeline, save_task

from bothways import Encoder, Span
from bothways.errors import CheckpointError, InputError, TaskError

BIO = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC"}
MORE = [
    *TEXTS,
    "ראש הממשלה נסע לירושלים.",
    "ذهبت القطة إلى البيت",
    "👩‍👩‍👧‍👦 flag 🇩🇪 e\u0301a\u0300 ﬁne",
    "  spaces   and\ttabs\nlines ",
    "[UNK] special [SEP] tokens <mask> </s> 中文分词测试 日本語",
]


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "token_classification", id2label=BIO)


@pytest.fixture(scope="module")
def model(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_spans_are_those_of_transformers(model: Encoder, folder: Path, aggregation: str) -> None:
    oracle = pipeline("token-classification", folder)
    for ignored in (["O"], [], ["PER", "B-PER"]):
        found = model.tag(MORE, aggregation=aggregation, ignore_labels=ignored, truncation=True)
        for text, spans in zip(MORE, found, strict=True):
            expected = oracle(text, aggregation_strategy=aggregation, ignore_labels=ignored)
            name = "entity" if aggregation == "none" else "entity_group"
            assert [(s.label, s.start, s.end) for s in spans] == [(e[name], e["start"], e["end"]) for e in expected]
            np.testing.assert_allclose([s.score for s in spans], [e["score"] for e in expected], atol=5e-4)
            assert all(span.text == text[span.start : span.end] for span in spans)


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max", "word"])
def test_spans_never_depend_on_company(model: Encoder, aggregation: str) -> None:
    alone = [model.tag(text, aggregation=aggregation)[0] for text in MORE]
    assert model.tag(MORE * 3, aggregation=aggregation) == alone * 3
    assert list(model.tag(iter(MORE), aggregation=aggregation)) == alone


def test_long_texts_are_read_whole_and_in_order(model: Encoder) -> None:
    text = " ".join(MORE * 12)
    spans = model.tag(text, aggregation="none", ignore_labels=[])[0]
    whole = model.tokenizer.tokenize([text], max_length=MAX_TOKENS, truncation=True)[0]
    assert whole.truncated
    tokens = [tuple(place) for place in model.tokenizer.windows(text)[0].offsets.tolist()]
    assert len(spans) > 10 * len(tokens)
    assert [s.start for s in spans] == sorted(s.start for s in spans)
    assert spans[-1].end == len(text.rstrip()) or spans[-1].end == len(text)
    words = model.tag(text, aggregation="word")[0]
    assert words
    assert all(a.end <= b.start for a, b in zip(words, words[1:], strict=False))
    for aggregation in ("simple", "word"):
        assert all(s.text == text[s.start : s.end] for s in model.tag(text, aggregation=aggregation)[0])


def test_each_token_of_a_long_text_is_labelled_in_the_window_that_shows_most_around_it(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "token_classification", id2label=BIO)
    model = Encoder.from_pretrained(tmp_path)
    text = "the fox jumps over the dog , " * 12  # every word a token, wherever a window begins
    windows = model.tokenizer.windows(text, max_length=14, stride=5)
    found = {s.start: s for s in model.tag(text, aggregation="none", ignore_labels=[], max_length=14, stride=5)[0]}
    scores: dict[int, list[tuple[float, int, Span]]] = {}
    for number, window in enumerate(windows):
        starts = window.offsets[1:-1, 0].tolist()
        # The same tokens as a text of their own: what stands in the window, at its place.
        piece = text[starts[0] : int(window.offsets[-2, 1])]
        for n, span in enumerate(model.tag(piece, aggregation="none", ignore_labels=[])[0]):
            left = n if number else 99
            right = len(starts) - 1 - n if number < len(windows) - 1 else 99
            scores.setdefault(starts[n], []).append((min(left, right), -number, span))
    assert len(found) == len(scores)
    for start, candidates in scores.items():
        best = max(candidates, key=lambda c: c[:2])[2]
        assert (found[start].label, found[start].score) == (best.label, best.score)


def test_a_text_that_fits_is_the_same_in_a_window(model: Encoder) -> None:
    for text in MORE:
        if not model.tokenizer.tokenize([text])[0].truncated:
            assert model.tag(text) == model.tag(text, truncation=True) == model.tag(text, truncation=False)


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_words_are_read_as_transformers_reads_them(tmp_path: Path, model_type: str) -> None:
    save_task(tmp_path, model_type, "token_classification", id2label=BIO)
    model, oracle = Encoder.from_pretrained(tmp_path), pipeline("token-classification", tmp_path)
    words = ["The", "naïve", "fox-trot", "(said)", "jumps!"]
    for aggregation in ("none", "simple"):
        expected = oracle([words], aggregation_strategy=aggregation, is_split_into_words=True)[0]
        found = model.tag([words], aggregation=aggregation)[0]
        name = "entity" if aggregation == "none" else "entity_group"
        assert [(s.label, s.start, s.end) for s in found] == [(e[name], e["start"], e["end"]) for e in expected]
    joined = " ".join(words)
    found = model.tag([tuple(words)], aggregation="word", ignore_labels=[])[0]
    borders = [joined.index(word) for word in words]
    assert {span.start for span in found} <= set(borders)
    assert {span.end for span in found} <= {at + len(word) for at, word in zip(borders, words, strict=True)}
    assert model.tag([[]]) == [[]]


def test_progress_and_truncation_are_reported(model: Encoder) -> None:
    texts = ["short", "the quick brown fox " * 30]
    seen: list[tuple[int, int, int]] = []
    model.tag(texts, truncation=True, progress=lambda *so_far: seen.append(so_far))
    assert (seen[-1][0], seen[-1][2]) == (2, 1)
    seen.clear()
    model.tag(texts, progress=lambda *so_far: seen.append(so_far))
    assert (seen[-1][0], seen[-1][2]) == (2, 0)
    with pytest.raises(InputError, match="text 1 has"):
        model.tag(texts, truncation=False)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("text", {"aggregation": "best"}, "aggregation is 'best'; use none, simple, first, average, max, word"),
        ("text", {"stride": -1}, "stride is -1"),
        ("text", {"stride": 9, "max_length": 10}, "stride=9 does not fit a window with room for 8"),
        ("text", {"ignore_labels": "O"}, "ignore_labels is 'O'; pass a list of strings"),
        ("text", {"truncation": "windows"}, "truncation is 'windows'; use True, False .* or \"window\""),
        ([3], {}, "text 0 is 3; it must be a string or a list of words"),
        ([["a", 3]], {}, r"text 0 is \['a', 3\]; it must be a string or a list of words"),
    ],
)
def test_what_makes_no_sense_is_refused(model: Encoder, texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.tag(texts, **options)


def test_a_classifier_of_texts_tags_nothing(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "classification", num_labels=2)
    with pytest.raises(TaskError, match=r"can't tag: it has no token classification head .* it can .*classify"):
        Encoder.from_pretrained(tmp_path).tag("text")


def test_scores_that_are_no_numbers_are_an_error_that_names_the_text(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForTokenClassification

    save_task(tmp_path, "distilbert", "token_classification", num_labels=3)
    network = AutoModelForTokenClassification.from_pretrained(tmp_path)
    torch.nn.init.constant_(network.classifier.bias, torch.nan)
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="text 0 gets scores that are NaN or infinite"):
        Encoder.from_pretrained(tmp_path).tag(["text", "other"])
