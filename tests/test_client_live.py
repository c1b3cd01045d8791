"""Clients and a server of every task, beside `Encoder` in this process: the same bits, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from late_checkpoints import save_pylate
from serving import serve
from task_checkpoints import save_task
from test_sparse import save_splade

from bothways import Encoder, InputError, ModelNotFound, ServerError, SparseEmbedding, TaskError
from bothways.client import AsyncClient, Client

pytest.importorskip("msgspec", reason="the server is not installed")

TEXTS = ["The quick brown fox jumps over the lazy dog.", "", "Zwölf 🎉 Boxkämpfer", "dog " * 80, "Москва!", ""]
MASKED = ["the [MASK] fox", "a [MASK] jumps over the [MASK]"]
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "moods": ("classification", {"id2label": {0: "calm", 1: "fear", 2: "joy"}}),
    "entities": ("token_classification", {"id2label": {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}}),
    "masks": ("masked_lm", {}),
    "answers": ("question_answering", {}),
    "nli": ("classification", {"id2label": {0: "contradiction", 1: "entailment", 2: "neutral"}}),
    "cross": ("classification", {"num_labels": 1}),
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients reach loopback whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def folders(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models' folders by served names."""
    root = tmp_path_factory.mktemp("live")
    folders = {"minilm": minilm, "terms": root / "terms", "late": save_pylate(root / "late")}
    save_splade(folders["terms"])
    for name, (head, config) in HEADS.items():
        folders[name] = save_task(root / name, "bert", head, **config)
    return folders


@pytest.fixture(scope="module")
def url(folders: dict[str, Path]) -> Iterator[str]:
    with serve(*folders.values(), served_model_name=list(folders)) as server:
        yield server.url


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, Encoder]:
    return {name: Encoder.from_pretrained(folder) for name, folder in folders.items()}


def asked(url: str, model: str, method: str, *args: Any, **options: Any) -> list[Any]:
    """What both clients answer; streams as lists."""

    async def later() -> Any:
        async with AsyncClient(url, model=model) as client:
            made = getattr(client, method)(*args, **options)
            return [one async for one in made] if isinstance(made, AsyncIterator) else await made

    with Client(url, model=model) as client:
        return [listed(getattr(client, method)(*args, **options)), asyncio.run(later())]


def listed(made: Any) -> Any:
    return list(made) if isinstance(made, Iterator) else made


def assert_same(found: Any, expected: Any) -> None:
    """The same values and types, to the last bit."""
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, SparseEmbedding):
        assert found.terms == expected.terms
        assert_same(found.ids, expected.ids)
        assert_same(found.weights, expected.weights)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("model", "method", "args", "options"),
    [
        ("minilm", "embed", (TEXTS,), {}),
        ("minilm", "embed", ("one",), {"dimensions": 5, "normalize": False, "prompt": "a: "}),
        ("minilm", "embed", (["one"],), {"pooling": ["cls", "max"]}),
        ("minilm", "embed", (TEXTS,), {"truncation": "window", "max_length": 16}),
        ("minilm", "embed", (TEXTS * 100,), {"precision": "int8"}),
        ("minilm", "embed", (TEXTS,), {"precision": "uint8", "ranges": np.linspace(-1, 1, 768).reshape(2, 384)}),
        ("minilm", "embed", (TEXTS,), {"precision": "ubinary"}),
        ("minilm", "embed", (TEXTS,), {"tokens": True}),
        ("terms", "embed", (TEXTS,), {"sparse": True}),
        ("late", "embed", (TEXTS,), {"tokens": True, "prompt_name": "query"}),
        ("minilm", "similarity", (TEXTS, TEXTS[:2]), {}),
        ("minilm", "similarity", (TEXTS * 50, "one"), {}),
        ("minilm", "similarity", (np.eye(3, 384, dtype=np.float32), TEXTS), {}),
        ("terms", "similarity", (TEXTS, TEXTS[:2]), {}),
        ("late", "similarity", (TEXTS, TEXTS[:2]), {}),
        ("moods", "classify", (TEXTS,), {}),
        ("moods", "classify", (TEXTS,), {"truncation": "left", "max_length": 7}),
        ("moods", "classify", ([("a fox", "a dog"), "both"],), {"top_k": None, "function": "sigmoid"}),
        ("entities", "tag", (TEXTS,), {"aggregation": "none", "ignore_labels": []}),
        ("entities", "tag", ([("New", "York"), "the dog"],), {"aggregation": "word", "ignore_labels": ()}),
        ("masks", "fill_mask", (MASKED,), {"top_k": None}),
        ("masks", "fill_mask", (MASKED,), {"targets": ["dog", "fox"]}),
        ("answers", "answer", ("who jumps?", TEXTS[0]), {"top_k": 3, "impossible": True}),
        ("answers", "answer", (["who jumps?", "where?"], TEXTS[0]), {"max_answer_tokens": 3}),
        ("answers", "answer", ("who jumps?", [TEXTS[0], TEXTS[3]]), {"truncation": True, "whole_words": False}),
        ("cross", "rerank", ("fox", TEXTS), {}),
        ("cross", "rerank", ("fox", TEXTS * 60), {"top_k": 7, "raw_scores": True}),
        ("nli", "zero_shot", (TEXTS,), {"labels": "good, bad", "multi_label": True}),
        ("nli", "zero_shot", ("the fox",), {"labels": ["good", "bad"], "template": "It is {}."}),
    ],
)
def test_results_are_those_of_encoder(
    url: str, encoders: dict[str, Encoder], model: str, method: str, args: Any, options: Any
) -> None:
    expected = getattr(encoders[model], method)(*args, **options)
    for found in asked(url, model, method, *args, **options):
        assert_same(found, expected)


