"""The task answer: beside transformers' networks with the decoding of its former pipeline, written anew and naively."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import MODEL_TYPES, save_task

from bothways import Answer, Encoder
from bothways.errors import InputError, TaskError
from bothways.tasks.answer import best_pieces

CONTEXT = "The quick brown fox jumps over the lazy dog. Zwölf 🎉 Boxkämpfer, naïve cafe\u0301 (ראש הממשלה) don't stop!"
CONTEXTS = [CONTEXT, "fox", "the dog the dog The Dog", "one 👩‍👩‍👧‍👦 two 東京へ行 three", " lead   and trail  "]
QUESTION = "who jumps?"


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "question_answering")


@pytest.fixture(scope="module")
def model(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder)


class Oracle:
    """transformers' tokenizer and network; every piece of every window looked at one by one."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModelForQuestionAnswering.from_pretrained(folder).eval()

    def answers(
        self,
        question: str,
        context: str,
        *,
        max_length: int = 48,
        stride: int = 10,
        longest: int = 15,
        top_k: int = 5,
        impossible: bool = False,
        whole_words: bool = True,
    ) -> list[dict[str, Any]]:
        import torch

        encoded = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
        )
        found: list[dict[str, Any]] = []
        none = np.inf
        for window in encoded.encodings:
            inputs = {"input_ids": torch.tensor([window.ids])}
            if "token_type_ids" in self.tokenizer.model_input_names:
                inputs["token_type_ids"] = torch.tensor([window.type_ids])
            with torch.inference_mode():
                output = self.network(**inputs)
            allowed = [n == 0 or part == 1 for n, part in enumerate(window.sequence_ids)]
            starts, ends = (
                shares(logits[0].double().numpy(), allowed) for logits in (output.start_logits, output.end_logits)
            )
            none = min(none, starts[0] * ends[0])
            pieces = [
                (starts[s] * ends[e], s, e)
                for s in range(1, len(starts))
                for e in range(s, min(s + longest, len(ends)))
                if allowed[s] and allowed[e]
            ]
            pieces.sort(key=lambda piece: -piece[0])
            for score, s, e in pieces[: top_k * 2 + 10 if whole_words else top_k]:
                start, end = window.offsets[s][0], window.offsets[e][1]
                if whole_words:
                    start = window.word_to_chars(window.token_to_word(s), 1)[0]
                    end = window.word_to_chars(window.token_to_word(e), 1)[1]
                # The one difference: no space at the ends of an answer, and no answer that is all space.
                start += len(context[start:end]) - len(context[start:end].lstrip())
                end = start + len(context[start:end].rstrip())
                if start == end:
                    continue
                same = [f for f in found if f["answer"].lower() == context[start:end].lower()]
                if same:
                    same[0]["score"] += score
                else:
                    found.append({"score": score, "start": start, "end": end, "answer": context[start:end]})
        if impossible:
            found.append({"score": none, "start": 0, "end": 0, "answer": ""})
        return sorted(found, key=lambda f: -f["score"])[:top_k]


def shares(logits: Any, allowed: list[bool]) -> Any:
    masked = np.where(allowed, logits, -10000.0)
    powers = np.exp(masked - masked.max())
    return powers / powers.sum()


def flat(answer: Answer) -> list[Answer]:
    return [Answer(a.text, a.score, a.start, a.end) for a in (answer, *answer.others)]


def assert_same(found: Answer, expected: list[dict[str, Any]], context: str) -> None:
    """Compare all answers, those that hardly matter included, so that no near tie decides which are compared."""
    mine = {a.text.lower(): a for a in flat(found)}
    theirs = {e["answer"].lower(): e for e in expected}
    for text in mine.keys() | theirs.keys():
        if text in mine and text in theirs and mine[text].text == theirs[text]["answer"]:
            assert (mine[text].start, mine[text].end) == (theirs[text]["start"], theirs[text]["end"])
        scores = [mine[text].score if text in mine else 0, theirs[text]["score"] if text in theirs else 0]
        np.testing.assert_allclose(*scores, atol=1e-3)
    assert all(a.text == context[a.start : a.end] for a in flat(found))
    order = [a.score for a in flat(found)]
    assert order == sorted(order, reverse=True)
    assert theirs[found.text.lower()]["score"] >= expected[0]["score"] - 1e-3


MANY = 2000  # more than there are pieces


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"impossible": True},
        {"whole_words": False},
        {"max_answer_tokens": 1},
        {"max_length": 24, "stride": 4},
        {"max_length": 24, "stride": 4, "impossible": True, "whole_words": False},
    ],
)
def test_answers_are_those_of_transformers_former_pipeline(model: Encoder, folder: Path, options: Any) -> None:
    oracle = Oracle(folder)
    theirs = {("longest" if name == "max_answer_tokens" else name): value for name, value in options.items()}
    for context in CONTEXTS:
        expected = oracle.answers(QUESTION, context, top_k=MANY, **theirs)
        found = model.answer(QUESTION, context, top_k=MANY, **({"stride": 10} | options))
        assert_same(found, expected, context)
        best = model.answer(QUESTION, context, **({"stride": 10} | options))
        assert best.others == ()


