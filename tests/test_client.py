"""Client and AsyncClient: what is sent for each task, what is made of replies, how calls are parted.

Every test that takes `way` runs with both.
"""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import Any

import httpx2
import numpy as np
import pytest
from client_fake import FakeAsyncClient, FakeClient, Server, Way, both_ways, later, npz  # noqa: F401

from bothways import Answer, Encoder, Fill, InputError, Label, ModelNotFound, Ranked, ServerError, Span
from bothways.client import AsyncClient, Client, RemoteEncoded
from bothways.precision import quantize
from bothways.tasks.encode import Encoded

METHODS = ("encode", "embed", "similarity", "classify", "tag", "fill_mask", "answer", "rerank", "zero_shot")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_methods_are_called_as_those_of_encoder(client: type, method: str) -> None:
    ours, theirs = (inspect.signature(getattr(kind, method)).parameters for kind in (client, Encoder))
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name
        assert name in ("self", "a", "b") or f"{name}:" in getattr(client, method).__doc__
    assert "target:" not in getattr(client, method).__doc__


def test_every_task_is_sent_and_read(way: Way) -> None:
    server = Server()
    label, span = Label("['a', 'b']", 0.5), Span("X", 0.5, 1, 2, "('New', 'York')".replace("(", "[").replace(")", "]"))
    assert way.ask(server, "classify", [("a", "b")], top_k=None) == [[label]]
    assert way.ask(server, "classify", ("a", "b")) == [[label]]
    assert way.ask(server, "tag", [("New", "York")], stride=0, ignore_labels={"O", "A"}) == [[span]]
    assert way.ask(server, "fill_mask", "a [MASK]", targets="b") == [[Fill("a", 0.5, 7, 0, "a [MASK]")]]
    assert way.ask(server, "zero_shot", "t", "x, y", multi_label=np.bool_(True)) == [[Label("t", 0.5)]]
    assert way.ask(server, "rerank", "q", ["a", "ccc", "bb"], top_k=np.int64(2)) == [Ranked(1, 3.0), Ranked(2, 2.0)]
    assert server.bodies == [
        {"model": None, "texts": [["a", "b"]], "top_k": None, "function": None, "truncation": True, "max_length": None},
        {"model": None, "texts": [["a", "b"]], "top_k": 1, "function": None, "truncation": True, "max_length": None},
        {
            "model": None,
            "texts": [["New", "York"]],
            "aggregation": "simple",
            "stride": 0,
            "ignore_labels": ["A", "O"],
            "truncation": "window",
            "max_length": None,
        },
        {
            "model": None,
            "texts": ["a [MASK]"],
            "top_k": 5,
            "targets": ["b"],
            "truncation": True,
            "max_length": None,
        },
        {
            "model": None,
            "texts": ["t"],
            "labels": ["x", "y"],
            "template": "This example is {}.",
            "multi_label": True,
            "truncation": True,
            "max_length": None,
        },
        {
            "model": None,
            "documents": ["a", "ccc", "bb"],
            "query": "q",
            "top_k": 2,
            "raw_scores": False,
            "truncation": True,
            "max_length": None,
        },
    ]


def test_answers_come_alone_or_many(way: Way) -> None:
    server = Server()
    other = (Answer("o", 0.1, 0, 1),)
    assert way.ask(server, "answer", "q", "c") == Answer("qc", 0.5, 0, 1, other)
    assert [a.text for a in way.ask(server, "answer", ["q", "r"], "c")] == ["qc", "rc"]
    assert [a.text for a in way.ask(server, "answer", "q", ["c"])] == ["qc"]
    assert [a.text for a in way.ask(server, "answer", iter(["q", "r"]), ["c", "d"])] == ["qc", "rd"]
    # What goes with many is sent once.
    assert [(body["question"], body["context"]) for body in server.bodies] == [
        (["q"], ["c"]),
        (["q", "r"], "c"),
        ("q", ["c"]),
        (["q", "r"], ["c", "d"]),
    ]
    with pytest.raises(InputError, match="2 questions and 1 contexts"):
        way.ask(server, "answer", ["q", "r"], ["c"])


def test_answers_of_async_iterators() -> None:
    way, server = Way("async"), Server()
    assert [a.text for a in way.ask(server, "answer", later(["q", "r"]), "c")] == ["qc", "rc"]
    assert [a.text for a in way.ask(server, "answer", "q", later(["c", "d"]))] == ["qc", "qd"]
    assert [a.text for a in way.ask(server, "answer", later(["q", "r"]), iter(["c", "d"]))] == ["qc", "rd"]
    for question, context, error in (
        (later(["q"]), ["c", "d"], "more contexts than questions"),
        (later(["q", "r"]), later(["c"]), "question 1 has no context"),
        (later(["q", 5]), "c", "question 1 is 5; it must be a string"),
        (later(["q"]), 5, "context is 5; pass a string"),
    ):
        with pytest.raises(InputError, match=error):
            way.ask(server, "answer", question, context)


