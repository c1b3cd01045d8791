"""The server's own routes, /tasks/...: all that an `Encoder` can be asked, as JSON and as NumPy's files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from checkpoints import LONG, TEXTS, Oracles
from routes import DOCUMENTS, QUERY, TEXT
from serving import Reply, Server
from test_answer import Oracle as AnswerOracle

NPY, NPZ = "application/x-npy", "application/x-npz"


def ask(server: Server, task: str, model: str, **options: Any) -> Any:
    """The results of an answer whose form is right."""
    answer = server.ask(f"/tasks/{task}", {"model": model, **options})
    assert set(answer) == {"model", "results", "usage", "truncated"}
    assert answer["model"] == model
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    return answer["results"]


def array(reply: Reply, kind: str) -> Any:
    assert (reply.status, reply.headers.get_content_type()) == (200, kind), reply.body
    return np.load(io.BytesIO(reply.body), allow_pickle=False)


def assert_near(found: Any, expected: Any, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_embed(server: Server, oracles: Oracles) -> None:
    expected = oracles.vectors("minilm", TEXTS)
    assert_near(ask(server, "embed", "minilm", texts=TEXTS), expected)
    assert_near(ask(server, "embed", "minilm", texts=TEXTS[0]), expected[:1])
    small = ask(server, "embed", "minilm", texts=TEXTS, dimensions=64)
    assert_near(small, oracles.vectors("minilm", TEXTS, truncate_dim=64))
    # Without more said, what the checkpoint says: no norm.
    plain = oracles.vectors("prompts", TEXTS, normalize_embeddings=False)
    assert_near(ask(server, "embed", "prompts", texts=TEXTS), plain)
    asked = ask(server, "embed", "prompts", texts=TEXTS, prompt_name="query", normalize=True)
    assert_near(asked, oracles.vectors("prompts", TEXTS, prompt_name="query"))
    packed = ask(server, "embed", "minilm", texts=TEXTS, precision="ubinary")
    from sentence_transformers.util import quantize_embeddings

    assert np.mean(np.array(packed) != quantize_embeddings(expected, precision="ubinary")) < 0.01


def test_embed_says_what_it_cut(server: Server, oracles: Oracles) -> None:
    body = {"model": "prompts", "texts": [TEXT, LONG, LONG]}
    answer = server.ask("/tasks/embed", body)
    tokens = oracles.tokens("prompts", body["texts"])
    assert answer["truncated"] == 2
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    reply = server.post("/tasks/embed", body, accept=NPY)
    assert_near(array(reply, NPY), answer["results"], 1e-6)
    assert array(reply, NPY).dtype == np.float32
    assert (reply.headers["x-usage-tokens"], reply.headers["x-truncated"]) == (str(tokens), "2")
    whole = server.ask("/tasks/embed", body | {"truncation": "window"})
    assert whole["truncated"] == 0
    assert whole["usage"]["total_tokens"] > tokens


def test_embed_sparse_and_tokens(server: Server, oracles: Oracles) -> None:
    tokenizer = oracles.tokenizer("masks")
    for text, sparse in zip(TEXTS[:3], ask(server, "embed", "masks", texts=TEXTS[:3], sparse=True), strict=True):
        (theirs,) = server.ask("/models/masks/embed_sparse", {"inputs": text})
        assert set(sparse) == {"ids", "weights", "terms"}
        weights = dict(zip(sparse["ids"], sparse["weights"], strict=True))
        assert weights == pytest.approx({term["index"]: term["value"] for term in theirs}, abs=1e-6)
        assert sparse["terms"] == tokenizer.convert_ids_to_tokens(sparse["ids"])
    body = {"model": "minilm", "texts": TEXTS, "tokens": True}
    expected = oracles.vectors("minilm", TEXTS, output_value="token_embeddings", normalize_embeddings=False)
    for mine, theirs in zip(server.ask("/tasks/embed", body)["results"], expected, strict=True):
        assert_near(mine, theirs)
    found = array(server.post("/tasks/embed", body, accept=NPZ), NPZ)
    assert found["starts"].shape == (len(TEXTS) + 1,)
    assert_near(found["vectors"], np.concatenate([rows.numpy() for rows in expected]))


def test_encode(server: Server, oracles: Oracles) -> None:
    import torch

    texts: list[Any] = [TEXTS[0], [TEXT, QUERY], ""]
    body = {"model": "moods", "texts": texts, "hidden_states": True, "attentions": True}
    found = array(server.post("/tasks/encode", body, accept=NPZ), NPZ)
    pipeline = oracles.pipeline("text-classification", "moods")
    network = pipeline.model.base_model
    network.set_attn_implementation("eager")
    starts = found["starts"]
    assert starts.shape == (4,)
    assert found["truncated"].tolist() == [0, 0, 0]
    for n, text in enumerate(texts):
        pair = text if isinstance(text, list) else [text]
        inputs = pipeline.tokenizer(*pair, return_tensors="pt", return_offsets_mapping=True)
        offsets, ids = inputs.pop("offset_mapping")[0].numpy(), inputs["input_ids"][0].numpy()
        with torch.inference_mode():
            output = network(**inputs, output_hidden_states=True, output_attentions=True)
        tokens = slice(starts[n], starts[n + 1])
        length = len(ids)
        assert_near(rows(found["last_hidden_state"], n, tokens, length), output.last_hidden_state[0].numpy(), 1e-3)
        assert_near(found["pooler_output"][n], output.pooler_output[0].numpy(), 1e-3)
        assert_near(rows(found["hidden_state_0"], n, tokens, length), output.hidden_states[0][0].numpy(), 1e-3)
        assert rows(found["input_ids"], n, tokens, length).tolist() == ids.tolist()
        assert found["offsets"][tokens].tolist() == offsets.tolist()
        assert found["tokens"][tokens].tolist() == pipeline.tokenizer.convert_ids_to_tokens(ids)
        assert_near(found["attention_0"][n][..., :length, :length], output.attentions[0][0].numpy(), 1e-3)


def rows(values: Any, n: int, tokens: slice, length: int) -> Any:
    """A text's rows, of an array of all tokens one after the other or of one padded text by text."""
    return values[n, :length] if len(values) == 3 and values.ndim > 1 else values[tokens]


