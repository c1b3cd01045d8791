"""Weights with NaN in them: one text's error in JSON, never null, and no harm to other texts, models and calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import POISON, SOUND, Oracles
from routes import assert_error
from serving import Server, serve

BAD = f"the {POISON}"
#: Path, model, whether errors are nested, and the request with a text in it.
CALLS: list[tuple[str, str, bool, Any]] = [
    ("/embed", "prompts", False, lambda text: {"inputs": text}),
    ("/embed", "prompts", False, lambda text: {"inputs": [SOUND, text]}),
    ("/embed", "prompts", False, lambda text: {"inputs": text, "normalize": False}),
    ("/embed", "prompts", False, lambda text: {"inputs": text, "encoding_format": "base64"}),
    ("/embed_all", "prompts", False, lambda text: {"inputs": text}),
    ("/v1/embeddings", "prompts", True, lambda text: {"input": text}),
    ("/v1/embeddings", "prompts", True, lambda text: {"input": [text], "encoding_format": "base64"}),
    ("/v2/embed", "prompts", True, lambda text: {"texts": [text], "input_type": "classification"}),
    ("/v2/embed", "prompts", True, lambda text: {"texts": [text], "embedding_types": ["ubinary"]}),
    ("/similarity", "prompts", False, lambda text: {"inputs": {"source_sentence": text, "sentences": [SOUND]}}),
    ("/tasks/similarity", "prompts", False, lambda text: {"a": [text], "b": [SOUND]}),
    ("/tasks/embed", "prompts", False, lambda text: {"texts": text}),
    ("/tasks/embed", "prompts", False, lambda text: {"texts": text, "precision": "ubinary"}),
    ("/predict", "moods", False, lambda text: {"inputs": text}),
    ("/classify", "moods", True, lambda text: {"input": [text]}),
    ("/pipeline/text-classification", "moods", False, lambda text: {"inputs": text, "parameters": {}}),
    ("/rerank", "cross", False, lambda text: {"query": SOUND, "texts": [SOUND, text]}),
    ("/v1/rerank", "cross", True, lambda text: {"query": text, "documents": [SOUND]}),
    ("/tasks/tag", "entities", False, lambda text: {"texts": text}),
    ("/pipeline/token-classification", "entities", False, lambda text: {"inputs": text, "parameters": {}}),
    ("/tasks/zero_shot", "nli", False, lambda text: {"texts": text, "labels": ["a"]}),
    ("/tasks/answer", "answers", False, lambda text: {"question": SOUND, "context": text}),
]


@pytest.fixture(scope="module")
def broken(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of sound models, and of ones with NaN."""
    models = folders | checkpoints.make_broken(tmp_path_factory.mktemp("broken"), folders)
    with serve(*models.values(), served_model_name=list(models)) as server:
        yield server


@pytest.mark.parametrize("call", CALLS, ids=[f"{path}-{n}" for n, (path, *_) in enumerate(CALLS)])
def test_nan_is_an_error_in_json(broken: Server, call: tuple[str, str, bool, Any]) -> None:
    path, model, nested, body = call
    path = f"/models/broken-{model}{path}"
    reply = broken.post(path, body(BAD))
    assert reply.status in (424, 500), reply.body
    assert_error(reply, reply.status, nested, "NaN")
    for _ in range(2):
        sound = broken.post(path, body(SOUND))
        assert sound.status == 200
        assert b"null" not in sound.body
        sound.json()
    assert broken.get("/readyz").status == 200


def test_others_in_the_same_batches_are_answered(broken: Server, oracles: Oracles) -> None:
    # Many callers at once, so that batches have texts of several: every second one's text is NaN.
    texts = [BAD if n % 2 else f"{SOUND} {'dog ' * (n % 7)}" for n in range(120)]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda text: broken.post("/models/broken-prompts/embed", {"inputs": text}), texts))
    expected = oracles.vectors("prompts", texts)
    for text, reply, vector in zip(texts, replies, expected, strict=True):
        assert reply.status in ((424, 500) if text == BAD else (200,))
        if text != BAD:
            np.testing.assert_allclose(reply.json(), [vector], rtol=0, atol=1e-4)


def test_other_models_are_answered(broken: Server, oracles: Oracles) -> None:
    found = broken.ask("/models/minilm/embed", {"inputs": BAD})
    np.testing.assert_allclose(found, oracles.vectors("minilm", [BAD]), rtol=0, atol=1e-4)
    assert broken.get("/health").status == 200
