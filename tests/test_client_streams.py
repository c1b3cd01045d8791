"""Long calls and streams: pieces, their order, how far is read ahead, what is counted, and failures in their place."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from client_fake import FakeAsyncClient, FakeClient, Server, Way, both_ways, later  # noqa: F401

from bothways import InputError


def test_lists_are_sent_in_pieces_and_come_back_in_order(way: Way) -> None:
    server = Server()
    # The first pieces take longest.
    server.before = lambda body: time.sleep(0.05 if body["texts"][0] < "0500" else 0)
    texts = [f"{n:04}" for n in range(1000)]
    assert [labels[0].label for labels in way.ask(server, "classify", texts)] == texts
    assert sorted(len(body["texts"]) for body in server.bodies) == [232, 256, 256, 256]


def test_a_piece_holds_a_megabyte_of_text_and_one_text_may_be_longer(way: Way) -> None:
    server = Server()
    texts = ["é" * 200_000] * 5 + ["x" * 3_000_000, "y"]
    assert way.ask(server, "embed", texts)[:, 0].tolist() == [len(text) for text in texts]
    assert sorted(len(body["texts"]) for body in server.bodies) == [1, 1, 1, 2, 2]


def test_documents_keep_their_numbers_over_pieces(way: Way) -> None:
    texts = ["d" * (1 + n * 7 % 600) for n in range(600)]
    order = sorted(range(600), key=lambda n: (-len(texts[n]), n))
    for documents in (texts, iter(texts)):
        found = way.ask(Server(), "rerank", "q", documents, top_k=300)
        assert [one.index for one in found] == order[:300]
    assert [one.index for one in way.ask(Server(), "rerank", "q", texts)] == order
    assert way.ask(Server(), "rerank", "q", []) == []


def test_requests_with_labels_and_whole_vocabularies_are_smaller(way: Way) -> None:
    server = Server()
    way.ask(server, "zero_shot", ["t"] * 50, ["label"] * 40)
    assert [len(body["texts"]) for body in server.bodies] == [25, 25]
    way.ask(server, "fill_mask", ["t"] * 20, top_k=None)
    assert sorted(len(body["texts"]) for body in server.bodies[2:]) == [4, 8, 8]


def counted(count: int, taken: list[int]) -> Iterator[str]:
    for n in range(count):
        taken.append(n)
        yield f"text {n}"


def test_an_iterator_is_read_two_pieces_ahead_and_no_further() -> None:
    server, taken = Server(), list[int]()
    with FakeClient(server) as client:
        stream = client.classify(counted(10_000, taken))
        assert taken == []
        assert next(stream)[0].label == "text 0"
        assert len(taken) == 512
        for _ in range(255):
            next(stream)
        assert len(taken) == 512
        assert next(stream)[0].label == "text 256"
        assert len(taken) == 768
        stream.close()  # type: ignore[attr-defined]
    assert len(server.bodies) <= 3


def test_an_async_iterator_is_read_two_pieces_ahead_and_no_further() -> None:
    server, taken = Server(), list[int]()

    async def texts() -> AsyncIterator[str]:
        for text in counted(10_000, taken):
            yield text

    async def run() -> None:
        async with FakeAsyncClient(server) as client:
            stream = client.classify(texts())
            assert (await anext(stream))[0].label == "text 0"
            assert len(taken) == 512
            await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_no_more_requests_are_under_way_than_is_said(way: Way) -> None:
    server, lock = Server(), threading.Lock()
    now, most = 0, [0]

    def enter(body: Any) -> None:
        nonlocal now
        with lock:
            now += 1
            most.append(now)
        time.sleep(0.02)
        with lock:
            now -= 1

    server.before = enter
    way.ask(server, "classify", ["t"] * 256 * 8)
    assert max(most) <= 4
    assert way.name == "async" or max(most) > 1
    most.clear()
    way.ask(server, "classify", iter(["t"] * 256 * 8))
    assert max(most) <= 2


@pytest.mark.parametrize("many", [list, iter])
def test_progress_and_the_log_count_the_whole_call(many: Any, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    server, told = Server(), []
    server.truncated = 2
    way.ask(server, "classify", many(["t"] * 600), progress=lambda *numbers: told.append(numbers))
    assert told == [(256, 3, 2), (512, 6, 4), (600, 9, 6)]
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "bothways"):
        way.ask(server, "embed", many(["t"] * 600))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("6 of 600 texts were longer than the model takes and were cut; pass trunc")
    assert '"window"' in caplog.messages[0]


def test_texts_of_a_stream_are_numbered_over_pieces(way: Way) -> None:
    texts = ["t"] * 700
    texts[650] = "\udc00"
    with pytest.raises(InputError, match="text 650 has a lone surrogate"):
        way.ask(Server(), "classify", iter(texts))
    with pytest.raises(InputError, match="text 650 is 5; it must be a string"):
        way.ask(Server(), "embed", iter([*texts[:650], 5]))


def test_what_was_sent_before_a_stream_fails_still_comes() -> None:
    def failing() -> Iterator[str]:
        yield from ["t"] * 600
        raise KeyError("mine")

    got = []
    with pytest.raises(KeyError, match="mine"):
        for labels in FakeClient(Server()).classify(failing()):
            got.append(labels)
    assert len(got) == 512


def test_an_async_iterator_needs_the_async_client() -> None:
    for call in (
        lambda: FakeClient(Server()).classify(later(["a"])),  # type: ignore[call-overload]
        lambda: FakeClient(Server()).similarity(later(["a"]), "b"),
    ):
        with pytest.raises(InputError, match="an async iterator is for AsyncClient"):
            call()
    way = Way("async")
    assert [one[0].label for one in way.ask(Server(), "classify", later(["a", "b"]))] == ["a", "b"]
    assert way.ask(Server(), "similarity", later(["a"]), later(["bb"])).tolist() == [[2]]
    assert len(way.ask(Server(), "rerank", "q", later(["a"] * 300))) == 300


def test_one_async_client_serves_many_tasks_and_several_event_loops() -> None:
    client = FakeAsyncClient(Server())

    async def run() -> list[Any]:
        found = await asyncio.gather(*(client.embed(["a" * n]) for n in range(20)))
        await client._pools[asyncio.get_running_loop()].aclose()
        return [int(vectors[0, 0]) for vectors in found]

    assert asyncio.run(run()) == asyncio.run(run()) == list(range(20))
