"""A stream is lazy, and takes the memory of a batch however long it is."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bothways import Encoder

WORDS = "some words that make a text of middling length "

#: Passes over a stream of 3,000 texts and one of 15,000, and prints by how many KiB the second's peaks were higher: of
#: what Python allocates (arrays too), and of the whole process.
MEASURE = """
import re, sys, tracemalloc
from pathlib import Path
from bothways import Encoder
folder, method, kind = sys.argv[1:]
model = Encoder.from_pretrained(folder, threads=2)
options = {"truncation": "window"} if kind == "window" else {}
text = "some words that make a text of middling length " * (20 if kind == "window" else 2)

def peaks(texts):
    count = 0
    tracemalloc.reset_peak()
    for _ in getattr(model, method)((f"{n} {text}" for n in range(texts)), **options):
        count += 1
    assert count == texts
    # Not getrusage: its peak is inherited from the process that started this one.
    process = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
    return tracemalloc.get_traced_memory()[1] // 1024, process

tracemalloc.start()
few, many = peaks(3_000), peaks(15_000)
print(many[0] - few[0], many[1] - few[1])
"""


@pytest.fixture(params=["embed", "encode"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counted(read: list[int]) -> Iterator[str]:
    """Texts without end, noting how many were taken."""
    for n in itertools.count():
        read.append(n)
        yield f"{WORDS}{n}"


def test_nothing_is_read_before_the_first_result_is_asked_for(encoder: Encoder, method: str) -> None:
    read: list[int] = []
    results = getattr(encoder, method)(counted(read))
    assert isinstance(results, Iterator)
    assert read == []


def test_an_endless_stream_gives_results_and_is_read_a_bounded_way_ahead(
    load: Callable[..., Encoder], bert_folder: Path, method: str
) -> None:
    read: list[int] = []
    results = getattr(load(bert_folder, batch_tokens=100), method)(counted(read))
    for done in range(1, 2001):
        next(results)
        assert len(read) - done <= 6 * 256
    results.close()
    stopped = len(read)
    assert len(read) == stopped


def test_a_stream_gives_the_bits_of_a_list(encoder: Encoder) -> None:
    texts = [f"{WORDS}{n}" for n in range(40)]
    np.testing.assert_array_equal(np.stack(list(encoder.embed(iter(texts)))), encoder.embed(texts))


@pytest.mark.parametrize(("method", "kind"), [("embed", "texts"), ("embed", "window"), ("encode", "texts")])
def test_memory_does_not_grow_with_the_stream(bert_folder: Path, method: str, kind: str) -> None:
    pytest.importorskip("bothways._native", reason="the native engine is not built")
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is measured as Linux tells it")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(bert_folder), method, kind],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    allocated, process = map(int, done.stdout.split())
    # Were the ids of the 12,000 texts more kept, Python would hold some 7 MiB more, were the tokens' places kept too,
    # the process some 60. Allocators, which each thread has its own of, make the process's peak wander by 10.
    assert allocated < 2 * 1024
    assert process < 24 * 1024
