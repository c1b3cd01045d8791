"""The moving belt: order, bounded reading ahead, failures in their place, memory that runs out, threads and forks."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bothways import stream
from bothways.errors import InputError, OutOfMemory
from bothways.tokens import Sequence, Text


def tokenize(texts: list[Text], first: int) -> list[Sequence]:
    """A text is a number; its sequence is that many tokens of that id."""
    return [Sequence(np.full(int(text), int(text), np.int32), np.zeros(int(text), np.int32)) for text in texts]


def numbers(sequences: list[Sequence]) -> list[int]:
    return [int(sequence.ids[0]) for sequence in sequences]


def run(
    texts: Iterator[str], compute: Callable[[list[Sequence]], list[int]] = numbers, **options: int
) -> Iterator[int]:
    for sequences, results in stream.run(texts, tokenize, compute, **options):
        assert len(sequences) == len(results)
        yield from results


def endless() -> Iterator[str]:
    return (str(n % 50 + 1) for n in itertools.count())


def tokenizing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("bothways-tokenize")]


@pytest.mark.parametrize("count", [0, 1, 7, 255, 256, 257, 1000, 5000])
def test_results_come_back_in_input_order(count: int) -> None:
    texts = [str(n % 97 + 1) for n in range(count)]
    assert list(run(iter(texts), batch_tokens=300)) == [int(text) for text in texts]


def test_the_number_of_the_first_text_is_passed_to_the_tokenizer() -> None:
    firsts = []

    def noting(texts: list[Text], first: int) -> list[Sequence]:
        firsts.append((first, len(texts)))
        return tokenize(texts, first)

    list(stream.run(iter(["1"] * 700), noting, numbers))
    assert firsts == [(0, 256), (256, 256), (512, 188)]


def test_reading_ahead_is_bounded() -> None:
    read = itertools.count()
    texts = (str(n % 50 + 1) for n in read)
    results = run(texts, batch_tokens=100)
    next(results)
    assert next(read) <= 256 * 5


def test_long_texts_are_read_fewer_ahead() -> None:
    read = itertools.count()
    texts = (str(n % 50 + 1) for n in read)
    results = stream.run(texts, tokenize, numbers, batch_tokens=1, weight=lambda text: 200_000)
    next(results)
    assert next(read) <= 4


def test_few_texts_need_no_thread() -> None:
    seen = []

    def noting(texts: list[Text], first: int) -> list[Sequence]:
        seen.append(threading.current_thread())
        return tokenize(texts, first)

    list(stream.run(["1", "2", "3"], noting, numbers))
    assert seen == [threading.current_thread()]


def test_texts_are_read_in_the_callers_thread_and_tokenized_in_another() -> None:
    readers, tokenizers = set(), set()

    def texts() -> Iterator[str]:
        for _ in range(1000):
            readers.add(threading.get_ident())
            yield "1"

    def noting(chunk: list[Text], first: int) -> list[Sequence]:
        tokenizers.add(threading.get_ident())
        return tokenize(chunk, first)

    list(stream.run(texts(), noting, numbers))
    assert readers == {threading.get_ident()}
    assert threading.get_ident() not in tokenizers


def test_closing_early_stops_the_thread() -> None:
    results = run(endless())
    next(results)
    assert tokenizing_threads()
    results.close()
    assert not tokenizing_threads()


@pytest.mark.parametrize("before", [0, 3, 300, 2000])
def test_a_failing_source_surfaces_after_the_results_before_it(before: int) -> None:
    def texts() -> Iterator[str]:
        yield from ["2"] * before
        raise OSError("the disk is gone")

    assert_delivered(run(texts(), batch_tokens=64), before, OSError, "the disk is gone")


@pytest.mark.parametrize("before", [0, 3, 300, 2000])
def test_a_text_that_can_not_be_tokenized_surfaces_after_the_results_before_it(before: int) -> None:
    texts = ["2"] * before + ["two"] + ["2"] * 2000
    assert_delivered(run(iter(texts), batch_tokens=64), before, ValueError, "two")


def assert_delivered(results: Iterator[int], count: int, error: type[Exception], message: str) -> None:
    delivered = 0
    with pytest.raises(error, match=message):
        for _ in results:
            delivered += 1
    assert delivered == count


def test_of_two_failures_the_earlier_texts_is_raised() -> None:
    def texts() -> Iterator[str]:
        yield from ["2"] * 300 + ["two"] + ["2"] * 300
        raise OSError("the disk is gone")

    with pytest.raises(ValueError, match="two"):
        list(run(texts()))


def test_a_batch_that_does_not_fit_in_memory_is_halved() -> None:
    sizes = []

    def compute(sequences: list[Sequence]) -> list[int]:
        sizes.append(sum(map(len, sequences)))
        if sizes[-1] > 30:
            raise MemoryError
        return numbers(sequences)

    texts = [str(n % 9 + 1) for n in range(60)]
    assert list(run(iter(texts), compute)) == [int(text) for text in texts]
    assert max(sizes) > 30


def test_a_sequence_that_does_not_fit_alone_is_an_error_with_its_size() -> None:
    def compute(sequences: list[Sequence]) -> list[int]:
        raise MemoryError

    with pytest.raises(OutOfMemory, match="a sequence of 12 tokens does not fit in memory; pass a smaller max_length"):
        list(run(iter(["12", "12"]), compute))


def test_tokenizing_runs_while_a_batch_is_computed() -> None:
    tokenized = threading.Event()

    def noting(texts: list[Text], first: int) -> list[Sequence]:
        if first >= 512:
            tokenized.set()
        return tokenize(texts, first)

    def compute(sequences: list[Sequence]) -> list[int]:
        assert tokenized.wait(30), "the third chunk was not tokenized while the first was computed"
        return numbers(sequences)

    list(stream.run(iter(["1"] * 2000), noting, compute, batch_tokens=8))


def test_several_threads_may_run_at_once() -> None:
    texts = [str(n % 97 + 1) for n in range(2000)]
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(list(run(iter(texts))))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[int(text) for text in texts]] * 8


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_can_run_while_the_parent_does() -> None:
    results = run(endless())
    next(results)
    child = os.fork()
    if child == 0:
        texts = [str(n % 97 + 1) for n in range(2000)]
        os._exit(0 if list(run(iter(texts))) == [int(text) for text in texts] else 1)
    assert exit_status(child) == 0
    results.close()


def exit_status(child: int, seconds: float = 30) -> int:
    for _ in range(int(seconds * 100)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the forked child hangs")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_stream_begun_before_a_fork_is_an_error_in_the_child() -> None:
    results = run(endless(), batch_tokens=40)
    next(results)
    child = os.fork()
    if child == 0:
        try:
            list(results)
        except InputError as error:
            os._exit(0 if "begun before a fork; begin a new one in the child" in str(error) else 1)
        os._exit(2)
    assert exit_status(child) == 0
    assert len(list(itertools.islice(results, 2000))) == 2000
    results.close()