def test_encode_has_no_json(server: Server) -> None:
    reply = server.post("/tasks/encode", {"model": "moods", "texts": [TEXT]})
    assert reply.status in (400, 406)
    assert NPZ in reply.json()["error"]


def test_similarity(server: Server, oracles: Oracles) -> None:
    expected = oracles.vectors("minilm", TEXTS) @ oracles.vectors("minilm", DOCUMENTS).T
    assert_near(ask(server, "similarity", "minilm", a=TEXTS, b=DOCUMENTS), expected)
    body = {"model": "minilm", "a": TEXTS, "b": DOCUMENTS}
    assert_near(array(server.post("/tasks/similarity", body, accept=NPY), NPY), expected)


def test_classify(server: Server, oracles: Oracles) -> None:
    oracle = oracles.pipeline("text-classification", "moods")
    texts: list[Any] = [TEXT, [TEXT, QUERY], ""]
    expected = [oracle(x if isinstance(x, str) else {"text": x[0], "text_pair": x[1]}, top_k=None) for x in texts]
    found = ask(server, "classify", "moods", texts=texts, top_k=None)
    for labels, others in zip(found, expected, strict=True):
        assert [list(label) for label in labels] == [["label", "score"]] * 4
        assert [label["label"] for label in labels] == [label["label"] for label in others]
        assert_near([label["score"] for label in labels], [label["score"] for label in others], 5e-4)
    assert [len(labels) for labels in ask(server, "classify", "moods", texts=texts)] == [1, 1, 1]


def test_tag(server: Server, oracles: Oracles) -> None:
    oracle = oracles.pipeline("token-classification", "entities")
    for strategy in ("none", "simple", "first", "average", "max"):
        found = ask(server, "tag", "entities", texts=TEXTS[:3], aggregation=strategy)
        for text, spans in zip(TEXTS, found, strict=False):
            expected = oracle(text, aggregation_strategy=strategy)
            assert all(list(span) == ["label", "score", "start", "end", "text"] for span in spans)
            assert all(text[span["start"] : span["end"]] == span["text"] for span in spans)
            label = "entity" if strategy == "none" else "entity_group"
            ours = [(span["label"], span["start"], span["end"]) for span in spans]
            assert ours == [(span[label], span["start"], span["end"]) for span in expected]
            assert_near([span["score"] for span in spans], [span["score"] for span in expected], 5e-4)
    words = ask(server, "tag", "entities", texts=[["the", "quick", "fox"]], ignore_labels=[], aggregation="first")
    assert words[0][0]["start"] == 0 and words[0][-1]["end"] == len("the quick fox")


