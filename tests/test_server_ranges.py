"""Vectors as int8 and uint8, by ranges that the server was given, beside sentence-transformers' own."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohere
import numpy as np
import numpy.typing as npt
import pytest
from serving import Server, serve

from bothways.errors import InputError
from bothways.server.models import load_models
from bothways.server.settings import Settings

TEXTS = ["The cat sleeps.", "Shares fell sharply.", "Zwölf Boxkämpfer", "Where is the station?"]
TYPES = {"int8": np.int8, "uint8": np.uint8}


@pytest.fixture(scope="module")
def vectors(minilm: Path) -> npt.NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(minilm)).encode(TEXTS, normalize_embeddings=True))


@pytest.fixture(scope="module")
def ranges(vectors: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Narrower than some values, so that these are clipped."""
    path = tmp_path_factory.mktemp("ranges") / "a=b.npy"
    np.save(path, np.stack([vectors.min(axis=0) * 0.9, vectors.max(axis=0) * 0.9]))
    return path


@pytest.fixture(scope="module")
def server(minilm: Path, ranges: Path) -> Iterator[Server]:
    with serve(minilm, served_model_name="minilm", ranges=ranges) as server:
        yield server


def assert_quantized(found: Any, name: str, vectors: npt.NDArray[np.float32], ranges: Path) -> None:
    from sentence_transformers.util import quantize_embeddings

    wanted = quantize_embeddings(vectors, precision=name, ranges=np.load(ranges)).astype(int)
    difference = np.abs(np.asarray(found, int) - wanted)
    # A value at the edge of a step may fall to either side of it.
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("name", TYPES)
def test_every_route(server: Server, name: str, vectors: npt.NDArray[np.float32], ranges: Path) -> None:
    types: Any = ["float", name]
    with cohere.ClientV2(api_key="none", base_url=server.url) as client:
        embeddings = client.embed(model="m", input_type="clustering", texts=TEXTS, embedding_types=types).embeddings
    assert_quantized(getattr(embeddings, name), name, vectors, ranges)
    asked = {"inputs": TEXTS, "precision": name}
    assert_quantized(server.ask("/embed", asked), name, vectors, ranges)
    file = np.load(io.BytesIO(server.post("/embed", asked, accept="application/x-npy").body))
    assert file.dtype == TYPES[name]
    assert_quantized(file, name, vectors, ranges)
    answer = server.ask("/v1/embeddings", {"input": TEXTS, "precision": name, "encoding_format": "base64"})
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), TYPES[name]) for item in answer["data"]]
    assert_quantized(rows, name, vectors, ranges)
    own = server.ask("/tasks/embed", {"texts": TEXTS[0], "precision": name})["results"]
    assert_quantized(own, name, vectors[:1], ranges)


def test_vectors_that_are_cut_have_other_ranges(server: Server) -> None:
    reply = server.post("/embed", {"inputs": "a", "precision": "int8", "dimensions": 64})
    assert reply.status == 400 and "64" in reply.json()["error"] and "384" in reply.json()["error"]
    assert np.shape(server.ask("/embed", {"inputs": "a", "precision": "int8", "dimensions": 384})) == (1, 384)
    own = server.post("/tasks/embed", {"texts": "a", "precision": "int8", "dimensions": 64})
    assert own.status == 400 and own.json()["code"] == "no_ranges"


def test_a_requests_own_ranges_win(server: Server, vectors: npt.NDArray[np.float32], tmp_path: Path) -> None:
    own = tmp_path / "own.npy"
    np.save(own, np.stack([np.full(384, -0.5), np.full(384, 0.5)]).astype(np.float32))
    asked = {"texts": TEXTS, "precision": "int8", "ranges": np.load(own).tolist()}
    assert_quantized(server.ask("/tasks/embed", asked)["results"], "int8", vectors, own)


def test_several_models_are_told_apart_by_name(minilm: Path, ranges: Path) -> None:
    with serve(minilm, minilm, served_model_name=["a", "b"], ranges=f"b={ranges}") as server:
        asked = {"inputs": "a", "precision": "uint8"}
        assert np.shape(server.ask("/models/b/embed", asked)) == (1, 384)
        reply = server.post("/models/a/embed", asked)
        assert reply.status == 400 and "--ranges" in reply.json()["error"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda path: np.save(path, np.zeros((2, 64), np.float32)), r"must be \(2, 384\)"),
        (lambda path: np.save(path, np.full((2, 384), np.nan)), "not finite"),
        (lambda path: path.write_text("no array"), "can't read the ranges"),
        (lambda path: path.touch(), "can't read the ranges"),
        (lambda path: None, "can't read the ranges"),
    ],
)
def test_files_that_are_no_ranges(minilm: Path, tmp_path: Path, made: Callable[[Path], None], words: str) -> None:
    file = tmp_path / "ranges.npy"
    made(file)
    with pytest.raises(InputError, match=words):
        load_models(Settings((str(minilm),), ranges=(str(file),)))


def test_ranges_of_no_model(minilm: Path, ranges: Path) -> None:
    two = Settings((str(minilm),) * 2, served_model_name=("a", "b"))
    with pytest.raises(InputError, match="names no model.*a, b"):
        load_models(replace(two, ranges=(str(ranges),)))
    with pytest.raises(InputError, match="twice for a"):
        load_models(replace(two, ranges=(f"a={ranges}", f"a={ranges}")))
