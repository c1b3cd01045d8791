"""Hard negatives, against sentence-transformers' own code on the same vectors, and hand-made cases."""

from __future__ import annotations

import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bothways import InputError, Ranked, mine_hard_negatives


class _Rows:
    """What sentence-transformers asks of a `datasets.Dataset`, which is not installed here."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns, self.column_names = columns, list(columns)

    from_dict = classmethod(lambda cls, columns: cls(columns))

    def __len__(self) -> int:
        return len(self.columns[self.column_names[0]])

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def to_pandas(self) -> Any:
        counts = dict(Counter(self.columns[self.column_names[0]]))
        counted = SimpleNamespace(to_dict=lambda: {self.column_names[1]: counts})
        return SimpleNamespace(groupby=lambda _: SimpleNamespace(count=lambda: counted))


class _Texts:
    """A model whose texts are numbers of rows of a table."""

    device = "cpu"

    def __init__(self, table: np.ndarray) -> None:
        self.table = table / np.linalg.norm(table, axis=1, keepdims=True)

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        return self.table[[int(text) for text in texts]]

    encode_query = encode_document

    def similarity(self, a: Any, b: Any) -> Any:
        from sentence_transformers import util

        return util.dot_score(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        from sentence_transformers import util

        return util.pairwise_dot_score(a, b)

    def predict(self, pairs: list[tuple[str, str]], **_: Any) -> Any:
        import torch

        return torch.tensor([judge(int(a), int(b)) for a, b in pairs], dtype=torch.float64)


def judge(anchor: int, document: int) -> float:
    """A cross-encoder's score, made up."""
    return ((anchor * 37 + document * 101) % 89) / 89


def oracle(
    monkeypatch: pytest.MonkeyPatch,
    table: np.ndarray,
    anchors: list[int],
    positives: list[int],
    corpus: Any,
    **options: Any,
) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """For each anchor and positive, sentence-transformers' negatives and their scores."""
    from sentence_transformers.util import hard_negatives  # before the stand-in, which is no whole package

    datasets = ModuleType("datasets")
    datasets.Dataset = _Rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setattr(hard_negatives, "is_datasets_available", lambda: True)
    found = hard_negatives.mine_hard_negatives(
        _Rows({"anchor": [str(n) for n in anchors], "positive": [str(n) for n in positives]}),
        _Texts(table),  # type: ignore[arg-type]
        corpus=None if corpus is None else [str(n) for n in corpus],
        output_format="triplet",
        output_scores=True,
        verbose=False,
        **options,
    )
    result: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for anchor, positive, negative, scores in zip(*found.columns.values(), strict=True):
        result.setdefault((int(anchor), int(positive)), []).append((int(negative), scores[1]))
    return result


TABLE = np.random.default_rng(3).standard_normal((90, 6))
ANCHORS = [0, 1, 2, 1, 3, 0, 4, 5, 1]
POSITIVES = [10, 11, 12, 13, 14, 10, 15, 11, 11]  # 0 has one positive twice, 1 has two, 11 is of two anchors
CORPUS = [*range(20, 90), 12, 14, 25, 0]  # two positives, a text twice, an anchor


@pytest.mark.parametrize("corpus", [CORPUS, None])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_negatives": 5, "range_min": 2},
        {"range_min": 1, "range_max": 8, "num_negatives": 7},
        {"max_score": 0.5, "min_score": 0.1},
        {"absolute_margin": 0.1},
        {"relative_margin": 0.05, "num_negatives": 20},
        {"absolute_margin": 0.0, "relative_margin": -0.5, "min_score": 0.0},
        {"range_max": 200, "num_negatives": 200},
        {"cross_encoder": True, "max_score": 0.7},
        {"cross_encoder": True, "min_score": 0.3},
        {"cross_encoder": True, "absolute_margin": 0.2, "num_negatives": 9},
    ],
)
def test_negatives_are_those_of_sentence_transformers(monkeypatch, corpus, options):
    ours = dict(options)
    order = [*(corpus or ()), *POSITIVES]
    if ours.pop("cross_encoder", False):
        options = {**options, "cross_encoder": _Texts(TABLE)}
        ours["rescore"] = lambda anchor, found: [judge(ANCHORS[anchor], order[index]) for index in found]
    expected = oracle(monkeypatch, TABLE, ANCHORS, POSITIVES, corpus, **options)
    vectors = None if corpus is None else TABLE[corpus]
    found = mine_hard_negatives(TABLE[ANCHORS], TABLE[POSITIVES], vectors, **ours)
    assert len(found) == len(ANCHORS)
    for anchor, positive, row in zip(ANCHORS, POSITIVES, found, strict=True):
        wanted = expected.get((anchor, positive), [])
        if "cross_encoder" not in options:  # its scores have ties
            assert [order[item.index] for item in row] == [number for number, _ in wanted]
            assert all(order.index(order[item.index]) == item.index for item in row)  # of equal rows the first
        np.testing.assert_allclose([item.score for item in row], [score for _, score in wanted], atol=1e-5)


