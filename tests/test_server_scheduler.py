"""The scheduler: whose turn it is, what a batch holds, and what becomes of failures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_plans import Run, Seq, making_runs, one_each, right

from bothways.server.jobs import Job


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    with making_runs(monkeypatch) as make:
        yield make


def test_a_batch_has_as_many_tokens_as_its_budget(make: Any) -> None:
    run = make(batch_tokens=100)
    groups = one_each(57)
    job = run.submit(run.plan(), groups)
    run.wait(job)
    right(job, groups)
    assert max(map(len, run.seen)) == 10
    assert sum(map(len, run.seen)) == 57


def test_only_a_batch_s_last_sequence_goes_past_its_budget(make: Any) -> None:
    run = make(batch_tokens=100)
    run.shut()
    draw = random.Random(5)
    plan = run.plan()
    lengths = [[draw.randint(1, 150) for _ in range(40)] for _ in range(5)]
    jobs = [run.submit(plan, [[Seq(tokens, tokens)] for tokens in one]) for one in lengths]
    run.wait(*jobs)
    assert sorted(tokens for batch in run.seen for tokens in batch) == sorted(sum(lengths, []))
    for batch in run.seen:
        assert sum(batch) - max(batch) < 100


def test_one_text_beside_ten_thousand_is_done_in_a_batch(make: Any) -> None:
    run = make()
    run.shut()
    large_groups, small_groups = one_each(10_000, "large "), one_each(1, "small ")
    plan = run.plan()
    large, small = run.submit(plan, large_groups), run.submit(plan, small_groups)
    run.wait(small, large)
    right(large, large_groups)
    right(small, small_groups)
    assert run.batches_until(small) == 1
    assert run.batches_until(large) > 100


def test_one_text_that_comes_while_ten_thousand_are_computed(make: Any) -> None:
    run = make()
    small: list[Job] = []

    def compute(sequences: list[Any]) -> list[Any]:
        if len(run.seen) == 5:
            small.append(run.submit(plan, one_each(1, "small ")))
        return run.compute(sequences)  # type: ignore[no-any-return]

    plan = run.plan(compute=compute)
    large = run.submit(plan, one_each(10_000))
    run.wait(large)
    right(small[0], one_each(1, "small "))
    assert next(n for n, values in enumerate(run.seen) if "small 0" in values) in (6, 7)
    right(large, one_each(10_000))


def test_what_comes_beside_ten_thousand_is_computed_alone_every_other_time(make: Any) -> None:
    run = make()
    small: list[Job] = []

    def compute(sequences: list[Any]) -> list[Any]:
        if len(small) < 40:  # in turns for the same lane and for another one
            small.append(run.submit((plan, other)[len(small) % 2], one_each(1, f"small {len(small)} ")))
        return run.compute(sequences)  # type: ignore[no-any-return]

    plan, other = run.plan(compute=compute), run.plan(compute=compute, group="other")
    large = run.submit(plan, one_each(10_000))
    run.wait(large, *small)
    right(large, one_each(10_000))
    alone = [all(str(value).startswith("small") for value in batch) for batch in run.seen]
    assert sum(alone) >= 20
    assert not any(a and b for a, b in zip(alone, alone[1:], strict=False)), "two without the large one's turn"


def test_small_jobs_are_not_starved_by_many_large_ones(make: Any) -> None:
    run = make()
    run.shut()
    plan = run.plan()
    large = [run.submit(plan, one_each(300)) for _ in range(50)]
    small = [run.submit(plan, one_each(1)) for _ in range(10)]
    run.wait(*small, *large)
    assert max(map(run.batches_until, small)) <= 2
    for job in large:
        right(job, one_each(300))


def test_large_jobs_are_not_starved_by_small_ones(make: Any) -> None:
    run = make()
    small: list[Job] = []

    def compute(sequences: list[Any]) -> list[Any]:
        # For every batch there are more small jobs than fit into it.
        small.extend(run.submit(plan, one_each(1)) for _ in range(30 if len(small) < 3000 else 0))
        return run.compute(sequences)  # type: ignore[no-any-return]

    plan = run.plan(compute=compute)
    large = [run.submit(plan, one_each(15)) for _ in range(2)]
    run.wait(*large)
    assert len(small) < 3000, "large jobs were done only when no more small ones came"
    for job in large:
        right(job, one_each(15))
    run.wait(*small)


def test_every_request_has_its_turn_in_every_lane(make: Any) -> None:
    run = make(batch_tokens=30)
    run.shut()
    plans = [run.plan(group=n) for n in range(4)]
    jobs = [run.submit(plan, one_each(12, f"{plan.group} ")) for plan in plans]
    run.wait(*jobs)
    for plan, job in zip(plans, jobs, strict=True):
        right(job, one_each(12, f"{plan.group} "))
    for values in run.seen:
        assert len({value.split()[0] for value in values}) == 1, "two lanes were in one batch"
    first = [run.seen.index(next(s for s in run.seen if s[0].startswith(f"{n} "))) for n in range(4)]
    assert first == [0, 1, 2, 3]


def test_windows_of_a_text_may_be_in_several_batches(make: Any) -> None:
    run = make(batch_tokens=30)
    run.shut()
    draw = random.Random(3)
    plan = run.plan()
    cases = [
        [[Seq((j, n, w), draw.randint(1, 40)) for w in range(draw.randint(1, 9))] for n in range(20)] for j in range(5)
    ]
    jobs = [run.submit(plan, groups) for groups in cases]
    run.wait(*jobs)
    for job, groups in zip(jobs, cases, strict=True):
        right(job, groups)


def test_texts_of_one_plan_are_finished_together(make: Any) -> None:
    run = make()
    run.shut()
    same, other = run.plan(), run.plan()
    run.finishes.clear()
    jobs = [run.submit(plan, one_each(1)) for plan in (same, other, same, same)]
    run.wait(*jobs)
    assert len(run.seen) == 1
    run.wait_until(lambda: sum(run.finishes) >= 4)
    assert sorted(run.finishes)[-2:] == [1, 3]


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, MemoryError, StopIteration])
def test_a_job_whose_computing_fails_fails_alone(make: Any, kind: type[Exception]) -> None:
    run = make()
    run.shut()

    def compute(sequences: list[Any]) -> list[Any]:
        if any(sequence.value == "bad 0" for sequence in sequences):
            raise kind("no")
        return run.compute(sequences)  # type: ignore[no-any-return]

    plan = run.plan(compute=compute)
    good = [run.submit(plan, one_each(1, f"good {n} ")) for n in range(3)]
    bad = run.submit(plan, one_each(1, "bad "))
    more = [run.submit(plan, one_each(1, f"more {n} ")) for n in range(3)]
    run.wait(*good, bad, *more)
    assert isinstance(bad.error, kind)
    for n in range(3):
        right(good[n], one_each(1, f"good {n} "))
        right(more[n], one_each(1, f"more {n} "))
    assert run.scheduler.alive


def test_memory_that_is_too_small_for_a_batch_is_no_failure(make: Any) -> None:
    run = make()
    computed = []

    def compute(sequences: list[Any]) -> list[Any]:
        if len(sequences) > 4:
            raise MemoryError
        computed.append(len(sequences))
        return run.compute(sequences)  # type: ignore[no-any-return]

    job = run.submit(run.plan(compute=compute), one_each(50))
    run.wait(job)
    right(job, one_each(50))
    assert max(computed) <= 4


@pytest.mark.parametrize("step", ["finish", "render"])
def test_a_job_whose_results_fail_fails_alone(make: Any, step: str) -> None:
    run = make()
    run.shut()

    def fail(texts: Any) -> Any:
        if "bad" in str(texts):
            raise ValueError("no")
        return run.finish(texts) if step == "finish" else texts

    plan = run.plan(finish=fail) if step == "finish" else run.plan()
    render = fail if step == "render" else None
    names = ["good ", "bad ", "also good "]
    jobs = [run.submit(plan, one_each(1, name), render=render) for name in names]
    run.wait(*jobs)
    assert isinstance(jobs[1].error, ValueError)
    right(jobs[0], one_each(1, names[0]))
    right(jobs[2], one_each(1, names[2]))
    assert run.scheduler.alive


def test_a_batch_that_can_not_be_counted_is_no_failure(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = make()
    run.scheduler._observe = lambda batch: 1 / 0
    job = run.submit(run.plan(), one_each(3))
    run.wait(job)
    right(job, one_each(3))
    assert "could not be counted" in caplog.text


def test_a_dropped_job_is_not_computed(make: Any) -> None:
    run = make()
    run.shut()
    plan = run.plan()
    dropped, other = run.submit(plan, one_each(3, "dropped ")), run.submit(plan, one_each(3, "other "))
    dropped.dropped = True
    run.wait(other)
    right(other, one_each(3, "other "))
    assert not any("dropped" in value for values in run.seen for value in values)
    assert not run.ended[dropped].is_set()
    assert run.scheduler.waiting_tokens == 0


def test_a_job_dropped_between_two_batches_is_computed_no_further(make: Any) -> None:
    run = make()

    def compute(sequences: list[Any]) -> list[Any]:
        if len(run.seen) == 3:
            job.dropped = True
        return run.compute(sequences)  # type: ignore[no-any-return]

    job = run.submit(run.plan(compute=compute), one_each(10_000))
    run.wait_until(lambda: job.dropped)
    after = run.submit(run.plan(), one_each(1))
    run.wait(after)
    assert len(run.seen) == 5
    assert not run.ended[job].is_set()


def test_a_job_dropped_while_a_batch_is_filled(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Fickle(Job):
        looks = 0

        @property
        def dropped(self) -> bool:  # type: ignore[override]
            self.looks += 1
            return self.looks > 1

        @dropped.setter
        def dropped(self, value: bool) -> None:
            pass

    run = make()
    run.submit(run.plan(), one_each(1, "dropped "), kind=Fickle)
    job = run.submit(run.plan(), one_each(1))
    run.wait(job)
    right(job, one_each(1))
    assert run.seen == [["0"]]
    assert not caplog.text


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_from_many_threads(make: Any, seed: int) -> None:
    draw = random.Random(seed)
    run = make(batch_tokens=200)

    def compute(sequences: list[Any]) -> list[Any]:
        if any("bad" in sequence.value for sequence in sequences):
            raise ValueError("bad")
        return run.compute(sequences)  # type: ignore[no-any-return]

    plans = [run.plan(compute=compute, group=n % 2) for n in range(4)]
    cases = []
    for n in range(150):
        name = "bad" if draw.random() < 0.1 else "good"
        texts = draw.choice([1, 1, 2, 5, 80])
        groups = [
            [Seq(f"{name} {n} {t} {w}", draw.randint(1, 30)) for w in range(draw.choice([1, 1, 3]))]
            for t in range(texts)
        ]
        cases.append((name, draw.choice(plans), groups))
    with ThreadPoolExecutor(4) as pool:
        submitted = list(pool.map(lambda case: run.submit(case[1], case[2]), cases))
    run.wait(*submitted)
    for (name, _, groups), job in zip(cases, submitted, strict=True):
        if name == "bad":
            assert isinstance(job.error, ValueError)
        else:
            right(job, groups)
