"""Search and paraphrase mining over vectors, against sentence-transformers and hand-made cases."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bothways import InputError, Pair, Ranked, paraphrase_mining, semantic_search
from bothways.errors import DeviceError


def random(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)


@pytest.mark.parametrize(
    ("queries", "corpus", "dimensions", "top_k"), [(7, 300, 24, 10), (140, 65, 33, 100), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_search_finds_what_sentence_transformers_finds(queries, corpus, dimensions, top_k, score, level):
    import torch
    from sentence_transformers import util

    a, b = random(queries, dimensions), random(corpus, dimensions, 1)
    function = {"cosine": util.cos_sim, "dot": util.dot_score}[score]
    wide = torch.from_numpy(a.astype(np.float64)), torch.from_numpy(b.astype(np.float64))
    expected = util.semantic_search(*wide, top_k=top_k, score_function=function, corpus_chunk_size=50)
    found = semantic_search(a, b, top_k=top_k, score=score)
    assert [[item.index for item in row] for row in found] == [[item["corpus_id"] for item in row] for row in expected]
    scores = np.array([[item["score"] for item in row] for row in expected])
    np.testing.assert_allclose([[item.score for item in row] for row in found], scores, rtol=1e-5, atol=1e-5)


def test_equal_scores_go_by_smaller_index_whatever_the_chunks():
    corpus = [[0, 1], [2, 0], [1, 0], [0, -3], [0.5, 0], [1, 0]]
    expected = [[Ranked(1, 1.0), Ranked(2, 1.0), Ranked(4, 1.0), Ranked(5, 1.0), Ranked(0, 0.0), Ranked(3, 0.0)]]
    for chunk_size in (None, 1, 2, 4):
        assert semantic_search([[3, 0]], corpus, chunk_size=chunk_size) == expected
        assert semantic_search([3, 0], corpus, top_k=3, chunk_size=chunk_size) == [expected[0][:3]]


def test_dot_keeps_lengths_and_cosine_does_not():
    assert semantic_search([2.0, 0], [[1.0, 5], [3, 0]], score="dot") == [[Ranked(1, 6.0), Ranked(0, 2.0)]]
    assert semantic_search([2.0, 0], [[0, 0], [-3.0, 0]]) == [[Ranked(0, 0.0), Ranked(1, -1.0)]]


def test_results_are_the_same_bits_for_any_chunks_and_threads():
    corpus = random(1500, 20)
    corpus[700:] = corpus[:800]  # many ties
    queries = corpus[::3]
    expected = (
        semantic_search(queries, corpus, threads=1),
        paraphrase_mining(corpus, top_k=7, max_pairs=2000, threads=1),
    )
    for chunk_size, threads in ((1000, 2), (128, 3), (97, 1), (None, 4)):
        options = {"chunk_size": chunk_size, "threads": threads}
        assert semantic_search(queries, corpus, **options) == expected[0]
        assert paraphrase_mining(corpus, top_k=7, max_pairs=2000, **options) == expected[1]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_memory_mapped_files_are_read_in_place(tmp_path: Path, dtype):
    corpus = random(200, 12).astype(np.float16)
    np.save(tmp_path / "vectors.npy", corpus.astype(dtype))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert semantic_search(corpus[:3], mapped, chunk_size=64) == semantic_search(corpus[:3], corpus)


def test_mapped_float32_is_not_copied(tmp_path: Path):
    from bothways.engines.compare import Vectors

    np.save(tmp_path / "vectors.npy", random(50, 12))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert np.shares_memory(Vectors(mapped, "corpus").rows(slice(10, 20)), mapped)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_a_value_that_is_no_number_is_named_by_its_row(value, score):
    bad = random(300, 4)
    bad[257, 3] = value
    with pytest.raises(InputError, match="row 257 of corpus holds NaN or infinity"):
        semantic_search(random(2, 4), bad, score=score, chunk_size=100)
    with pytest.raises(InputError, match="row 257 of queries"):
        semantic_search(bad, random(2, 4), score=score)
    with pytest.raises(InputError, match="row 257 of embeddings"):
        paraphrase_mining(bad, score=score)


def test_values_past_float32_are_refused():
    with pytest.raises(InputError, match="row 1 of corpus holds NaN or infinity"):
        semantic_search([[1.0]], np.array([[1.0], [1e39]]))
    with pytest.raises(InputError, match="row 1 of corpus has the length 1.0e"):
        semantic_search([[1e25]], [[1.0], [1e26]], score="dot")
    with pytest.raises(InputError, match="row 0 of queries has the length 3.0e"):
        semantic_search([[3e38]], [[1.0], [10.0]])
    found = semantic_search([[1e37, 0]], [[3e37, 0], [1e-40, 0]])[
        0
    ]  # the last: shorter than any float32 of full precision
    assert found == [Ranked(0, 1.0), Ranked(1, 0.0)]


@pytest.mark.parametrize(
    ("queries", "corpus", "message"),
    [
        ([[1.0, 2]], [[1.0]], "queries has vectors of 2 values and corpus of 1; both must come from one model"),
        ([[1.0], [1.0, 2]], [[1.0]], "queries has vectors of different sizes"),
        ([[[1.0]]], [[1.0]], r"queries has the shape \(1, 1, 1\)"),
        ([["a"]], [[1.0]], "queries has the dtype <U1; pass floats"),
        (np.zeros((2, 4), np.uint8), [[1.0]], "queries has the dtype uint8; pass floats"),
        (np.zeros((2, 0)), [[1.0]], r"queries has the shape \(2, 0\): the vectors have no values"),
        (1.0, [[1.0]], r"queries has the shape \(\)"),
    ],
)
def test_what_is_no_vectors_is_refused(queries, corpus, message):
    with pytest.raises(InputError, match=message):
        semantic_search(queries, corpus)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": None}, "top_k is None"),
        ({"score": "euclidean"}, "score is 'euclidean'; use cosine, dot"),
        ({"threads": 0}, "threads is 0"),
        ({"chunk_size": 1.5}, "chunk_size is 1.5"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        semantic_search([[1.0]], [[1.0]], **options)


def test_an_unknown_level_is_refused(monkeypatch):
    monkeypatch.setenv("BOTHWAYS_LEVEL", "sse9")
    with pytest.raises(DeviceError, match="sse9"):
        semantic_search([[1.0]], [[1.0]])


def test_nothing_gives_nothing():
    assert semantic_search([], [[1.0]]) == []
    assert semantic_search([[1.0], [2.0]], np.zeros((0, 1))) == [[], []]
    assert paraphrase_mining([]) == []
    assert paraphrase_mining([[1.0, 2]]) == []


@pytest.mark.parametrize(("top_k", "max_pairs"), [(100, 500_000), (3, 500_000), (5, 40), (1, 7)])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_paraphrases_are_those_of_sentence_transformers(top_k, max_pairs, score):
    import torch
    from sentence_transformers import util

    vectors = random(120, 16)
    function = {"cosine": util.cos_sim, "dot": util.dot_score}[score]
    expected = util.paraphrase_mining_embeddings(
        torch.from_numpy(vectors.astype(np.float64)), top_k=top_k, max_pairs=max_pairs, score_function=function
    )
    found = paraphrase_mining(vectors, top_k=top_k, max_pairs=max_pairs, score=score)
    assert [pair[1:] for pair in found] == [tuple(pair[1:]) for pair in expected]
    np.testing.assert_allclose([pair.score for pair in found], [pair[0] for pair in expected], atol=1e-5)


def test_equal_pairs_come_once_and_in_order(monkeypatch):
    vectors = [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]
    best = [Pair(1.0, 0, 2), Pair(1.0, 0, 4), Pair(1.0, 1, 3), Pair(1.0, 2, 4)]
    rest = [Pair(0.0, i, j) for i, j in ((0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (3, 4))]
    assert paraphrase_mining(vectors) == best + rest
    assert paraphrase_mining(vectors, max_pairs=3) == best[:3]
    monkeypatch.setattr("bothways.mining.search._CANDIDATES", 1)  # every vector on its own
    assert paraphrase_mining(vectors) == best + rest
    assert paraphrase_mining(vectors, max_pairs=3) == best[:3]
    assert paraphrase_mining(vectors, top_k=1) == best[:3]  # of 4, the first among its equals is 0


def test_other_threads_run_meanwhile():
    corpus, ticks, done = random(40_000, 64), [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    semantic_search(corpus[:2000], corpus, threads=1)
    done.set()
    thread.join()
    assert len(ticks) > 5


def test_ctrl_c_ends_a_long_search(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.zeros((300_000, 64), np.float32))  # a minute's work and more
    program = (
        "import sys, numpy, bothways; vectors = numpy.load(sys.argv[1], mmap_mode='r')\n"
        "print('ready', flush=True)\n"
        "try: bothways.semantic_search(vectors, vectors)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "vectors.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # so that the core is at work
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "interrupted\n"


def test_memory_is_bounded_by_the_chunk(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", random(60_000, 256).astype(np.float16))  # 61 MB as float32
    program = (
        "import resource, sys, numpy, bothways; vectors = numpy.load(sys.argv[1], mmap_mode='r')\n"
        "def search(n): bothways.semantic_search(vectors[:9], vectors[:n], chunk_size=2000, threads=1)\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "search(4000); before = peak(); search(60_000); print(peak() - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "vectors.npy")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 45_000  # KiB; 30,000 of them are the file's own pages
