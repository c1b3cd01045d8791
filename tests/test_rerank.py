"""The task rerank: the order and scores of sentence-transformers' CrossEncoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import MODEL_TYPES, TEXTS, save_task
from tiny_checkpoints import edit_config

from bothways import Encoder, Ranked
from bothways.errors import InputError, TaskError

QUERY = "who jumps over the dog?"
DOCUMENTS = [*TEXTS, "a dog " * 60, "lazy"]


def assert_same(found: list[Ranked], expected: list[dict[str, Any]]) -> None:
    """Compare place by place, and document by document where no near tie decides which are among the best."""
    np.testing.assert_allclose([item.score for item in found], [item["score"] for item in expected], atol=5e-4)
    scores = {item["corpus_id"]: item["score"] for item in expected}
    shared = [item for item in found if item.index in scores]
    np.testing.assert_allclose([i.score for i in shared], [scores[i.index] for i in shared], atol=5e-4)
    assert found == sorted(found, key=lambda item: (-item.score, item.index))


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "classification", num_labels=1)


def test_the_order_is_that_of_sentence_transformers(folder: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    model, oracle = Encoder.from_pretrained(folder), CrossEncoder(str(folder), device="cpu")
    assert_same(model.rerank(QUERY, DOCUMENTS), oracle.rank(QUERY, DOCUMENTS))
    assert_same(model.rerank(QUERY, DOCUMENTS, top_k=2), oracle.rank(QUERY, DOCUMENTS, top_k=2))
    raw = oracle.rank(QUERY, DOCUMENTS, activation_fn=torch.nn.Identity())
    assert_same(model.rerank(QUERY, DOCUMENTS, raw_scores=True), raw)
    assert_same(model.rerank("", ["", "a"]), oracle.rank("", ["", "a"]))


@pytest.mark.parametrize("name", ["Identity", "Sigmoid", "Tanh"])
def test_the_activation_is_the_one_that_sentence_transformers_saves_and_finds(tmp_path: Path, name: str) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    save_task(tmp_path / "old", "bert", "classification", num_labels=1)
    oracle = CrossEncoder(str(tmp_path / "old"), device="cpu", activation_fn=getattr(torch.nn, name)())
    oracle.save_pretrained(str(tmp_path / "new"))
    expected = oracle.rank(QUERY, DOCUMENTS)
    assert_same(Encoder.from_pretrained(tmp_path / "new").rerank(QUERY, DOCUMENTS), expected)
    path = {"Identity": "linear"}.get(name, "activation")
    edit_config(tmp_path / "old", sbert_ce_default_activation_function=f"torch.nn.modules.{path}.{name}")
    assert_same(Encoder.from_pretrained(tmp_path / "old").rerank(QUERY, DOCUMENTS), expected)


def test_the_default_prompt_stands_before_the_query_as_in_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    save_task(tmp_path / "old", "bert", "classification", num_labels=1)
    prompts = {"find": "the quick brown: "}
    oracle = CrossEncoder(str(tmp_path / "old"), device="cpu", prompts=prompts, default_prompt_name="find")
    oracle.save_pretrained(str(tmp_path / "new"))
    expected = oracle.rank(QUERY, DOCUMENTS)
    assert_same(Encoder.from_pretrained(tmp_path / "new").rerank(QUERY, DOCUMENTS), expected)
    assert expected != oracle.rank(QUERY, DOCUMENTS, prompt="")


def test_equal_scores_keep_the_input_order(folder: Path) -> None:
    found = Encoder.from_pretrained(folder).rerank(QUERY, ["same", "same", "other", "same"])
    assert [item.index for item in found if item.index != 2] == [0, 1, 3]
    assert len({item.score for item in found}) == 2


def test_a_documents_score_does_not_depend_on_the_others(folder: Path) -> None:
    model = Encoder.from_pretrained(folder)
    together = {item.index: item.score for item in model.rerank(QUERY, DOCUMENTS)}
    assert together == {n: model.rerank(QUERY, [text])[0].score for n, text in enumerate(DOCUMENTS)}


def test_documents_may_be_a_stream(folder: Path) -> None:
    model = Encoder.from_pretrained(folder)

    def documents() -> Iterator[str]:
        yield from DOCUMENTS

    assert model.rerank(QUERY, documents(), top_k=3) == model.rerank(QUERY, DOCUMENTS)[:3]
    assert model.rerank(QUERY, []) == []


def test_what_is_no_query_or_document_is_refused(folder: Path) -> None:
    model = Encoder.from_pretrained(folder)
    with pytest.raises(InputError, match=r"query is \['a'\]; it must be a string"):
        model.rerank(["a"], ["b"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="text 0 is 3; it must be a string"):
        model.rerank("a", [3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="top_k is -1"):
        model.rerank("a", ["b"], top_k=-1)


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "classification", num_labels=3)
    model = Encoder.from_pretrained(tmp_path)
    assert model.tasks == ("encode", "embed", "similarity", "classify")
    with pytest.raises(TaskError, match="a reranker's head gives one score, this one gives 3; it can encode"):
        model.rerank("a", ["b"])