def test_embeddings_are_arrays_of_their_kind(way: Way) -> None:
    server = Server()
    texts = ["abc", "x", ""]
    dense = way.ask(server, "embed", texts)
    assert dense.dtype == np.float32
    assert dense.tolist() == [[3, 97], [1, 120], [0, 0]]
    assert way.ask(server, "embed", "abc").shape == (1, 2)
    assert way.ask(server, "embed", []).shape == (0, 2)
    assert [row.tolist() for row in way.ask(server, "embed", iter(texts))] == dense.tolist()
    assert server.requests[0].headers["accept"] == "application/x-npy"
    sparse = way.ask(server, "embed", ["abc"], sparse=True)
    assert (sparse[0].ids.tolist(), sparse[0].weights.tolist(), sparse[0].terms) == ([3, 1], [2.0, 0.5], ("abc", "x"))
    tokens = way.ask(server, "embed", texts, tokens=True)
    assert [rows.tolist() for rows in tokens] == [[[97], [98], [99]], [[120]], []]
    small = way.ask(server, "embed", texts, precision="int8", ranges=np.array([[0, 0], [9, 9.5]]))
    assert small.dtype == np.int8
    assert server.bodies[-1]["ranges"] == [[0.0, 0.0], [9.0, 9.5]]


def test_ranges_are_those_of_all_texts_not_of_a_request(way: Way) -> None:
    texts = ["a" * n for n in range(600)]
    vectors = way.ask(Server(), "embed", texts)
    server = Server()
    found = way.ask(server, "embed", texts, precision="uint8")
    np.testing.assert_array_equal(found, quantize(vectors, "uint8"))
    assert {body["precision"] for body in server.bodies} == {"float32"}
    with pytest.raises(InputError, match="which a stream does not have"):
        way.ask(server, "embed", iter(texts), precision="int8")


def encoded(texts: list[str]) -> dict[str, Any]:
    """What a server sends for texts of a token a letter, two hidden layers, one head, and padding 1."""
    longest = max(map(len, texts), default=0)
    shape = (len(texts), longest)
    mask = np.array([[n < len(text) for n in range(longest)] for text in texts], np.int64).reshape(shape)
    ids = np.array([[ord(letter) for letter in text.ljust(longest, "\1")] for text in texts], np.int64).reshape(shape)
    hidden = (mask * ids)[..., None].repeat(3, -1).astype(np.float32)
    offsets = [(n, n + 1) for text in texts for n in range(len(text))]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "last_hidden_state": hidden,
        "pooler_output": hidden.sum(1),
        "offsets": np.array(offsets, np.int64).reshape(-1, 2),
        "starts": np.cumsum([0, *map(len, texts)]),
        "truncated": np.array([len(text) % 2 for text in texts]),
        "tokens": np.array(list("".join(texts)), np.str_),
        "hidden_state_0": hidden,
        "hidden_state_1": 2 * hidden,
        "attention_0": (mask[:, None, :, None] * mask[:, None, None, :]).astype(np.float32),
    }


class Encoding(Server):
    def encode(self, body: dict[str, Any]) -> httpx2.Response:
        return npz(encoded(body["texts"]))


