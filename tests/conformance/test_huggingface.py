"""huggingface_hub's InferenceClient, pointed at a server of one model, at a model of many, and at a pipeline's path."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from checkpoints import LONG, MANY, TEXTS, Oracles
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from serving import Server
from test_answer import Oracle as AnswerOracle

SENTENCES = [text for text in TEXTS if text]
NAMED = "the quick brown fox jumps over naïve Zwölf Boxkämpfer, again."
MASKED = "the quick brown [MASK] jumps"
PLACES = ["root", "model", "pipeline"]

Client = Any


@pytest.fixture(params=PLACES)
def client_of(request: pytest.FixtureRequest, server: Server, alone: Any) -> Any:
    """Makes a client for a model and a task."""

    def make(name: str, task: str) -> InferenceClient:
        address = alone(name).url if request.param == "root" else f"{server.url}/models/{name}"
        return InferenceClient(model=f"{address}/pipeline/{task}" if request.param == "pipeline" else address)

    return make


def assert_near(found: Any, expected: Any, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def assert_labels(found: Any, expected: Any, *names: str) -> None:
    """Compare scores in order, and what is named; what scores nearly alike may change places."""
    assert_near([entry.score for entry in found], [entry["score"] for entry in expected], 5e-4)
    known = {tuple(entry[name] for name in names): entry["score"] for entry in expected}
    mine = {tuple(entry[name] for name in names): entry.score for entry in found}
    assert len(mine) == len(found)
    for entry, score in mine.items():
        # Not among the expected ones only where the least of these scores nearly as much.
        assert score == pytest.approx(known.get(entry, expected[-1]["score"]), abs=5e-4), entry


def test_feature_extraction(client_of: Any, oracles: Oracles) -> None:
    client = client_of("minilm", "feature-extraction")
    one = client.feature_extraction(TEXTS[0])
    assert (one.shape, one.dtype) == ((1, 384), np.float32)
    assert_near(one, oracles.vectors("minilm", TEXTS[:1]))
    assert_near(client.feature_extraction(TEXTS), oracles.vectors("minilm", TEXTS))
    small = client.feature_extraction(TEXTS, dimensions=64)
    assert_near(small, oracles.vectors("minilm", TEXTS, truncate_dim=64))


def test_feature_extraction_with_prompts(client_of: Any, oracles: Oracles) -> None:
    client = client_of("prompts", "feature-extraction")
    assert_near(client.feature_extraction(TEXTS), oracles.vectors("prompts", TEXTS))
    raw = client.feature_extraction(TEXTS, normalize=False)
    assert_near(raw, oracles.vectors("prompts", TEXTS, normalize_embeddings=False))
    asked = client.feature_extraction(TEXTS, prompt_name="query")
    assert_near(asked, oracles.vectors("prompts", TEXTS, prompt_name="query"))
    with pytest.raises(BadRequestError, match="passage"):
        client.feature_extraction(TEXTS, prompt_name="nonsense")


def test_feature_extraction_cuts_on_either_side(client_of: Any, oracles: Oracles) -> None:
    client, tokenizer = client_of("prompts", "feature-extraction"), oracles.tokenizer("prompts")
    words = ["the"] + [word for word in LONG.split() if len(tokenizer.tokenize(word)) == 1]
    room = oracles.limit("prompts") - 2
    assert len(words) > room
    ends = {"right": " ".join(words[:room]), "left": " ".join(words[-room:])}
    assert ends["left"] != ends["right"]
    for direction, kept in ends.items():
        found = client.feature_extraction(" ".join(words), truncate=True, truncation_direction=direction)
        assert_near(found, oracles.vectors("prompts", [kept]))
    with pytest.raises(HfHubHTTPError, match="48") as caught:
        client.feature_extraction(LONG, truncate=False)
    assert caught.value.response.status_code == 422


def test_more_texts_than_other_servers_take(server: Server, oracles: Oracles) -> None:
    assert_near(InferenceClient(f"{server.url}/models/minilm").feature_extraction(MANY), oracles.many)


def test_sentence_similarity(client_of: Any, oracles: Oracles) -> None:
    found = client_of("minilm", "sentence-similarity").sentence_similarity(TEXTS[0], TEXTS)
    vectors = oracles.vectors("minilm", TEXTS)
    assert_near(found, vectors @ vectors[0])


@pytest.mark.parametrize("name", ["moods", "topics"])
def test_text_classification(client_of: Any, oracles: Oracles, name: str) -> None:
    client, oracle = client_of(name, "text-classification"), oracles.pipeline("text-classification", name)
    for text in TEXTS:
        expected = oracle(text, top_k=None, truncation=True)
        assert_labels(client.text_classification(text), expected, "label")
        for top_k in (1, 2, 10):
            assert_labels(client.text_classification(text, top_k=top_k), expected[:top_k], "label")
    for function in ("none", "sigmoid", "softmax"):
        found = client.text_classification(TEXTS[0], function_to_apply=function)
        assert_labels(found, oracle(TEXTS[0], top_k=None, function_to_apply=function), "label")


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification(client_of: Any, oracles: Oracles, strategy: str) -> None:
    client, oracle = client_of("entities", "token-classification"), oracles.pipeline("token-classification", "entities")
    names = ("entity" if strategy == "none" else "entity_group", "start", "end")
    for text in [NAMED, *TEXTS[:4]]:
        expected = oracle(text, aggregation_strategy=strategy)
        assert_labels(client.token_classification(text, aggregation_strategy=strategy), expected, *names)
        found = client.token_classification(text, aggregation_strategy=strategy, ignore_labels=["PER", "B-PER"])
        assert_labels(found, oracle(text, aggregation_strategy=strategy, ignore_labels=["PER", "B-PER"]), *names)


def test_token_classification_says_nothing_else(client_of: Any, oracles: Oracles) -> None:
    client, oracle = client_of("entities", "token-classification"), oracles.pipeline("token-classification", "entities")
    # As the client's documentation shows: groups.
    expected = oracle(NAMED, aggregation_strategy="simple")
    assert_labels(client.token_classification(NAMED), expected, "entity_group", "start", "end")
    spans = client.token_classification(LONG, stride=4)
    assert max(span.end for span in spans) > len(LONG) / 2
    assert all(LONG[span.start : span.end].lower().strip() for span in spans)


def test_words_are_pieces_of_the_text(server: Server) -> None:
    client = InferenceClient(f"{server.url}/models/entities")
    for strategy in ("none", "simple", "first"):
        found = client.token_classification(NAMED, aggregation_strategy=strategy)
        assert [span.word for span in found] == [NAMED[span.start : span.end] for span in found]


@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"hypothesis_template": "the fox is {}"}])
def test_zero_shot_classification(client_of: Any, oracles: Oracles, options: dict[str, Any]) -> None:
    labels = ["dog", "lazy fox", "over, again"]
    client, oracle = client_of("nli", "zero-shot-classification"), oracles.pipeline("zero-shot-classification", "nli")
    for text in SENTENCES[:3]:
        expected = oracle(text, labels, **options)
        pairs = zip(expected["labels"], expected["scores"], strict=True)
        found = client.zero_shot_classification(text, labels, **options)
        assert_labels(found, [{"label": label, "score": score} for label, score in pairs], "label")


def test_fill_mask(client_of: Any, oracles: Oracles) -> None:
    client, oracle = client_of("masks", "fill-mask"), oracles.pipeline("fill-mask", "masks")
    for options in ({}, {"top_k": 1}, {"top_k": 20}, {"targets": ["fox", "dog"]}, {"targets": ["dog"], "top_k": 3}):
        expected = oracle(MASKED, **options)
        assert_labels(client.fill_mask(MASKED, **options), expected, "token", "token_str", "sequence")
    two = "[MASK] quick [MASK]"
    for found, expected in zip(client.fill_mask(two, top_k=2), oracle(two, top_k=2), strict=True):
        assert_labels(found, expected, "token", "token_str", "sequence")
    with pytest.raises(HfHubHTTPError, match=r"\[MASK\]"):
        client.fill_mask("no mask at all")


def test_question_answering(client_of: Any, folders: dict[str, Any]) -> None:
    client, oracle = client_of("answers", "question-answering"), AnswerOracle(folders["answers"])
    question, context = "who jumps?", "The quick brown fox jumps over the lazy dog, Zwölf naïve cafe\u0301."

    def assert_answers(found: Any, expected: list[dict[str, Any]]) -> None:
        assert [entry.answer for entry in found] == [entry["answer"] for entry in expected]
        assert_near([entry.score for entry in found], [entry["score"] for entry in expected], 1e-3)
        for entry in found:
            assert context[entry.start : entry.end] == entry.answer

    (best,) = oracle.answers(question, context, top_k=1)
    assert_answers([client.question_answering(question, context)], [best])
    assert_answers([client.question_answering(question, context, top_k=1)], [best])
    three = client.question_answering(question, context, top_k=3)
    assert_answers(three, oracle.answers(question, context, top_k=3))
    for ours, theirs in (
        ({"align_to_words": False}, {"whole_words": False}),
        ({"max_answer_len": 2}, {"longest": 2}),
        ({"handle_impossible_answer": True}, {"impossible": True}),
        ({"max_seq_len": 24, "doc_stride": 4}, {"max_length": 24, "stride": 4}),
    ):
        found = client.question_answering(question, context, top_k=3, **ours)
        assert_answers(found, oracle.answers(question, context, top_k=3, **theirs))


def test_a_task_that_the_model_has_no_head_for(server: Server) -> None:
    with pytest.raises(HfHubHTTPError, match="masked lm|fill_mask|fill-mask") as caught:
        InferenceClient(model=f"{server.url}/models/minilm/pipeline/fill-mask").fill_mask(MASKED)
    assert caught.value.response.status_code == 424
    assert caught.value.request_id == caught.value.response.json()["request_id"]


def test_the_only_model_that_can_is_found_by_the_task(server: Server, oracles: Oracles) -> None:
    client = InferenceClient(model=f"{server.url}/pipeline/fill-mask")
    assert_labels(client.fill_mask(MASKED), oracles.pipeline("fill-mask", "masks")(MASKED), "token_str")
    several = InferenceClient(model=f"{server.url}/pipeline/text-classification")
    with pytest.raises(BadRequestError, match="moods"):
        several.text_classification("a")


def test_health_and_information(server: Server, alone: Any) -> None:
    for address, name in ((alone("moods").url, "moods"), (f"{server.url}/models/moods", "moods")):
        client = InferenceClient(model=address, provider="hf-inference")
        assert client.health_check() is True
        info = client.get_endpoint_info()
        assert (info["served_model_name"], info["max_input_length"]) == (name, 48)


def test_the_asynchronous_client(server: Server, oracles: Oracles) -> None:
    async def call() -> Any:
        async def ask(name: str, method: str, *arguments: Any) -> Any:
            async with AsyncInferenceClient(model=f"{server.url}/models/{name}") as client:
                return await getattr(client, method)(*arguments)

        return await asyncio.gather(
            ask("minilm", "feature_extraction", TEXTS),
            ask("moods", "text_classification", TEXTS[0]),
            ask("masks", "fill_mask", MASKED),
        )

    vectors, labels, fills = asyncio.run(call())
    assert_near(vectors, oracles.vectors("minilm", TEXTS))
    assert_labels(labels, oracles.pipeline("text-classification", "moods")(TEXTS[0], top_k=None), "label")
    assert_labels(fills, oracles.pipeline("fill-mask", "masks")(MASKED), "token_str")