def test_long_contexts_are_read_in_windows_or_cut_or_refused(model: Encoder, folder: Path) -> None:
    context = CONTEXT + " and a quick dog" * 20
    expected = Oracle(folder).answers(QUESTION, context, top_k=MANY)
    assert_same(model.answer(QUESTION, context, top_k=MANY, stride=10), expected, context)
    seen: list[tuple[int, int, int]] = []
    found = model.answer(QUESTION, context, truncation=True, progress=lambda *so_far: seen.append(so_far))
    assert (seen[-1][0], seen[-1][2]) == (1, 1)
    first = model.tokenizer.windows((QUESTION, context))[0]
    assert found == model.answer(QUESTION, context[: first.offsets[first.parts == 1].max()])
    with pytest.raises(InputError, match="text 0 has .* tokens, the model takes 48"):
        model.answer(QUESTION, context, truncation=False)


def test_every_way_of_giving_questions_and_contexts_is_understood(model: Encoder) -> None:
    alone = [model.answer(QUESTION, context) for context in CONTEXTS]
    assert model.answer(QUESTION, CONTEXTS) == alone
    assert model.answer([QUESTION] * 5, CONTEXTS) == alone
    assert model.answer([QUESTION] * 5, CONTEXT) == alone[:1] * 5
    assert list(model.answer(QUESTION, iter(CONTEXTS))) == alone
    assert list(model.answer(iter([QUESTION] * 5), CONTEXTS)) == alone
    assert list(model.answer(iter([QUESTION] * 5), iter(CONTEXTS))) == alone
    assert model.answer(QUESTION, []) == []

    def endless() -> Iterator[str]:
        while True:
            yield CONTEXT

    assert next(model.answer(QUESTION, endless())) == alone[0]


@pytest.mark.parametrize(
    ("question", "context", "message"),
    [
        (3, "a", "question is 3; pass a string, a list"),
        ("a", None, "context is None; pass a string, a list"),
        (["a", "b"], ["c"], "there are 2 questions and 1 contexts; give as many of both, or one"),
        (["a", 3], "c", "question 1 is 3; it must be a string"),
        ("a", [b"c"], "context 0 is b'c'; it must be a string"),
        ("a " * 50, "c", "max_length=48 leaves no room for a text beside the .* tokens that a pair's other half"),
    ],
)
def test_what_is_no_question_is_refused(model: Encoder, question: Any, context: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.answer(question, context)


def test_streams_of_different_lengths_are_refused_in_the_end(model: Encoder) -> None:
    for questions, contexts, message in (
        (["a", "b"], ["c"], "question 1 has no context"),
        (["a"], ["c", "d"], "there are more contexts than questions"),
    ):
        stream = model.answer(iter(questions), iter(contexts))
        next(stream)
        with pytest.raises(InputError, match=message):
            next(stream)


def test_a_context_without_tokens_has_no_answer(model: Encoder) -> None:
    assert model.answer(QUESTION, "") == model.answer(QUESTION, "  ") == Answer("", 0.0, 0, 0)
    assert model.answer(QUESTION, "  ", impossible=True).text == ""
    assert model.answer(QUESTION, "", impossible=True) == Answer("", 1.0, 0, 0)


def test_the_usual_window_is_the_models_own_where_it_has_one(folder: Path) -> None:
    model = Encoder.from_pretrained(folder, max_length=20)
    usual, same, other = (
        model.answer(QUESTION, CONTEXT * 3, stride=3, top_k=9, **options)
        for options in ({}, {"max_length": 20}, {"max_length": 48})
    )
    assert usual == same != other


def test_pieces_worked_out_by_hand() -> None:
    starts, ends = np.array([0.5, 0.25, 0.25]), np.array([0.125, 0.25, 0.5])
    assert best_pieces(starts, ends, 3, 3) == [(0, 2, 0.25), (2, 2, 0.125), (0, 1, 0.125)]
    assert best_pieces(starts, ends, 1, 9) == [(2, 2, 0.125), (0, 0, 0.0625), (1, 1, 0.0625)]
    assert best_pieces(starts[:0], ends[:0], 3, 3) == []


def test_of_equal_pieces_the_shorter_and_then_the_earlier_comes_first() -> None:
    draw = np.random.default_rng(7)
    for _ in range(50):
        starts, ends = draw.integers(1, 4, 30) / 4, draw.integers(1, 4, 30) / 4
        every = [(a, b, starts[a] * ends[b]) for a in range(30) for b in range(a, min(a + 9, 30))]
        every.sort(key=lambda piece: (-piece[2], piece[1] - piece[0], piece[0]))
        for count in (1, 5, 1000):
            assert best_pieces(starts, ends, 9, count) == every[:count]


def test_a_checkpoint_without_the_head_answers_nothing(minilm: Path) -> None:
    with pytest.raises(TaskError, match="can't answer: it has no question answering head"):
        Encoder.from_pretrained(minilm).answer("a", "b")