@pytest.mark.parametrize(
    ("model", "method", "options"),
    [
        ("minilm", "embed", {}),
        ("terms", "embed", {"sparse": True}),
        ("moods", "classify", {}),
        ("entities", "tag", {}),
        ("nli", "zero_shot", {"labels": "a, b"}),
    ],
)
def test_streams_are_those_of_encoder(
    url: str, encoders: dict[str, Encoder], model: str, method: str, options: Any
) -> None:
    texts = [f"text number {n}" for n in range(700)]
    expected = list(getattr(encoders[model], method)(iter(texts), **options))
    for found in both_streams(url, model, method, texts, options):
        assert_same(found, expected)


def both_streams(url: str, model: str, method: str, texts: list[str], options: Any) -> Iterator[Any]:
    async def source() -> AsyncIterator[str]:
        for text in texts:
            yield text

    async def later() -> Any:
        async with AsyncClient(url, model=model) as client:
            return [one async for one in getattr(client, method)(source(), **options)]

    with Client(url, model=model) as client:
        yield list(getattr(client, method)(iter(texts), **options))
    yield asyncio.run(later())


@pytest.mark.parametrize("options", [{}, {"hidden_states": True, "attentions": True, "max_length": 12}])
def test_encoded_texts_are_those_of_encoder(url: str, encoders: dict[str, Encoder], options: Any) -> None:
    texts: list[Any] = [*TEXTS, ("a pair", "of texts")]
    for model in ("minilm", "moods"):
        expected = encoders[model].encode(texts, **options)
        for found in asked(url, model, "encode", texts, **options):
            for name in ("input_ids", "attention_mask", "last_hidden_state", "pooler_output", "tokens", "offsets"):
                assert_same(getattr(found, name), getattr(expected, name))
            for name in ("truncated", "hidden_states", "attentions"):
                assert_same(getattr(found, name), getattr(expected, name))
            assert len(found) == len(expected)


def test_empty_lists(url: str, encoders: dict[str, Encoder]) -> None:
    for model, method, args in (
        ("moods", "classify", ([],)),
        ("entities", "tag", ([],)),
        ("cross", "rerank", ("q", [])),
        ("answers", "answer", ("q", [])),
    ):
        assert asked(url, model, method, *args) == [[], []]
    for found in asked(url, "minilm", "embed", []):
        assert len(found) == 0


def test_models_and_tasks(url: str, encoders: dict[str, Encoder]) -> None:
    with Client(url) as client:
        assert {model.name: model.tasks for model in client.models()} == {
            name: encoder.tasks for name, encoder in encoders.items()
        }
        assert set(client.tasks) == {task for encoder in encoders.values() for task in encoder.tasks}
        # Only one of the models can do it, so none has to be named.
        assert client.rerank("fox", ["a fox"]) == encoders["cross"].rerank("fox", ["a fox"])
    with Client(url, model="moods") as client:
        assert client.tasks == encoders["moods"].tasks


@pytest.mark.parametrize(
    ("model", "method", "args", "options", "kind", "message"),
    [
        ("minilm", "classify", ("a",), {}, TaskError, "this checkpoint can't classify"),
        ("nothing", "embed", ("a",), {}, ModelNotFound, "there is no model 'nothing'"),
        ("minilm", "embed", ("dog " * 300,), {"truncation": False}, InputError, "text 0 has 302 tokens"),
        ("minilm", "embed", ("a",), {"prompt_name": "x"}, InputError, "prompt_name 'x' is unknown"),
        ("minilm", "embed", ("a",), {"dimensions": 999}, InputError, "dimensions is 999"),
        ("masks", "fill_mask", ("no mask",), {}, InputError, r"text 0 has no \[MASK\]"),
        ("terms", "embed", ("a",), {}, TaskError, "not made for one dense vector"),
        ("cross", "rerank", ("q", ["a"]), {"max_length": 10**9}, InputError, "max_length"),
    ],
)
def test_errors_are_those_of_encoder(
    url: str, model: str, method: str, args: Any, options: Any, kind: type[Exception], message: str
) -> None:
    with Client(url, model=model) as client:
        with pytest.raises(kind, match=rf"{message}.* \(HTTP 4\d\d from {url}, request "):
            getattr(client, method)(*args, **options)


def test_progress_counts_what_was_computed(url: str, encoders: dict[str, Encoder]) -> None:
    told: list[tuple[int, int, int]] = []
    expected: list[tuple[int, int, int]] = []
    texts = ["dog " * 300, *("a fox" for _ in range(299))]
    with Client(url, model="minilm") as client:
        client.embed(texts, progress=lambda *numbers: told.append(numbers))
    encoders["minilm"].embed(texts, progress=lambda *numbers: expected.append(numbers))
    assert told[-1] == expected[-1]
    assert [texts for texts, _, _ in told] == [256, 300]


def test_keys(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOTHWAYS_API_KEY", raising=False)
    with serve(minilm, api_key="right") as server:
        for options, message in (({}, "refused a request without a key"), ({"api_key": "x"}, "refused the key that")):
            with Client(server.url, **options) as client, pytest.raises(ServerError, match=message):
                client.embed("a")
        monkeypatch.setenv("BOTHWAYS_API_KEY", "right")
        with Client(server.url) as client:
            assert client.embed("a").shape == (1, 384)
            assert client.tasks == ("encode", "embed", "similarity")


def test_a_busy_server_is_waited_for(minilm: Path) -> None:
    with serve(minilm, max_queue_requests=2) as server, Client(server.url, retries=50) as client:
        assert client.embed(["text"] * 2000).shape == (2000, 384)