def test_fill_mask(server: Server, oracles: Oracles) -> None:
    text = "the [MASK] brown [MASK]"
    (found,) = ask(server, "fill_mask", "masks", texts=text, top_k=3)
    expected = [fill for fills in oracles.pipeline("fill-mask", "masks")(text, top_k=3) for fill in fills]
    assert [set(fill) for fill in found] == [{"token", "score", "id", "mask", "text"}] * 6
    assert [fill["mask"] for fill in found] == [0, 0, 0, 1, 1, 1]
    assert [(fill["id"], fill["token"]) for fill in found] == [(fill["token"], fill["token_str"]) for fill in expected]
    assert_near([fill["score"] for fill in found], [fill["score"] for fill in expected], 5e-4)


def test_answer(server: Server, folders: dict[str, Any]) -> None:
    context = "The quick brown fox jumps over the lazy dog, Zwölf naïve."
    expected = AnswerOracle(folders["answers"]).answers(QUERY, context, top_k=3)
    found = ask(server, "answer", "answers", question=QUERY, context=context, top_k=3)
    best = found[0] if isinstance(found, list) else found
    answers = [best, *best["others"]]
    assert set(best) == {"text", "score", "start", "end", "others"}
    assert [answer["text"] for answer in answers] == [answer["answer"] for answer in expected]
    assert_near([answer["score"] for answer in answers], [answer["score"] for answer in expected], 1e-3)
    many = ask(server, "answer", "answers", question=[QUERY, "what?"], context=context)
    assert [answer["text"] for answer in many][0] == expected[0]["answer"]
    assert len(many) == 2


def test_rerank(server: Server, oracles: Oracles) -> None:
    found = ask(server, "rerank", "cross", query=QUERY, documents=DOCUMENTS, top_k=2)
    expected = oracles.ranks(QUERY, DOCUMENTS, top_k=2)
    assert [list(rank) for rank in found] == [["index", "score"]] * 2
    assert [rank["index"] for rank in found] == [rank["corpus_id"] for rank in expected]
    assert_near([rank["score"] for rank in found], [rank["score"] for rank in expected], 5e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot(server: Server, oracles: Oracles, multi_label: bool) -> None:
    texts, labels, template = TEXTS[:1] + TEXTS[2:4], ["dog", "fox", "over"], "the fox is {}"
    oracle = oracles.pipeline("zero-shot-classification", "nli")
    found = ask(server, "zero_shot", "nli", texts=texts, labels=labels, template=template, multi_label=multi_label)
    expected = oracle(texts, labels, hypothesis_template=template, multi_label=multi_label)
    for mine, theirs in zip(found, expected, strict=True):
        assert [label["label"] for label in mine] == theirs["labels"]
        assert_near([label["score"] for label in mine], theirs["scores"], 5e-4)


def test_tasks_of_every_model(server: Server, folders: dict[str, Any]) -> None:
    answer = server.get("/tasks").json()
    text = repr(answer)
    for name in folders:
        assert name in text
    for task in ("embed", "classify", "tag", "fill_mask", "answer", "rerank", "zero_shot"):
        assert task in text


def test_the_only_model_that_can_needs_no_name(server: Server) -> None:
    for task, body in (
        ("tag", {"texts": TEXT}),
        ("fill_mask", {"texts": "the [MASK]"}),
        ("answer", {"question": QUERY, "context": TEXT}),
        ("rerank", {"query": QUERY, "documents": DOCUMENTS}),
        ("zero_shot", {"texts": TEXT, "labels": ["a"]}),
    ):
        assert server.ask(f"/tasks/{task}", body)["model"] in ("entities", "masks", "answers", "cross", "nli")
    refused = server.post("/tasks/classify", {"texts": TEXT})
    assert refused.status == 400
    assert all(name in refused.json()["error"] for name in ("moods", "topics"))
