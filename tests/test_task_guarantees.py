"""What every task with a head promises: the same bits at any level's batch and thread count, bounded reading ahead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from task_checkpoints import TEXTS, save_task

from bothways import Encoder

NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}

#: Task: its head, what makes the checkpoint, and how a stream of texts goes through it.
TASKS: dict[str, tuple[str, dict[str, Any], Callable[[Encoder, Any], Any]]] = {
    "classify": ("classification", {"id2label": NLI}, lambda model, texts: model.classify(texts, top_k=None)),
    "zero_shot": ("classification", {"id2label": NLI}, lambda model, texts: model.zero_shot(texts, "a, b, c")),
    "tag": ("token_classification", {"num_labels": 5}, lambda model, texts: model.tag(texts, ignore_labels=[])),
    "fill_mask": ("masked_lm", {}, lambda model, texts: model.fill_mask(f"{text} [MASK]" for text in texts)),
    "answer": ("question_answering", {}, lambda model, texts: model.answer("who?", iter(texts), top_k=3)),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    head, config, run = TASKS[request.param]
    return save_task(tmp_path_factory.mktemp(request.param), "bert", head, **config), run


def short_texts() -> list[str]:
    return [text for text in TEXTS if len(text) < 60] + ["the dog " * 3]


def test_every_way_of_computing_a_text_gives_the_same_bits(level: str, task: tuple[Path, Any]) -> None:
    folder, run = task
    texts = short_texts()
    model = Encoder.from_pretrained(folder, threads=1)
    assert model.engine.level == level
    alone = [next(iter(run(model, iter([text])))) for text in texts]
    assert list(run(model, iter(texts * 3))) == alone * 3
    for options in ({"threads": 2}, {"threads": 2, "batch_tokens": 1}, {"threads": 1, "batch_tokens": 30}):
        assert list(run(Encoder.from_pretrained(folder, **options), iter(texts[::-1]))) == alone[::-1]


def test_many_threads_may_use_one_model(task: tuple[Path, Any]) -> None:
    folder, run = task
    texts = short_texts()
    model = Encoder.from_pretrained(folder, threads=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: list(run(model, iter(texts))), range(8)))
    assert all(results == found[0] for results in found)


def test_an_endless_stream_is_read_a_bounded_way_ahead_and_not_before_it_is_asked_for(task: tuple[Path, Any]) -> None:
    folder, run = task
    read: list[int] = []

    def texts() -> Iterator[str]:
        for n in itertools.count():
            read.append(n)
            yield f"the quick brown fox {n}"

    results = run(Encoder.from_pretrained(folder, threads=1), texts())
    assert isinstance(results, Iterator)
    assert read == []
    for n in range(3000):
        next(results)
        assert len(read) < n + 4000
    results.close()  # type: ignore[attr-defined]


def test_what_came_before_a_failure_is_worked_off(task: tuple[Path, Any]) -> None:
    folder, run = task

    def texts() -> Iterator[str]:
        yield from ["the fox", "the dog"]
        raise OSError("the disk is gone")

    results = run(Encoder.from_pretrained(folder), texts())
    assert next(results)
    assert next(results)
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
