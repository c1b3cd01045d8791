"""The scheduler's threads: they die, are started again, and stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_plans import PATIENCE, Run, making_runs, one_each, right

from bothways.server.jobs import Job


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    with making_runs(monkeypatch) as make:
        yield make


def deadly(run: Run, deaths: int, word: str = "deadly") -> Any:
    """A compute that ends its thread so many times when it sees a word."""
    left = [deaths]

    def compute(sequences: list[Any]) -> list[Any]:
        if left[0] and any(word in sequence.value for sequence in sequences):
            left[0] -= 1
            raise SystemExit("the thread is to end")
        return run.compute(sequences)

    return compute


def revive(run: Run) -> None:
    run.gate.set()
    run.wait_until(lambda: not run.scheduler.alive)
    run.scheduler.start()


def test_a_dead_engine_thread_is_started_again(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = make()
    job = run.submit(run.plan(compute=deadly(run, 1)), one_each(3, "deadly "))
    run.wait_until(lambda: not run.scheduler.alive)
    assert "an engine thread died" in caplog.text
    assert not run.ended[job].is_set()
    revive(run)
    run.wait(job)
    right(job, one_each(3, "deadly "))
    assert run.scheduler.alive
    assert run.scheduler.deaths == 1


def test_a_job_that_two_threads_died_of_is_given_up(make: Any) -> None:
    run = make()
    job = run.submit(run.plan(compute=deadly(run, 2)), one_each(3, "deadly "))
    revive(run)
    revive(run)
    run.wait(job)
    assert isinstance(job.error, RuntimeError)
    assert "died twice" in str(job.error)
    after = run.submit(run.plan(), one_each(1))
    run.wait(after)
    right(after, one_each(1))


def test_who_shared_a_batch_with_a_deadly_job_lives(make: Any) -> None:
    run = make()
    run.shut()
    plan = run.plan(compute=deadly(run, 2))
    names = ["first ", "deadly ", "last "]
    jobs = [run.submit(plan, one_each(2, name)) for name in names]
    revive(run)
    revive(run)
    run.wait(*jobs)
    assert isinstance(jobs[1].error, RuntimeError)
    right(jobs[0], one_each(2, names[0]))
    right(jobs[2], one_each(2, names[2]))


def test_a_large_job_goes_on_where_a_thread_died(make: Any) -> None:
    run = make()
    groups = [*one_each(1000), *one_each(1, "deadly "), *one_each(1000)]
    job = run.submit(run.plan(compute=deadly(run, 1)), groups)
    revive(run)
    run.wait(job)
    right(job, groups)
    # Only one batch was computed again.
    assert sum(map(len, run.seen)) == 2001


def test_a_thread_that_dies_while_jobs_are_tried_one_by_one(make: Any) -> None:
    run = make()
    run.shut()
    kill = deadly(run, 1)

    def compute(sequences: list[Any]) -> list[Any]:
        if any("bad" in sequence.value for sequence in sequences):
            raise ValueError("bad")
        return kill(sequences)  # type: ignore[no-any-return]

    plan = run.plan(compute=compute)
    good, bad, last = (run.submit(plan, one_each(1, name)) for name in ("good ", "bad ", "deadly "))
    revive(run)
    run.wait(good, bad, last)
    right(good, one_each(1, "good "))
    assert isinstance(bad.error, ValueError)
    right(last, one_each(1, "deadly "))


@pytest.mark.parametrize("others", [0, 40], ids=["engine", "results"])
def test_a_thread_that_dies_while_results_are_made(make: Any, others: int) -> None:
    run = make()
    run.shut()
    first = [True]

    def finish(texts: list[Any]) -> list[Any]:
        if first:
            first.clear()
            raise SystemExit("the thread is to end")
        return run.finish(texts)  # type: ignore[no-any-return]

    deadly = run.submit(run.plan(finish=finish), one_each(1))
    # While others wait, results are made in the other thread.
    jobs = [run.submit(run.plan(group=n), one_each(1)) for n in range(others)]
    revive(run)
    run.wait(deadly, *jobs)
    assert isinstance(deadly.error, RuntimeError)
    assert "died" in str(deadly.error)
    for job in jobs:
        right(job, one_each(1))


def test_dropped_jobs_are_not_tried_again(make: Any) -> None:
    run = make()
    job = run.submit(run.plan(compute=deadly(run, 9)), one_each(3, "deadly "))
    run.wait_until(lambda: not run.scheduler.alive)
    job.dropped = True
    revive(run)
    after = run.submit(run.plan(), one_each(1))
    run.wait(after)
    assert run.scheduler.deaths == 1


def stopped(run: Run) -> None:
    """Stop in a thread of its own, as it may hang."""
    thread = threading.Thread(target=run.scheduler.stop)
    thread.start()
    run.gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "stop() hangs"
    assert not any(thread.is_alive() for thread in run.scheduler._threads.values())


def test_stop_ends_what_is_computed_and_nothing_more(make: Any) -> None:
    run = make()
    running = run.shut()
    waiting = run.submit(run.plan(), one_each(3))
    run.scheduler._stopping = True
    stopped(run)
    assert run.ended[running].is_set()
    assert not run.ended[waiting].is_set()
    assert not run.seen


def test_stop_when_idle_and_twice(make: Any) -> None:
    run = make()
    stopped(run)
    stopped(run)


def test_stop_when_a_thread_is_dead(make: Any) -> None:
    run = make()
    run.submit(run.plan(compute=deadly(run, 9)), one_each(3, "deadly "))
    run.wait_until(lambda: not run.scheduler.alive)
    stopped(run)


def test_stop_when_the_thread_that_makes_results_is_dead(make: Any) -> None:
    run = make()
    run.shut()

    def finish(texts: list[Any]) -> list[Any]:
        raise SystemExit("the thread is to end")

    run.submit(run.plan(finish=finish), one_each(1))
    jobs: list[Job] = [run.submit(run.plan(group=n), one_each(1)) for n in range(40)]
    run.gate.set()
    run.wait_until(lambda: not run.scheduler.alive)
    # The engine thread has filled what lies between the two, and waits.
    run.wait_until(lambda: run.scheduler._computed.qsize() >= 3)
    stopped(run)
    assert not all(run.ended[job].is_set() for job in jobs)


def test_a_panic_in_finish_is_one_request_s_own_failure(make: Any) -> None:
    class PanicException(BaseException):  # as those of tokenizers' Rust code
        pass

    run = make()
    run.shut()
    plan = run.plan()

    def finish(texts: list[Any]) -> list[Any]:
        if any("bad" in str(text.rows) for text in texts):
            raise PanicException("a fault in Rust")
        return [text.rows for text in texts]

    plan = run.plan(finish=finish)
    jobs = [run.submit(plan, one_each(1, name)) for name in ("good ", "bad ", "fine ")]
    run.wait(*jobs)
    assert [type(job.error).__name__ for job in jobs] == ["NoneType", "RuntimeError", "NoneType"]
    assert run.scheduler.alive


def test_too_few_results_are_a_failure_and_nobody_waits_for_the_rest(make: Any) -> None:
    run = make()
    job = run.submit(run.plan(finish=lambda texts: []), one_each(3))
    run.wait(job)
    assert "0 results were made of 3 texts" in str(job.error)