def test_encode_gives_what_encoder_does(way: Way) -> None:
    server = Encoding()
    # As many texts as take several requests, each of texts of another length.
    texts = ["a" * (1 + n // 64) for n in range(150)]
    found = way.ask(server, "encode", texts)
    assert len(server.bodies) == 3
    whole = encoded(texts)
    for name in ("input_ids", "attention_mask", "last_hidden_state", "pooler_output"):
        np.testing.assert_array_equal(getattr(found, name)[128:], whole[name][128:])
        assert getattr(found, name).shape == whole[name].shape
        assert getattr(found, name).dtype == whole[name].dtype
    assert found.tokens == [list(text) for text in texts]
    assert [offsets.tolist() for offsets in found.offsets[63:65]] == [[[0, 1]], [[0, 1], [1, 2]]]
    assert found.truncated == [len(text) % 2 for text in texts]
    assert [state.shape for state in found.hidden_states] == [(150, 3, 3)] * 2
    assert [layer.shape for layer in found.attentions] == [(150, 1, 3, 3)]
    assert repr(found) == "RemoteEncoded(150 texts, 258 tokens, hidden size 3)"
    each = way.ask(server, "encode", iter(texts), attentions=True)
    assert [one.input_ids.tolist() for one in each] == [[[97] * len(text)] for text in texts]
    assert each[-1].attentions[0].shape == (1, 1, 3, 3)
    padded = way.ask(server, "encode", ["ab", "a"]).input_ids
    assert padded.tolist() == [[97, 98], [97, 1]]
    empty = way.ask(server, "encode", [])
    assert (empty.last_hidden_state.shape, empty.pooler_output.shape) == ((0, 0, 3), (0, 3))


def test_an_encoded_result_has_the_attributes_of_encoders() -> None:
    public = {name for name in vars(Encoded) if not name.startswith("_")} - {"spec"}
    assert public - set(vars(RemoteEncoded)) == set()


def test_similarity_is_the_servers_while_it_fits(way: Way) -> None:
    server = Server()
    assert way.ask(server, "similarity", iter(["a", "bb"]), "ccc").tolist() == [[3], [6]]
    assert [request.url.path for request in server.requests] == ["/tasks/similarity"]
    with pytest.raises(InputError, match="a: text 1 is 5; pass all texts or all vectors"):
        way.ask(server, "similarity", ["a", 5], "b")


def test_more_texts_and_vectors_are_compared_here_by_the_models_measure(way: Way) -> None:
    server = Server()
    texts = ["a" * n for n in range(1, 301)]
    found = way.ask(server, "similarity", texts, "aaa", client={"model": "mini"})
    vectors = np.array([[len(text), 97] for text in texts], np.float32)
    expected = vectors @ [3, 97] / np.linalg.norm(vectors, axis=1) / np.linalg.norm([3, 97])
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    assert sum(len(body.get("texts", ())) for body in server.bodies) == 301
    np.testing.assert_allclose(
        way.ask(server, "similarity", vectors, [3.0, 97.0], client={"model": "mini"}), found, atol=1e-6
    )
    with pytest.raises(ModelNotFound, match="no model 'other' at http://fake:8080; use mini, tagger"):
        way.ask(server, "similarity", vectors, vectors, client={"model": "other"})


def test_models_and_tasks(way: Way) -> None:
    mini, tagger = way.ask(Server(), "models")
    assert (mini.name, mini.tasks, mini.max_tokens) == ("mini", ("encode", "embed"), 512)
    assert (tagger.max_tokens, tagger.labels) == (None, {"token_classification": ("O", "B-X")})
    assert FakeClient(Server()).tasks == ("encode", "embed", "tag")
    assert FakeClient(Server(), model="tagger").tasks == ("encode", "tag")

    async def tasks() -> Any:
        return await FakeAsyncClient(Server(), model="mini").tasks

    assert asyncio.run(tasks()) == ("encode", "embed")


@pytest.mark.parametrize(
    ("method", "args", "options", "error"),
    [
        ("classify", (5,), {}, "texts is 5; pass a string"),
        ("classify", (["a", 5],), {}, "text 1 is 5"),
        ("classify", ("a",), {"top_k": 0}, "top_k is 0"),
        ("classify", ("a",), {"function": "tanh"}, "function is 'tanh'; use softmax"),
        ("tag", ("a",), {"aggregation": "x"}, "aggregation is 'x'; use none"),
        ("embed", ("a",), {"sparse": True, "tokens": True}, "two kinds of embedding"),
        ("embed", ("a",), {"precision": "x"}, "precision 'x' is unknown"),
        ("embed", ("a",), {"prompt": 5}, "prompt is 5; it must be a string"),
        ("embed", ("a",), {"ranges": [[1, np.nan], [2, 3]]}, "not finite"),
        ("embed", ("a",), {"ranges": [1, 2]}, r"the shape \(2,\); it must be \(2, D\)"),
        ("embed", ("a",), {"truncation": "no"}, "truncation is 'no'"),
        ("zero_shot", ("a", []), {}, "at least one label"),
        ("zero_shot", ("a", "b"), {"template": "no place"}, "template is 'no place'"),
        ("rerank", (5, ["a"]), {}, "query is 5"),
        ("similarity", ({}, "a"), {}, "a mixes texts, vectors"),
        ("embed", (["a", "b\ud800"],), {}, r"text 1 has a lone surrogate U\+D800, which no encoding can carry"),
        ("rerank", ("\udfff", ["b"]), {}, r"an option has a lone surrogate U\+DFFF"),
        ("answer", (["q", 5], "c"), {}, "question 1 is 5"),
        ("similarity", ("a", ["b", "\udc00"]), {}, r"a text has a lone surrogate U\+DC00"),
    ],
)
def test_what_is_wrong_in_any_case_is_not_sent(way: Way, method: str, args: Any, options: Any, error: str) -> None:
    server = Server()
    with pytest.raises(InputError, match=error):
        way.ask(server, method, *args, **options)
    assert [request for request in server.requests if request.method == "POST"] == []


def test_a_reply_of_another_shape_is_an_error_that_says_so(way: Way) -> None:
    def short(request: httpx2.Request) -> httpx2.Response:
        return Server().results([])

    with pytest.raises(ServerError, match="it holds 0 results where 2 are due; give the address .* request "):
        way.ask(short, "classify", ["a", "b"])
    with pytest.raises(ServerError, match="application/x-npy was asked for"):
        way.ask(short, "embed", ["a", "b"])


def test_without_httpx2_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['httpx2'] = None\nimport bothways.client"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert 'pip install "bothways[client]"' in run.stderr.splitlines()[-1]
