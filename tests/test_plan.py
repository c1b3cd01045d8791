"""Plans: every task's, carried out by hand in strange company, and what `carry_out` promises for any."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from late_checkpoints import save_pylate
from task_checkpoints import TEXTS, save_task

from bothways import Encoder
from bothways.errors import InputError, TaskError
from bothways.tasks.plan import Computed, Plan, carry_out
from bothways.tokens import Sequence

LoadEncoder = Callable[..., Encoder]
Call = tuple[Plan[Any, Any], list[Any]]

LONG = "the lazy dog said: " * 9
PAIRS = [("who?", text) for text in [*TEXTS, LONG]]
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}


def by_hand(calls: list[Call], source: random.Random) -> list[list[Any]]:
    """Every call's results, where the sequences of all calls of a group are computed at once in any order."""
    texts = [plan.tokenize(texts, 0) for plan, texts in calls]
    places: dict[Any, list[tuple[int, int, int]]] = defaultdict(list)
    for call, groups in enumerate(texts):
        for text, group in enumerate(groups):
            places[calls[call][0].group] += [(call, text, n) for n in range(len(group))]
    rows: dict[tuple[int, int, int], Any] = {}
    for own in places.values():
        source.shuffle(own)
        computed = calls[own[0][0]][0].compute([texts[call][text][n] for call, text, n in own])
        rows |= {place: computed[n] for n, place in enumerate(own)}
    return [
        plan.finish(
            [
                Computed(number, given[number], group, [rows[call, number, n] for n in range(len(group))])
                for number, group in enumerate(texts[call])
            ]
        )
        for call, (plan, given) in enumerate(calls)
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same bits."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        names = [field.name for field in fields(one) if not field.name.startswith("_")]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    return type(one) is type(other) and bool(one == other)


def masked(texts: list[str]) -> list[str]:
    return [f"[MASK] {text} [MASK]"[:60] + " [MASK]" for text in texts]


def ranked(model: Encoder, documents: list[str], **options: Any) -> list[float]:
    return [found.score for found in sorted(model.rerank(documents=documents, **options), key=lambda item: item.index)]


def answered(model: Encoder, pairs: list[tuple[str, str]], **options: Any) -> Any:
    return model.answer([question for question, _ in pairs], [context for _, context in pairs], **options)


#: Case: head, what makes the checkpoint, task, texts, options of calls, how its method is called if not by its name.
CASES: dict[str, tuple[str, dict[str, Any], str, list[Any], list[dict[str, Any]], Any]] = {
    "dense": (
        "masked_lm",
        {},
        "embed",
        [*TEXTS, LONG],
        [
            {},
            {"dimensions": 5, "normalize": True},
            {"truncation": "window", "max_length": 8},
            {"prompt": "a dog: "},
            {"precision": "ubinary"},
            {"precision": "int8", "ranges": [[-1] * 12, [1] * 12]},
            {"pooling": "cls"},
            {"pooling": ["max", "lasttoken"], "normalize": True},
        ],
        None,
    ),
    "sparse": ("masked_lm", {}, "embed", [*TEXTS, LONG], [{"sparse": True}, {"sparse": True, "prompt": "a "}], None),
    "tokens": (
        "masked_lm",
        {},
        "embed",
        [*TEXTS, LONG],
        [{"tokens": True}, {"tokens": True, "max_length": 9}, {"tokens": True, "normalize": True}],
        None,
    ),
    "encode": (
        "masked_lm",
        {},
        "encode",
        [*TEXTS, *PAIRS],
        [{}, {"max_length": 7}, {"hidden_states": True, "attentions": True}],
        lambda model, texts, **options: list(model.encode(texts, **options).texts),
    ),
    "classify": (
        "classification",
        {"id2label": NLI},
        "classify",
        [*TEXTS, *PAIRS],
        [{}, {"top_k": None}, {"max_length": 9}],
        None,
    ),
    "rerank": (
        "classification",
        {"num_labels": 1},
        "rerank",
        [*TEXTS, LONG],
        [{"query": "who?"}, {"query": "a fox", "raw_scores": True}, {"query": "", "top_k": None, "max_length": 20}],
        ranked,
    ),
    "zero_shot": (
        "classification",
        {"id2label": NLI},
        "zero_shot",
        [*TEXTS, LONG],
        [{"labels": "fox, dog"}, {"labels": ["a", "b", "c"], "multi_label": True, "template": "{}!"}],
        None,
    ),
    "tag": (
        "token_classification",
        {"num_labels": 5},
        "tag",
        [*TEXTS, LONG, ("the", "fox", "said")],
        [{}, {"aggregation": "none", "max_length": 9}, {"truncation": True, "ignore_labels": []}],
        None,
    ),
    "fill_mask": (
        "masked_lm",
        {},
        "fill_mask",
        masked(TEXTS),
        [{}, {"top_k": 2}, {"top_k": 5, "max_length": 40}, {"targets": ["fox", "dog"]}],
        None,
    ),
    "answer": (
        "question_answering",
        {},
        "answer",
        PAIRS,
        [{}, {"top_k": 3, "max_length": 14}, {"impossible": True, "truncation": True}],
        answered,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_plans_carried_out_by_hand_give_the_methods_bits(load: LoadEncoder, tmp_path: Path, case: str) -> None:
    head, config, task, texts, options, method = CASES[case]
    model = load(save_task(tmp_path, "bert", head, **config))
    method = method or (lambda model, texts, **own: getattr(model, task)(texts, **own))
    expected = [list(method(model, texts, **own)) for own in options]
    plans = [model.plan(task, **own) for own in options]
    assert len({plan.group for plan in plans}) < len(plans)
    for seed in range(2):
        assert same(by_hand([(plan, texts) for plan in plans], random.Random(seed)), expected)
    for plan, results in zip(plans, expected, strict=True):
        assert same(list(carry_out(plan, iter(texts), batch_tokens=20)), results)


def test_queries_and_documents_share_batches(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_pylate(tmp_path, skiplist_words=[]))
    plans = [model.plan("embed", tokens=True, prompt_name=side) for side in ("query", "document")]
    assert plans[0].group == plans[1].group
    expected = [model.embed(TEXTS, tokens=True, prompt_name=side) for side in ("query", "document")]
    assert same(by_hand([(plan, TEXTS) for plan in plans], random.Random(0)), expected)


def test_tasks_of_one_head_share_batches(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_task(tmp_path, "bert", "classification", id2label=NLI))
    calls = [(model.plan("classify"), TEXTS), (model.plan("zero_shot", labels="a, b"), TEXTS)]
    assert calls[0][0].group == calls[1][0].group
    assert by_hand(calls, random.Random(0)) == [model.classify(TEXTS), model.zero_shot(TEXTS, "a, b")]


def test_what_is_computed_otherwise_has_another_group(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_task(tmp_path, "bert", "masked_lm"))
    plans = [
        model.plan("embed", pooling="cls"),
        model.plan("embed", pooling="max"),
        model.plan("embed", sparse=True),
        model.plan("embed", tokens=True),
        model.plan("embed", tokens=True, normalize=True),
        model.plan("encode"),
        model.plan("encode", attentions=True),
        model.plan("encode", hidden_states=True),
        model.plan("fill_mask"),
        model.plan("fill_mask", top_k=1),
        model.plan("fill_mask", targets="fox"),
    ]
    assert len({plan.group for plan in plans}) == len(plans)


def test_unknown_tasks_and_options_are_errors_that_name_the_known(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_task(tmp_path, "bert", "classification", id2label=NLI))
    for task in ("similarity", "", None, ["embed"]):
        with pytest.raises(InputError, match="task is .*; use encode, embed, classify, tag, fill_mask, answer, rerank"):
            model.plan(task)  # type: ignore[arg-type]
    known = "top_k, function, truncation, max_length"
    with pytest.raises(InputError, match=f"classify has no option topk, size; it has {known}"):
        model.plan("classify", topk=3, size=1)
    for name in ("texts", "progress", "self"):
        with pytest.raises(InputError, match=f"embed has no option {name}; it has sparse, tokens, pooling"):
            model.plan("embed", **{name: None})
    with pytest.raises(InputError, match=r"zero_shot needs labels; pass labels=\.\.\."):
        model.plan("zero_shot")
    with pytest.raises(InputError, match="top_k is 0; it must be a whole number"):
        model.plan("classify", top_k=0)
    with pytest.raises(InputError, match=r"truncation is 'window'; use True, False \(too long"):
        model.plan("classify", truncation="window")
    with pytest.raises(InputError, match=r"precision 'int8' takes its ranges from all .*; pass ranges=\(2, D\)"):
        model.plan("embed", precision="int8")
    with pytest.raises(TaskError, match="this checkpoint can't tag: it has no token classification head"):
        model.plan("tag")


def test_a_reranker_needs_its_query(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_task(tmp_path, "bert", "classification", num_labels=1))
    with pytest.raises(InputError, match=r"rerank needs query; pass query=\.\.\."):
        model.plan("rerank")
    with pytest.raises(InputError, match="top_k is 'all'; it must be a whole number"):
        model.plan("rerank", query="who?", top_k="all")


@pytest.mark.parametrize("case", CASES)
def test_a_text_that_is_too_long_fails_when_it_is_tokenized(load: LoadEncoder, tmp_path: Path, case: str) -> None:
    head, config, task, texts, options, _ = CASES[case]
    model = load(save_task(tmp_path, "bert", head, **config))
    plan = model.plan(task, **{**options[0], "truncation": False})
    short, long = ("a", "[MASK] " * 60) if task == "fill_mask" else ("who?", "the dog " * 40)
    short = "[MASK]" if task == "fill_mask" else short
    given: list[Any] = [("who?", short), ("who?", long)] if task == "answer" else [short, long]
    assert len(plan.tokenize(given[:1], 6)) == 1
    with pytest.raises(InputError, match=r"text 7 has \d+ tokens, the model takes 48; pass truncation=True"):
        plan.tokenize(given, 6)


def test_many_threads_may_use_one_plan(load: LoadEncoder, tmp_path: Path) -> None:
    model = load(save_task(tmp_path, "bert", "token_classification", num_labels=5))
    texts = [*TEXTS, LONG] * 5
    plan, expected = model.plan("tag", max_length=12), model.tag(texts, max_length=12)

    def run(seed: int) -> list[Any]:
        return by_hand([(plan, texts)], random.Random(seed))[0]

    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(run, range(12)))


# A text is a number: so many sequences of as many tokens, and its result their sum.


def numbers(**changed: Any) -> Plan[int, int]:
    def tokenize(texts: list[int], first: int) -> list[list[Sequence]]:
        return [[Sequence(np.full(n, n, np.int32), np.zeros(n, np.int32)) for _ in range(n)] for n in texts]

    def finish(texts: list[Computed[int]]) -> list[int]:
        for text in texts:
            if text.text == 13:
                raise ValueError(f"text {text.number} is unlucky")
        return [sum(text.rows) for text in texts]

    def compute(sequences: list[Sequence]) -> list[int]:
        return [len(sequence) for sequence in sequences]

    return Plan(tokenize, compute, finish, "numbers", 99, **{"weight": lambda n: n * n, **changed})


@pytest.mark.parametrize("batch_tokens", [1, 7, 100, 100_000])
def test_a_text_may_have_many_sequences(batch_tokens: int) -> None:
    texts = [n % 12 + 1 for n in range(700)]
    assert list(carry_out(numbers(), iter(texts), batch_tokens=batch_tokens)) == [n * n for n in texts]
    assert list(carry_out(numbers(), [])) == []


def test_a_text_that_can_not_be_finished_surfaces_after_the_results_before_it() -> None:
    results = carry_out(numbers(), [2, 3, 13, 4])
    assert [next(results), next(results)] == [4, 9]
    with pytest.raises(ValueError, match="text 2 is unlucky"):
        next(results)


def test_progress_counts_texts_when_their_last_sequence_is_computed() -> None:
    told: list[tuple[int, int, int]] = []
    list(carry_out(numbers(), [3, 2], batch_tokens=6, progress=lambda *counts: told.append(counts)))
    assert told == [(0, 6, 0), (1, 11, 0), (2, 13, 0)]


def test_heavy_texts_are_not_tokenized_far_ahead() -> None:
    read: list[int] = []

    def texts() -> Iterator[int]:
        for _ in range(1000):
            read.append(5)
            yield 5

    results = carry_out(numbers(weight=lambda n: 10_000), texts(), batch_tokens=10)
    next(results)
    assert len(read) <= 6 * 4


def test_one_plan_may_be_carried_out_many_times_at_once() -> None:
    plan = numbers()
    texts = [n % 12 + 1 for n in range(50)]
    first, second = (carry_out(plan, iter(texts), batch_tokens=9) for _ in range(2))
    assert list(zip(first, second, strict=True)) == [(n * n, n * n) for n in texts]


def test_then_and_taking_change_results_and_texts() -> None:
    plan = numbers().taking(lambda text: int(text)).then(str)
    assert list(carry_out(plan, ["2", "3"])) == ["4", "9"]
    assert plan.weight("3") == 9
