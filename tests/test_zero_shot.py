"""The task zero_shot: the labels and scores of transformers' pipeline, and worked out by hand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import MODEL_TYPES, TEXTS, pipeline, save_task

from bothways import Encoder, Label, compat
from bothways.errors import InputError, TaskError
from bothways.tasks.zero_shot import label_scores, sentences

NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
LABELS = ["sports", "the weather", "🎉", "a quick brown fox"]


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "classification", id2label=NLI)


def assert_same(found: list[list[Label]], expected: list[dict[str, Any]]) -> None:
    """Compare label by label: a random network finds some nearly alike, and then rounding decides their order."""
    for mine, theirs in zip(found, expected, strict=True):
        scores = dict(zip(theirs["labels"], theirs["scores"], strict=True))
        assert len(mine) == len(scores)
        np.testing.assert_allclose([m.score for m in mine], [scores[m.label] for m in mine], atol=5e-4)
        assert [m.score for m in mine] == sorted((m.score for m in mine), reverse=True)


def test_labels_are_those_of_transformers(folder: Path) -> None:
    model, oracle = Encoder.from_pretrained(folder), pipeline("zero-shot-classification", folder)
    texts = [*filter(None, TEXTS), "the quick brown fox " * 30]
    for options in ({}, {"multi_label": True}):
        assert_same(model.zero_shot(texts, LABELS, **options), oracle(texts, LABELS, **options))
    template = "It is about {}!"
    assert_same(
        model.zero_shot(texts, "sports, art", template=template),
        oracle(texts, "sports, art", hypothesis_template=template),
    )
    assert_same(model.zero_shot(texts, ["sports"]), oracle(texts, ["sports"]))


@pytest.mark.parametrize(
    "names", [{0: "ENTAILMENT", 1: "neutral", 2: "contradiction"}, {0: "not_entailment", 1: "entailment"}]
)
def test_labels_in_other_orders_are_found_as_in_transformers(tmp_path: Path, names: dict[int, str]) -> None:
    save_task(tmp_path, "bert", "classification", id2label=names)
    oracle = pipeline("zero-shot-classification", tmp_path)
    for multi_label in (False, True):
        found = Encoder.from_pretrained(tmp_path).zero_shot(TEXTS[0], LABELS, multi_label=multi_label)
        assert_same(found, [oracle(TEXTS[0], LABELS, multi_label=multi_label)])


def test_scores_worked_out_by_hand() -> None:
    names = ("neutral", "entailment", "contradiction")
    logits = np.log(np.array([[5, 3, 1], [1, 1, 1]], np.float32))
    np.testing.assert_allclose(label_scores(logits, names, multi_label=False), [3 / 4, 1 / 4], atol=1e-6)
    # By the name of the label, where its place would have neutral taken for contradiction.
    np.testing.assert_allclose(label_scores(logits, names, multi_label=True), [3 / 4, 1 / 2], atol=1e-6)
    np.testing.assert_allclose(label_scores(logits[:1], names, multi_label=False), [3 / 4], atol=1e-6)


def test_a_texts_labels_do_not_depend_on_other_texts_or_the_way_of_giving_them(folder: Path) -> None:
    model = Encoder.from_pretrained(folder)
    alone = [model.zero_shot(text, LABELS)[0] for text in TEXTS]
    assert model.zero_shot(TEXTS * 5, LABELS) == alone * 5
    assert list(model.zero_shot(iter(TEXTS), LABELS)) == alone
    scores = {label.label: label.score for label in model.zero_shot(TEXTS[0], LABELS, multi_label=True)[0]}
    assert model.zero_shot(TEXTS[0], LABELS[2:3], multi_label=True)[0] == [Label(LABELS[2], scores[LABELS[2]])]


def test_progress_counts_texts_not_pairs(folder: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    texts = ["short", "the quick brown fox " * 30]
    Encoder.from_pretrained(folder).zero_shot(texts, LABELS, progress=lambda *so_far: seen.append(so_far))
    assert (seen[-1][0], seen[-1][2]) == (2, 1)
    with pytest.raises(InputError, match="text 1 has"):
        Encoder.from_pretrained(folder).zero_shot(texts, LABELS, truncation=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, r"labels is \[\]; pass at least one label"),
        ({"labels": "a,,b"}, "pass at least one label, and none that is empty"),
        ({"labels": [1]}, r"labels is \[1\]; pass a list of strings"),
        ({"labels": 1}, "labels is 1; pass a list of strings"),
        ({"labels": ["a"], "template": "no place"}, "template is 'no place'; it must be a string with one {}"),
        ({"labels": ["a"], "template": "{} and {}"}, "it must be a string with one {}"),
        ({"labels": ["a"], "template": None}, "template is None"),
        ({"labels": ["a"], "template": "{:>400000000}"}, "it must be a string with one {} .*, and no other braces"),
        ({"labels": ["a"], "template": "{0.__class__}"}, "no other braces"),
        ({"labels": ["a"], "template": "{0} {}"}, "no other braces"),
        ({"labels": ["a"], "template": "{{}}"}, "no other braces"),
        ({"labels": ["a"], "template": "{} {"}, "no other braces"),
        ({"labels": ["a"], "template": ["{}"]}, r"template is \['{}'\]"),
    ],
)
def test_labels_and_templates_that_make_no_sentence_are_refused(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Encoder.from_pretrained(folder).zero_shot("text", **options)


def test_a_checkpoint_that_knows_no_entailment_is_refused(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "classification", num_labels=3)
    with pytest.raises(TaskError, match="its labels are LABEL_0, LABEL_1, LABEL_2, and none starts with 'entail'"):
        Encoder.from_pretrained(tmp_path).zero_shot("text", LABELS)


@pytest.mark.parametrize("template", ["{:>400000000}", "{0.__class__}", "{0}", "{} and {}", None])
def test_a_pipeline_takes_no_format_string(folder: Path, template: Any) -> None:
    ours = compat.pipeline("zero-shot-classification", str(folder))
    with pytest.raises(ValueError, match="^hypothesis_template is .*; it must be a string with one {}"):
        ours(TEXTS[0], LABELS, hypothesis_template=template)


def test_labels_with_braces_stay_as_they_are() -> None:
    assert sentences("About {}!", ["{}", "{0}", "a"]) == ["About {}!", "About {0}!", "About a!"]


def test_a_plan_is_not_as_long_as_its_labels_times_their_template(tmp_path: Path) -> None:
    model = Encoder.from_pretrained(save_task(tmp_path, "bert", "classification", id2label=NLI))
    labels, template = [str(n) for n in range(2000)], "x" * 50_000 + "{}"
    tracemalloc.start()
    try:
        plan = model.plan("zero_shot", labels=labels, template=template)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    # Whoever carries it out can tell what it takes.
    assert plan.weight("text") == 2000 * (4 + 50_000) + sum(map(len, labels))
