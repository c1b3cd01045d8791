"""The adaptors inside the frameworks that they are for, beside sentence-transformers' vectors."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_checkpoints import TEXTS, save_task

from bothways import Encoder
from bothways.adaptors.langchain import BothwaysCrossEncoder, BothwaysEmbeddings
from bothways.adaptors.llama_index import BothwaysEmbedding

PROMPTS = {"query": "ask: ", "passage": "the passage: "}


@pytest.fixture(scope="module")
def prompted(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with prompts, one of them the default, which neither queries nor documents take."""
    folder = tmp_path_factory.mktemp("prompted")
    for path in bert_folder.iterdir():
        (folder / path.name).symlink_to(path)
    settings = {"prompts": {**PROMPTS, "other": "no: "}, "default_prompt_name": "other"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def queries(prompted: Path) -> list[list[float]]:
    return vectors(prompted, "query")


@pytest.fixture(scope="module")
def documents(prompted: Path) -> list[list[float]]:
    return vectors(prompted, "passage")


def vectors(folder: Path, prompt_name: str) -> list[list[float]]:
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(folder), device="cpu", prompts=PROMPTS).encode(TEXTS, prompt_name=prompt_name)
    return [row.tolist() for row in found]


def assert_near(found: Any, expected: Any) -> None:
    assert isinstance(found, list)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_langchain_gets_vectors_of_queries_and_documents(prompted: Path, queries: Any, documents: Any) -> None:
    from langchain_core.embeddings import Embeddings

    ours = BothwaysEmbeddings(model=str(prompted))
    assert isinstance(ours, Embeddings)
    assert_near(ours.embed_documents(TEXTS), documents)
    assert_near(ours.embed_query(TEXTS[0]), queries[0])
    assert_near(asyncio.run(ours.aembed_documents(TEXTS)), documents)
    assert_near(asyncio.run(ours.aembed_query(TEXTS[0])), queries[0])
    assert ours.embed_documents([]) == []
    assert all(type(value) is float for value in ours.embed_query("a"))
    swapped = BothwaysEmbeddings(model=str(prompted), query_prompt=PROMPTS["passage"], document_prompt=PROMPTS["query"])
    assert_near(swapped.embed_documents(TEXTS), queries)
    assert_near(swapped.embed_query(TEXTS[0]), documents[0])


def test_langchain_finds_what_is_nearest(prompted: Path) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore.from_texts(TEXTS, BothwaysEmbeddings(model=str(prompted), query_prompt="the passage: "))
    for text in TEXTS:
        assert store.similarity_search(text, k=1)[0].page_content == text


def test_settings_are_kept_by_the_models_name(prompted: Path) -> None:
    ours = BothwaysEmbeddings(model=str(prompted), dimensions=5, normalize=True, max_length=9, threads=1)
    expected = ours.embed_documents(TEXTS)
    assert np.shape(expected) == (len(TEXTS), 5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    for again in (
        BothwaysEmbeddings.model_validate_json(ours.model_dump_json()),
        pickle.loads(pickle.dumps(ours)),
        copy.deepcopy(ours),
    ):
        assert again == ours or again.model_dump() == ours.model_dump()
        assert again.embed_documents(TEXTS) == expected
    assert copy.deepcopy(ours).encoder is ours.encoder
    assert len(pickle.dumps(ours)) < 2000
    with pytest.raises(ValueError, match="nonsense"):
        BothwaysEmbeddings(model=str(prompted), nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        ours.model = "another"


def test_langchain_gets_scores_of_pairs(tmp_path: Path) -> None:
    from langchain_core.cross_encoders import BaseCrossEncoder
    from sentence_transformers import CrossEncoder

    save_task(tmp_path, "bert", "classification", num_labels=1)
    ours = BothwaysCrossEncoder(model=str(tmp_path))
    assert isinstance(ours, BaseCrossEncoder)
    pairs = [(query, text) for text in TEXTS for query in ("who jumps?", "fox")]
    np.testing.assert_allclose(ours.score(pairs), CrossEncoder(str(tmp_path), device="cpu").predict(pairs), atol=5e-4)
    assert ours.score([]) == []
    assert pickle.loads(pickle.dumps(ours)).score(pairs) == ours.score(pairs)


def test_llama_index_gets_vectors_of_queries_and_texts(prompted: Path, queries: Any, documents: Any) -> None:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    ours = BothwaysEmbedding(model_name=str(prompted), embed_batch_size=2)
    assert isinstance(ours, BaseEmbedding)
    assert_near(ours.get_text_embedding_batch(TEXTS), documents)
    assert_near(ours.get_text_embedding(TEXTS[0]), documents[0])
    assert_near(ours.get_query_embedding(TEXTS[0]), queries[0])
    assert_near(asyncio.run(ours.aget_text_embedding_batch(TEXTS)), documents)
    assert_near(asyncio.run(ours.aget_text_embedding(TEXTS[0])), documents[0])
    assert_near(asyncio.run(ours.aget_query_embedding(TEXTS[0])), queries[0])
    for again in (BothwaysEmbedding.from_json(ours.to_json()), pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert again.to_dict() == ours.to_dict()
        assert again.get_query_embedding("a") == ours.get_query_embedding("a")
    assert ours.to_dict()["class_name"] == "BothwaysEmbedding"


def test_llama_index_embeds_nodes(prompted: Path, documents: Any) -> None:
    from llama_index.core.schema import TextNode

    nodes = BothwaysEmbedding(model_name=str(prompted))([TextNode(text=text) for text in TEXTS])
    assert_near([node.embedding for node in nodes], documents)


def test_documents_take_the_first_prompt_that_there_is(prompted: Path, tmp_path: Path) -> None:
    for path in prompted.iterdir():
        if path.name != "config_sentence_transformers.json":
            (tmp_path / path.name).symlink_to(path.resolve())
    settings = {"prompts": {"document": "", "corpus": "c: ", "passage": "p: "}, "default_prompt_name": "corpus"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    ours, model = BothwaysEmbeddings(model=str(tmp_path)), Encoder.from_pretrained(tmp_path)
    assert ours.embed_documents(["a"]) == model.embed(["a"], prompt="p: ").tolist()
    assert ours.embed_query("a") == model.embed(["a"], prompt="").tolist()[0]


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index", "llama-index")],
)
def test_without_the_framework_the_error_says_what_to_install(module: str, missing: str, extra: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nimport bothways.adaptors.{module}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert f'pip install "bothways[{extra}]"' in run.stderr.splitlines()[-1]