def test_random_negatives_are_among_the_candidates_and_repeatable():
    anchors, positives, corpus = TABLE[:5], TABLE[5:10], TABLE[10:]
    pool = mine_hard_negatives(anchors, positives, corpus, range_min=2, range_max=20, num_negatives=18)
    options: dict[str, Any] = {"range_min": 2, "range_max": 20, "num_negatives": 4, "sampling": "random"}
    draws = [mine_hard_negatives(anchors, positives, corpus, seed=seed, **options) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    for row, among in zip(draws[0], pool, strict=True):
        assert len(row) == len(set(row)) == 4
        assert row == [item for item in among if item in row]  # the best first
    few = mine_hard_negatives(anchors, positives, corpus, min_score=0.9, seed=1, **options)
    assert few == mine_hard_negatives(anchors, positives, corpus, min_score=0.9, **options | {"sampling": "top"})


def test_a_positive_is_never_a_negative_however_it_comes():
    anchor, positive, other = [1.0, 0], [4.0, 1], [0, 1.0]
    found = mine_hard_negatives([anchor, anchor], [positive, [8, 2]], [other, positive, [2.0, 0.5], other], range_max=9)
    # (8, 2) and (2, 0.5) have other bits than (4, 1); the first is a positive, the second is not.
    assert [item.index for item in found[0]] == [2, 0]
    assert found[0] == found[1]
    assert mine_hard_negatives([[1.0, 0]], [[0.0, 1]], [[-0.0, 1]]) == [[]]


def test_margins_of_negative_scores_lie_below_them():
    # The positive scores -0.5; a tenth less is -0.55.
    angles = np.arccos([-0.5, -0.52, -0.56])
    positive, near, far = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = mine_hard_negatives([[1.0, 0]], [positive], [near, far], relative_margin=0.1)
    assert [item.index for item in found[0]] == [1]


def test_results_are_the_same_bits_for_any_chunks_and_threads():
    corpus = np.concatenate([TABLE, TABLE[:40]])
    expected = mine_hard_negatives(TABLE[:20], TABLE[20:40], corpus, absolute_margin=0.1, threads=1)
    for chunk_size, threads in ((7, 2), (50, 3)):
        options: dict[str, Any] = {"chunk_size": chunk_size, "threads": threads}
        assert mine_hard_negatives(TABLE[:20], TABLE[20:40], corpus, absolute_margin=0.1, **options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range_min": 3, "range_max": 5}, "range_max 5 less range_min 3 leaves no 3 candidates"),
        ({"range_min": -1}, "range_min is -1"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"sampling": "best"}, "sampling is 'best'; use top, random"),
        ({"max_score": "high"}, "max_score is 'high'; it must be a number"),
        (
            {"rescore": lambda _, found: [1.0]},
            "rescore gave .* candidates of anchor 0; it must return one finite score",
        ),
        ({"corpus": [[1.0]]}, "anchors has vectors of 2 values and corpus of 1"),
        ({"corpus": [[1.0, 2], [np.nan, 0]]}, "row 1 of corpus holds NaN"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        mine_hard_negatives([[1.0, 0], [0, 1]], [[2.0, 0], [0, 1]], **{"corpus": [[3.0, 1]], **options})


def test_every_anchor_needs_a_positive():
    with pytest.raises(InputError, match="there are 2 anchors and 1 positives; pass one for each"):
        mine_hard_negatives([[1.0], [2.0]], [[1.0]])
    with pytest.raises(InputError, match="anchors has vectors of 2 values and positives of 1; both must come from one"):
        mine_hard_negatives([[1.0, 0]], [[1.0]], absolute_margin=0.1)
    assert mine_hard_negatives([], []) == []
    assert mine_hard_negatives([[1.0, 0]], [[1.0, 0]], []) == [[]]
    assert mine_hard_negatives([[1.0, 0]], [[0, 1.0]], [[3.0, 4.0]]) == [[Ranked(0, pytest.approx(0.6))]]
